"""Several stylizers of one style each as one that knows them all: a teacher of a student of several styles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.networks.given.weights import load_weights
from limbeck.networks.roles import Stylizer, stated


@final
class StylizerPerStyle(Stylizer):
    """Sends every image to the member of its style, and to no other one.

    A student of several styles learns what its members paint. It cannot follow their features: no layer of a member
    sees all images.

    Args:
        members: Stylizers of one style each, in the order of the styles. One that does not state its `styles`, such as
            somebody's own, is taken for one.
        weights: A file of weights for each of them, or null, in their order; null takes all as they are.

    Raises:
        RecipeError: No members, one that knows several styles or takes a picture, or another number of files.
        WeightsError: A file does not fit its member.
    """

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[str | None] | None = None) -> None:
        super().__init__()
        owner = type(self).__name__
        require(f"{owner}.members", len(members) > 0, "at least one stylizer", list(members), ", one for each style")
        for number, member in enumerate(members):
            known: int = stated(member, "styles", 1)
            found = "one that takes its style as a picture" if known == 0 else f"one of {known} styles"
            if known != 1:
                name = type(member).__name__
                raise RecipeError(f"{owner}.members.{number}: expected a stylizer of one style, found {name}, {found}")
        files = [None] * len(members) if weights is None else weights
        matched = len(files) == len(members)
        require(f"{owner}.weights", matched, f"{len(members)} files, one a member (or null)", len(files))
        self.styles = len(members)
        self.members = nn.ModuleList(members)
        for member, file in zip(members, files, strict=True):
            if file is not None:
                load_weights(member, file)

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return stylized images (N, 3, H, W) in [-1, 1] of images (N, 3, H, W), N at least 1.

        Raises:
            RecipeError: There are several styles, and `style` (N,) does not say which of them for every image.
        """
        if style is None:
            if self.styles > 1:
                raise RecipeError(f"StylizerPerStyle: expected which of its {self.styles} styles, found none")
            style = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        if style.shape != image.shape[:1] or not bool(((style >= 0) & (style < self.styles)).all()):
            expected = f"{len(image)} numbers of styles from 0 to {self.styles - 1}"
            found = style.tolist() if style.ndim < 2 else f"a tensor {tuple(style.shape)}"
            raise RecipeError(f"StylizerPerStyle: expected {expected}, found {found}")
        order = style.argsort(stable=True)
        parts = torch.split(image[order], style.bincount(minlength=self.styles).tolist())
        painted = torch.cat([member(part) for member, part in zip(self.members, parts, strict=True) if len(part)])
        if self.training:  # the weights of who has no image here get a gradient of 0: processes average equal lists
            painted = painted + 0 * sum(weight.sum() for weight in self.parameters())
        return painted[order.argsort()]
