"""The degradation of super-resolution: fewer pixels."""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor

from limbeck.data.base import Degradation, to_levels
from limbeck.errors import RecipeError
from limbeck.ground.resampling import resize


@final
class Downscale(Degradation):
    """Makes images smaller as MATLAB's `imresize` does with images of 8 bits: rounded to 256 levels after each side.

    Bicubic, this is what the field calls BI, by which super-resolution is compared.

    Args:
        scale: How many times smaller, at least 2.
        kernel: "cubic", "linear" or "lanczos3"; all antialiased.

    Raises:
        RecipeError: `scale` is below 2.
    """

    main_metric = "psnr_y"

    def __init__(self, scale: int = 4, kernel: Literal["linear", "cubic", "lanczos3"] = "cubic") -> None:
        if scale < 2:
            raise RecipeError(f"Downscale.scale: expected a whole number of at least 2, found {scale}")
        self.scale, self.kernel = scale, kernel

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Return images (N, C, H / scale, W / scale); nothing is drawn."""
        height, width = image.shape[2] // self.scale, image.shape[3] // self.scale
        rows = to_levels(resize(image, (height, image.shape[3]), self.kernel))
        return to_levels(resize(rows, (height, width), self.kernel))
