"""A fixed number of augmented views of every image, the same for every seed and every student."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from limbeck.ground.randomness import generator
from limbeck.types import Draw

KEPT = 2  # tables in memory: a batch can lie in two epochs


class Views:
    """What an augmentation draws for the views of every image: it depends on the image's index and the view alone.

    Args:
        draws: What the augmentation needs, by name.
        size: Number of images.
    """

    def __init__(self, draws: Mapping[str, Draw], size: int) -> None:
        self.draws, self.size = draws, size
        self._tables: dict[int, dict[str, Tensor]] = {}

    def drawn(self, index: Tensor, view: Tensor) -> dict[str, Tensor]:
        """Return what is drawn for images (N,), each seen in the view (N,) of its own."""
        tables = {number: self._table(number) for number in set(view.tolist())}
        if len(tables) == 1:
            (table,) = tables.values()
            return {name: values[index] for name, values in table.items()}
        pairs = list(zip(view.tolist(), index.tolist(), strict=True))
        return {name: torch.stack([tables[v][name][i] for v, i in pairs]) for name in self.draws}

    def _table(self, view: int) -> dict[str, Tensor]:
        if view not in self._tables:
            while len(self._tables) >= KEPT:
                del self._tables[next(iter(self._tables))]
            self._tables[view] = {
                name: draw.sample(self.size, generator("view", view, name)) for name, draw in self.draws.items()
            }
        return self._tables[view]
