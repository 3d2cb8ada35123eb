"""Small pictures with masks, and regions that know nothing of them."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.baselines.base import Regions
from limbeck.types import VOID

COLOURS = torch.tensor([[-0.5, -0.3, 0.6], [0.6, -0.9, -0.9], [0.4, 0.8, 0.2]])


class Tiles(Regions):
    """Squares of four pixels a side, whatever is in them."""

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        rows, columns = torch.arange(height) // 4, torch.arange(width) // 4
        tiles = rows[:, None] * (int(columns[-1]) + 1) + columns
        return tiles.to(image.device).expand(len(image), -1, -1)


def scenes(count: int, seed: int = 0, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Return images (N, C, 24, 32) of a ground, a sky and a disc, each in a colour of its own, and their masks."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    place = torch.rand(count, 3, 1, 1, generator=draw)
    mask = (y >= 8 + 8 * place[:, 0:1, 0]).long()
    disc = (y - 6 - 12 * place[:, 1, :]).square() + (x - 6 - 20 * place[:, 2, :]).square() < 25
    mask[disc] = 2
    noise = 0.15 * torch.randn(count, 3, 24, 32, generator=draw)
    image = (COLOURS[mask].permute(0, 3, 1, 2) + noise).clamp(-1, 1)
    return (image if channels == 3 else image.mean(1, keepdim=True)), mask


def accuracy(logits: Tensor, mask: Tensor) -> float:
    return float((logits.argmax(1) == mask)[mask != VOID].float().mean())
