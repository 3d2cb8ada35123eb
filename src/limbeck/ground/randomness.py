"""Every random number comes from (seed, ...what it is for), so nothing has to be remembered to resume."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*key: int | str) -> int:
    """Return a 63-bit seed that depends on every part of `key` and their order."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `key`, e.g. `generator(seed, step, "latent")`."""
    return torch.Generator().manual_seed(seed_of(*key))
