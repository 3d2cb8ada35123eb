"""Exemplar-based inpainting (Criminisi et al. 2004): holes are filled with patches from elsewhere in the image."""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.roles import Restorer


@final
class PatchInpainting(Restorer):
    """The patch of the highest priority on the border of the hole is filled first, from the known patch most like it.

    Priority is confidence times data (their eq. 1): how much around is known, and how strong an edge runs into the
    hole. Where no patch is wholly known, the mean of what is known fills the rest. It has no parameters, and passes no
    gradient.

    Args:
        channels: Channels C of the image; it takes C + 1, the last of them 1 in the holes and -1 elsewhere.
        patch: Side of a patch, odd; 9 in the paper.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(self, channels: int = 3, patch: int = 9) -> None:
        super().__init__()
        check_sizes(self, channels=channels, patch=patch)
        if patch % 2 == 0:
            raise RecipeError(f"PatchInpainting.patch: expected an odd number of at least 3, found {patch}")
        self.channels, self.inputs, self.scale = channels, channels + 1, 1
        self.patch = patch

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Return filled images (N, C, H, W) in [-1, 1] of images with holes (N, C + 1, H, W)."""
        return torch.stack([self._filled(one[:-1].clone(), one[-1] > 0) for one in image.detach()])

    def _filled(self, image: Tensor, hole: Tensor) -> Tensor:
        confidence = (~hole).float()
        sources = self._sources(image, hole)
        while bool(hole.any()):
            row, column = self._first(image, hole, confidence)
            part = self._around(row, column, hole.shape)
            missing = hole[part]
            here = image[:, part[0], part[1]]
            image[:, part[0], part[1]] = torch.where(missing, self._match(here, missing, sources), here)
            confidence[part] = torch.where(missing, confidence[part].mean(), confidence[part])
            hole = hole.clone()
            hole[part] = False
        return image

    def _sources(self, image: Tensor, hole: Tensor) -> Tensor:
        """Return all wholly known patches (M, C, p, p)."""
        side = self.patch
        if min(hole.shape) < side:
            return image.new_zeros(0, len(image), side, side)
        patches = image.unfold(1, side, 1).unfold(2, side, 1).permute(1, 2, 0, 3, 4)
        known = ~hole.unfold(0, side, 1).unfold(1, side, 1).flatten(2).any(2)
        return patches[known]

    def _first(self, image: Tensor, hole: Tensor, confidence: Tensor) -> tuple[int, int]:
        """Return the place on the border of the hole with the highest priority."""
        outside = F.max_pool2d((~hole).float()[None, None], 3, 1, 1)[0, 0] > 0
        border = hole & outside
        if not bool(border.any()):  # nothing is known at all
            border = hole
        half = self.patch // 2
        mean = F.avg_pool2d(confidence[None, None], self.patch, 1, half, count_include_pad=False)[0, 0]
        known = torch.where(hole, torch.nan, image.mean(0))
        slope = [s.nan_to_num(0.0) for s in torch.gradient(known)] if min(hole.shape) > 1 else [known * 0, known * 0]
        edge = torch.stack([_strongest(s, half) for s in slope])  # the isophote is at a right angle to it
        normal = torch.stack(torch.gradient(hole.float())) if min(hole.shape) > 1 else edge * 0
        normal = normal / normal.norm(dim=0).clamp(min=1e-6)
        data = (edge[0] * normal[1] - edge[1] * normal[0]).abs() + 1e-3
        priority = torch.where(border, mean * data, -1.0)
        place = int(priority.argmax())
        return place // hole.shape[1], place % hole.shape[1]

    def _around(self, row: int, column: int, shape: torch.Size) -> tuple[slice, slice]:
        """Return the square of a patch around a place, moved so that it lies in the image."""
        rows, columns = (
            slice(start := max(0, min(at - self.patch // 2, side - self.patch)), min(side, start + self.patch))
            for at, side in zip((row, column), shape, strict=True)
        )
        return rows, columns

    def _match(self, here: Tensor, missing: Tensor, sources: Tensor) -> Tensor:
        """Return the known patch that is most like what is known here (their eq. 6), or the mean of that."""
        if len(sources) == 0:
            known = here[:, ~missing]
            return (known.mean(1) if known.numel() else here.new_zeros(len(here)))[:, None, None].expand_as(here)
        distance = ((sources - here).square() * ~missing).sum((1, 2, 3))
        return sources[int(distance.argmin())]


def _strongest(slope: Tensor, half: int) -> Tensor:
    """Return the value of largest size in the square around every place."""
    highest = F.max_pool2d(slope[None, None], 2 * half + 1, 1, half)[0, 0]
    lowest = -F.max_pool2d(-slope[None, None], 2 * half + 1, 1, half)[0, 0]
    return torch.where(highest > -lowest, highest, lowest)
