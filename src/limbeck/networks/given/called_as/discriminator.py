"""Somebody else's discriminator."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.given.called_as.base import LooksAtImages, name_of


@final
class AsDiscriminator(LooksAtImages):
    """Images in, one score for each out; with classes it is called with (image, label). See `roles.Discriminator`."""

    role = "discriminator"

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return scores (N,) of images (N, C, H, W) in [-1, 1]."""
        labels = (label,) if label is not None and self.classes else ()
        score = self.tensor(module, self.look(module, value, *labels))
        if score.numel() != len(value):
            raise RecipeError(
                f"{name_of(module)}: expected one score an image, found an output of {tuple(score.shape)}"
            )
        return score.flatten()
