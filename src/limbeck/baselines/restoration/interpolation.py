"""Enlarging images by interpolation: the classical baseline of super-resolution."""

from __future__ import annotations

from typing import Literal, final

import torch.nn.functional as F
from torch import Tensor

from limbeck.ground.resampling import KERNELS, resize
from limbeck.networks.blocks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer


@final
class Interpolation(Restorer):
    """Nearest, bilinear, bicubic or Lanczos interpolation, as MATLAB's `imresize` has them. It has no parameters.

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        kernel: "nearest", "linear", "cubic" (Keys 1981, a = -1/2) or "lanczos3".

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self, scale: int = 4, channels: int = 3, kernel: Literal["nearest", "linear", "cubic", "lanczos3"] = "cubic"
    ) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        check_choice(self, ("nearest", *KERNELS), kernel=kernel)
        self.channels = self.inputs = channels
        self.scale, self.kernel = scale, kernel

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        if self.kernel == "nearest":
            return F.interpolate(image, scale_factor=self.scale)
        size = (image.shape[2] * self.scale, image.shape[3] * self.scale)
        return resize(image, size, self.kernel).clamp(-1, 1)
