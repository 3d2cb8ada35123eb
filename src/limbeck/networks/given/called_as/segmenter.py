"""Somebody else's segmenter."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.given.called_as.base import logits_of, name_of
from limbeck.networks.given.called_as.logits import GivesLogits


@final
class AsSegmenter(GivesLogits):
    """Images in, logits of every pixel out, resized bilinearly to the images. See `roles.Segmenter`."""

    role = "segmenter"

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return logits (N, K, H, W) of images (N, C, H, W) in [-1, 1]."""
        logits = self.tensor(module, logits_of(self.look(module, value)))
        known = f"(N, {self.classes}, h, w)" if self.classes else "(N, K, h, w)"
        if logits.ndim != 4 or len(logits) != len(value) or (self.classes and logits.shape[1] != self.classes):
            raise RecipeError(
                f"{name_of(module)}: expected logits of pixels {known}, found an output of {tuple(logits.shape)}"
            )
        if logits.shape[2:] != value.shape[2:]:
            logits = F.interpolate(logits, value.shape[2:], mode="bilinear", align_corners=False)
        return self.logits(module, logits)
