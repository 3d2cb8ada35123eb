"""PatchGAN (Isola et al. 2017, arXiv:1611.07004, section 3.2.2): a score for each patch of an image."""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.blocks.conditional import LabelProjection
from limbeck.networks.roles import Discriminator


@final
class PatchDiscriminator(Discriminator):
    """4x4 convolutions with leaky ReLU, some of stride 2: each score sees a patch, and all patches count alike.

    There is no normalisation, so samples are independent. blocks.0 (width) to blocks.{halvings} are tap paths. Images
    may have any size; it states one.

    Args:
        width: Channels of the first layer, doubled with every halving up to eight times.
        channels: Channels C of the image.
        size: Height and width of the image, at least 4 times 2^halvings.
        classes: Number of classes K; 0 is unconditional.
        halvings: Layers of stride 2: with 1, 2 or 3 a score sees 16, 34 or 70 pixels.
        condition: Channels of the image that it is shown before the one it judges (Isola et al. 2017, eq. 1); null:
            it is shown none.

    Raises:
        RecipeError: A size cannot be used.
    """

    def __init__(
        self,
        width: int = 32,
        channels: int = 1,
        size: int = 32,
        classes: int = 0,
        *,
        halvings: int = 2,
        condition: int | None = None,
    ) -> None:
        super().__init__()
        seen = {} if condition is None else {"condition": condition}
        check_sizes(self, width=width, channels=channels, size=size, halvings=halvings, **seen)
        check_sizes(self, at_least=0, classes=classes)
        if size < 4 << halvings:
            raise RecipeError(
                f"{type(self).__name__}.size: expected at least {4 << halvings} for {halvings} halvings, found {size}"
            )
        self.image_shape, self.classes, self.condition = (channels, size, size), classes, condition
        counts = [channels + (condition or 0)] + [width * min(1 << stage, 8) for stage in range(halvings + 1)]
        self.blocks = nn.ModuleList(
            nn.Conv2d(counts[i], counts[i + 1], 4, stride=2 if i < halvings else 1, padding=1)
            for i in range(halvings + 1)
        )
        self.score = nn.Conv2d(counts[-1], 1, 4, padding=1)
        self.projection = LabelProjection(counts[-1], classes) if classes else None

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scores (N, h, w) of images (N, C, H, W), with a condition (N, condition + C, H, W).

        `label` (N,) is unused without classes.
        """
        hidden = image
        for block in self.blocks:
            hidden = F.leaky_relu(block(hidden), 0.2)
        score: Tensor = self.score(hidden)[:, 0]
        if self.projection is not None:
            score = score + self.projection(hidden.sum((2, 3)), label)[:, None, None]
        return score
