"""Classical super-resolution in space: interpolation between pixels."""

from __future__ import annotations

from typing import Literal, final, get_args

import torch.nn.functional as F
from torch import Tensor

from limbeck.networks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer
from limbeck.resampling import Kernel, resize


@final
class Interpolation(Restorer):
    """Interpolates between the centres of pixels; borders are mirrored. Without parameters, and differentiable.

    "cubic" is the convolution kernel of Keys 1981 with a = -1/2 as MATLAB's `imresize` has it, the baseline that the
    field calls bicubic; "lanczos3" is a sinc that a wider sinc ends after three pixels (Duchon 1979, section 3).

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        kernel: "nearest", "linear" (bilinear), "cubic" (bicubic) or "lanczos3".

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self, scale: int = 4, channels: int = 3, kernel: Literal["nearest", "linear", "cubic", "lanczos3"] = "cubic"
    ) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels)
        check_choice(self, ("nearest", *get_args(Kernel)), kernel=kernel)
        self.scale, self.channels, self.inputs = scale, channels, channels
        self.kernel = kernel

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        if self.kernel == "nearest":
            return F.interpolate(image, scale_factor=self.scale, mode="nearest")
        height, width = image.shape[2:]
        return resize(image, (self.scale * height, self.scale * width), self.kernel).clamp(-1, 1)
