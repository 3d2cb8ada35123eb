"""The pictures of a report, side by side: what the arms make of the same inputs, and how that changed in training."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from limbeck.report import plots
from limbeck.tasks.base import Picture

Pictures = Mapping[str, Sequence[Picture]]


def grids(arms: Sequence[str], pictures: Pictures) -> list[dict[str, Any]]:
    """Return, for each title, the pictures of all that have it: the inputs, the arms in their order, the truth."""
    others = [name for name in pictures if name not in arms]
    order = [*others[:1], *(name for name in arms if name in pictures), *others[1:]]
    titles = dict.fromkeys(picture.title for shown in pictures.values() for picture in shown)
    images: dict[str, list[tuple[str, str]]] = {title: [] for title in titles}
    for name in order:
        for picture in pictures[name]:
            grid = plots.image_grid(picture.images, picture.columns)
            images[picture.title].append((name, data_uri(grid, "image/png")))
    return [{"title": title, "images": shown} for title, shown in images.items()]


def over_time(moments: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, str, str]]:
    """Return name, steps and picture of every arm that was looked at more than once: a row for each look."""
    shown = []
    for name, seen in moments.items():
        if len(seen) > 1:
            images = torch.cat([row["samples"] for row in seen]).float() / 127.5 - 1
            grid = plots.image_grid(images, len(seen[0]["samples"]))
            steps = ", ".join(f"{row['step']:,}" for row in seen)
            shown.append((name, steps, data_uri(grid, "image/png")))
    return shown


def data_uri(content: bytes, kind: str) -> str:
    """Return content as an address that a page holds in itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
