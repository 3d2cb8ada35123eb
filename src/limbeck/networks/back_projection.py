"""Classical super-resolution by iteration: the result, made small again, must be what was given."""

from __future__ import annotations

from typing import Literal, final, get_args

from torch import Tensor

from limbeck.networks.building import check_choice, check_sizes
from limbeck.networks.roles import Restorer
from limbeck.resampling import Kernel, resize


@final
class BackProjection(Restorer):
    """Iterative back-projection (Irani and Peleg 1991, equation 2) with one image.

    From the interpolated image x on, what is missing of the given image y is interpolated and added:
    x ← x + up(y - down(x)), where down is the antialiased resizing that made y. Without parameters, and differentiable.

    Args:
        scale: How many times larger images become.
        channels: Channels C of the image.
        iterations: How often the difference is projected back.
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
        check_choice(self, get_args(Kernel), kernel=kernel)
        self.scale, self.channels, self.inputs = scale, channels, channels
        self.iterations, self.kernel = iterations, kernel

    def forward(self, image: Tensor) -> Tensor:
        """Return images (N, C, scale H, scale W) in [-1, 1] of images (N, C, H, W) in [-1, 1]."""
        height, width = image.shape[2:]
        large = (self.scale * height, self.scale * width)
        found = resize(image, large, self.kernel)
        for _ in range(self.iterations):
            missing = image - resize(found, (height, width), self.kernel)
            found = found + resize(missing, large, self.kernel)
        return found.clamp(-1, 1)
