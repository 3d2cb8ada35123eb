"""Pictures of what a classifier takes for what, class by class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from limbeck.metrics.pictures.drawing import BLUE, INK, STYLE, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WRITTEN = 20  # classes up to which a picture writes every name and every number


def confusion_picture(confusion: Tensor, names: Sequence[str]) -> Tensor:
    """Return a picture of the shares of each class (row) that are taken for each class (column): (1, 3, H, W).

    Up to 20 classes are named and their shares written in percent; of more classes some are named.

    Args:
        confusion: (K, K), counts; a class without samples has a grey row.
        names: Names of the K classes.

    Returns:
        (1, 3, H, W) in [-1, 1]; H and W depend on K alone.
    """
    from matplotlib import rc_context  # noqa: PLC0415 (heavy, and only needed once training is over)
    from matplotlib.figure import Figure  # noqa: PLC0415

    count = len(confusion)
    share = (confusion.double() / confusion.sum(dim=1, keepdim=True)).numpy()
    side = max(5.2, 0.0136 * count)  # inches: of a thousand classes a cell still has two pixels
    with rc_context(STYLE):
        figure = Figure((side, side))
        ax = figure.add_axes((0.18, 0.06, 0.74, 0.74))
        # Mistakes are few: the root of a share makes 1 % visible beside 90 %.
        ax.imshow(np.sqrt(share), cmap=_blues(), vmin=0, vmax=1, interpolation="nearest")
        _name_classes(ax, names)
        if count <= WRITTEN:
            for row, column in zip(*np.nonzero(share >= 0.005), strict=True):
                value, dark = share[row, column], share[row, column] > 0.25
                ax.text(
                    column, row, f"{100 * value:.0f}", ha="center", va="center", color="white" if dark else INK,
                    fontsize=min(9, 90 / count),
                )  # fmt: skip
        return drawn(figure)


def class_picture(accuracy: Tensor, names: Sequence[str]) -> Tensor:
    """Return a table of accuracies by class, with a bar each, in the order of the classes: (1, 3, H, W).

    Args:
        accuracy: (K,), in [0, 1]; NaN for a class without samples.
        names: Names of the K classes.

    Returns:
        (1, 3, H, W) in [-1, 1]; H and W depend on K alone.
    """
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    columns, line, size = (1, 0.24, 9.0) if len(names) <= WRITTEN else (3, 0.16, 6.5)
    start, end, letters = (0.3, 0.86, 18) if columns == 1 else (0.46, 0.75, 14)
    rows = math.ceil(len(names) / columns)
    with rc_context(STYLE):
        figure = Figure((5.2, line * rows))
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, columns), ylim=(rows, 0))
        ax.axis("off")
        left, middle = np.divmod(np.arange(len(names)), rows) + np.array([[start], [0.5]])
        thick = 0.7 * 72 * line  # points
        ax.hlines(middle, left, left + end - start, "#eceff2", linewidth=thick)
        ax.hlines(middle, left, left + (end - start) * accuracy.nan_to_num().numpy(), BLUE, linewidth=thick)
        for x, y, name, share in zip(left, middle, names, accuracy.tolist(), strict=True):
            ax.text(x - 0.02, y, _short(name, letters), ha="right", va="center", fontsize=size)
            text = "–" if math.isnan(share) else f"{100 * share:.1f} %"
            ax.text(x - start + 0.98, y, text, ha="right", va="center", fontsize=size)
        return drawn(figure)


def _name_classes(ax: Axes, names: Sequence[str]) -> None:
    """Name rows (what it is) and columns (what it is taken for); of many classes every n-th."""
    every = math.ceil(len(names) / WRITTEN)
    ticks, texts = range(0, len(names), every), [_short(name, 14) for name in names[::every]]
    size = 8 if len(names) <= 12 else 6.5
    ax.set_xticks(ticks, texts, fontsize=size, rotation=45, ha="left", rotation_mode="anchor", color=INK)
    ax.set_yticks(ticks, texts, fontsize=size, color=INK)
    ax.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0 if every == 1 else 2, pad=2)
    ax.set_xlabel("taken for (columns), in % of the class (rows)", fontsize=8, color=INK, labelpad=6)
    for edge in ax.spines.values():
        edge.set_visible(False)
    if every == 1:
        ax.set_xticks(np.arange(len(names) - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(len(names) - 1) + 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.5)
        ax.tick_params(which="minor", length=0)


def _blues() -> Any:
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415

    return LinearSegmentedColormap.from_list("shares", ["#f3f5f7", "#9cc9e6", BLUE, "#00334f"]).with_extremes(
        bad="#c9ced4"
    )


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"
