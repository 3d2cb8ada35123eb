"""Colour transfer by histograms: every channel gets the values of the style, in the order of its own."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from limbeck.networks.roles import Stylizer, style_images


@final
class HistogramMatching(Stylizer):
    """The value of rank q among an image's is replaced by the style's quantile q (Gonzalez & Woods, section 3.3.2).

    Channels are matched one by one, so colours that never come together in the style can come up. It has no parameters,
    and passes no gradient to the order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.styles = 0

    def forward(self, image: Tensor, style: Tensor | None = None) -> Tensor:
        """Return images (N, 3, H, W) in [-1, 1] whose channels have the histograms of `style` (N, 3, h, w)."""
        style = style_images(self, image, style)
        flat, goal = image.flatten(2), style.flatten(2).sort(2).values
        count = flat.shape[2]
        rank = flat.argsort(dim=2, stable=True).argsort(dim=2)
        place = (rank + 0.5) / count * goal.shape[2] - 0.5
        low = place.floor().clamp(0, goal.shape[2] - 1).long()
        high = (low + 1).clamp(max=goal.shape[2] - 1)
        part = (place - low).clamp(0, 1).to(goal)
        found = torch.lerp(goal.gather(2, low), goal.gather(2, high), part)
        return found.view_as(image)
