"""Attacks on latents: where the change has to stay plausible under the prior."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.attacks.base import per_sample


def on_shell(latent: Tensor, start: Tensor) -> Tensor:
    """Return latents (N, ...) at the lengths that `start` (N, ...) has, their directions as they are.

    A standard normal prior of D dimensions lives near the sphere of radius √D. A latent that an attack makes longer or
    shorter is one that the generator never meets; at its old length it is as likely as it was. Differentiable.
    """
    length, old = (torch.linalg.vector_norm(t.flatten(1), dim=1) for t in (latent, start))
    return latent * per_sample(old / length.clamp(min=1e-12), latent)
