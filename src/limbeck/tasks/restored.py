"""How close restored images are to whole ones, by the name of each metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from limbeck.metrics.image import MOST, WINDOW, bounded_psnr, ssim


def alike(image: Tensor, goal: Tensor, suffix: str = "") -> dict[str, Tensor]:
    """Return PSNR and, where its window fits in, SSIM of each image (N, C, H, W) in [-1, 1], (N,) each."""
    found = {f"psnr{suffix}": bounded_psnr(image, goal)}
    return found | ({f"ssim{suffix}": ssim(image, goal)} if min(goal.shape[2:]) >= WINDOW else {})


def by_holes(image: Tensor, goal: Tensor, holes: Tensor) -> dict[str, Tensor]:
    """Return PSNR in the holes (N, 1, H, W) of each image, and the mean absolute difference there and elsewhere."""
    share, difference = holes.float().mean((1, 2, 3)), image - goal
    square = (difference * holes).square().mean((1, 2, 3)) / share
    apart = {"inside": (difference * holes, share), "outside": (difference * ~holes, (1 - share).clamp(min=1e-9))}
    return {
        "psnr_inside": (10 * torch.log10(4 / square)).clamp(max=MOST),
        **{f"l1_{where}": d.abs().mean((1, 2, 3)) / part * 127.5 for where, (d, part) in apart.items()},
    }


def named(metric: str, photos: str) -> str:
    """Return the name of a metric of a set: "psnr[set5]", or "perceptual[vgg16-3, set5]"."""
    return f"{metric[:-1]}, {photos}]" if metric.endswith("]") else f"{metric}[{photos}]"


def means(parts: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Return the mean of each metric over all images."""
    found = list(parts)
    return {name: float(torch.cat([part[name] for part in found]).mean()) for name in found[0]}
