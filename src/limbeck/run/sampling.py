"""What a trained arm makes, for others to learn from."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.ground.arrays import write_arrays
from limbeck.run.arm import Arm
from limbeck.tasks.generation import Generation


def write_pairs(arm: Arm, count: int, seed: int, file: Path) -> None:
    """Write latents and the images that the arm makes of them, as `data.pairs.LatentPairs` reads them.

    Args:
        arm: A trained generator.
        count: Number of pairs.
        seed: Draws the latents.
        file: A .safetensors file, with `latent` (N, ...) float32, `image` (N, C, H, W) uint8 and, if the task is
            conditional, `label` (N,).

    Raises:
        RecipeError: There is nothing to sample.
        DataError: The file could not be written.
    """
    task, setting = arm.setting.task, arm.setting
    if count < 1:
        raise RecipeError(f"--pairs: expected a whole number of at least 1, found {count}")
    if file.suffix != ".safetensors":
        raise RecipeError(f"--to: expected a file that ends in .safetensors for --pairs, found {file}")
    if not isinstance(task, Generation):
        raise RecipeError(f"--pairs: expected the task Generation, found {type(task).__name__}")
    parts: dict[str, list[Tensor]] = {}
    for batch in task.samples_of(arm.network().to(setting.device), setting.data, count, seed):
        assert batch.image is not None
        image = ((batch.image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        for name, tensor in (("latent", batch.latent), ("image", image), ("label", batch.label)):
            if tensor is not None:
                parts.setdefault(name, []).append(tensor)
    write_arrays(file, {name: torch.cat(some) for name, some in parts.items()})
