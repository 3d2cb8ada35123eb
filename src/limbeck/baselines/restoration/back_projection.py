"""Iterative back-projection: an enlarged image is corrected until, made small again, it is the image given."""

from __future__ import annotations

from typing import Literal, final

from torch import Tensor

from limbeck.ground.resampling import KERNELS, resize
from limbeck.networks.blocks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer


@final
class BackProjection(Restorer):
    """x ← x + up(y - down(x)), from x = up(y) on (Irani & Peleg 1991, eq. 4, of one image); it has no parameters.

    `down` is the antialiased `resize` that the images were made small with. What it takes away for good is not brought
    back, but what is left of the details is made as strong as it was.

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        iterations: How often the image is corrected.
        kernel: Of both directions: "linear", "cubic" or "lanczos3".

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        scale: int = 4,
        channels: int = 3,
        *,
        iterations: int = 10,
        kernel: Literal["linear", "cubic", "lanczos3"] = "cubic",
    ) -> None:
        super().__init__()
        check_sizes(self, scale=scale, channels=channels, iterations=iterations)
        check_choice(self, tuple(KERNELS), kernel=kernel)
        self.channels = self.inputs = channels
        self.scale, self.iterations, self.kernel = scale, iterations, kernel

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        small = (image.shape[2], image.shape[3])
        large = (small[0] * self.scale, small[1] * self.scale)
        found = resize(image, large, self.kernel)
        for _ in range(self.iterations):
            found = found + resize(image - resize(found, small, self.kernel), large, self.kernel)
        return found.clamp(-1, 1)
