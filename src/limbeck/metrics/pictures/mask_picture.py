"""Pictures of masks: classes as colours, alone and over the image, what is wrong, and which colour is which class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.errors import DataError
from limbeck.metrics.pictures.drawing import INK, STYLE, drawn
from limbeck.types import VOID

# The seven colours of Okabe & Ito 2008, then each time the one that is farthest (in CIELAB) from those before and from
# black, to normal eyes and to two kinds of colour-blind ones (protanopia, deuteranopia: Machado et al. 2009).
PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#0000ff",
    "#f0f0d2", "#6969ff", "#692d0f", "#87ff87", "#69005a", "#e1004b", "#00f0f0", "#5a0096",
    "#7896ff", "#96c378", "#870f3c", "#e1a5a5", "#000fc3", "#d200b4", "#785a78", "#d2874b",
)  # fmt: skip
NOTHING = "#000000"  # void
RIGHT, WRONG = "#8c9299", "#e0001b"


def mask_picture(mask: Tensor, classes: int) -> Tensor:
    """Return masks as colours, one a class, void black: (N, 3, H, W) in [-1, 1].

    The colours are always the same; of more than 24 classes they repeat.

    Args:
        mask: (N, H, W), class numbers or void.
        classes: Number of classes K.

    Raises:
        DataError: The mask has another shape, or a class that there is not.
    """
    if mask.ndim != 3:
        raise DataError(f"mask_picture: expected masks (N, H, W), found {tuple(mask.shape)}")
    known = mask[mask != VOID]
    if len(known) and not 0 <= int(known.min()) <= int(known.max()) < classes:
        found = f"{int(known.min())}..{int(known.max())}"
        raise DataError(f"mask_picture: expected classes 0..{classes - 1} or {VOID} for void, found {found}")
    colours = torch.cat([class_colours(classes), torch.tensor([_rgb(NOTHING)])])
    place = torch.where(mask == VOID, classes, mask.long())
    return colours.to(mask.device)[place].permute(0, 3, 1, 2)


def class_colours(classes: int) -> Tensor:
    """Return the colours of classes, (K, 3) in [-1, 1]."""
    return torch.tensor([_rgb(PALETTE[k % len(PALETTE)]) for k in range(classes)])


def overlay(image: Tensor, mask: Tensor, classes: int, strength: float = 0.5) -> Tensor:
    """Return images with the colours of their masks over them, void darkened: (N, 3, H, W) in [-1, 1].

    Args:
        image: (N, 1 or 3, H, W) in [-1, 1].
        mask: (N, H, W), class numbers or void.
        classes: Number of classes K.
        strength: How much of a pixel is the colour, in [0, 1].

    Raises:
        DataError: The image has another size than the mask, or `mask_picture` has a reason.
    """
    if image.ndim != 4 or image.shape[1] not in (1, 3) or (len(image), *image.shape[2:]) != mask.shape:
        found = f"{tuple(image.shape)} and {tuple(mask.shape)}"
        raise DataError(f"overlay: expected images (N, 1 or 3, H, W) and masks (N, H, W), found {found}")
    return torch.lerp(image.float().expand(-1, 3, -1, -1), mask_picture(mask, classes).to(image.device), strength)


def error_picture(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return where a mask is right (grey), wrong (red), and where nobody knows (void, black): (N, 3, H, W) in [-1, 1].

    Args:
        predicted: (N, H, W), class numbers.
        truth: (N, H, W), class numbers or void.

    Raises:
        DataError: The masks differ in shape.
    """
    if predicted.shape != truth.shape or truth.ndim != 3:
        found = f"{tuple(predicted.shape)} and {tuple(truth.shape)}"
        raise DataError(f"error_picture: expected two equal masks (N, H, W), found {found}")
    colours = torch.tensor([_rgb(RIGHT), _rgb(WRONG), _rgb(NOTHING)], device=truth.device)
    place = torch.where(truth == VOID, 2, (predicted != truth).long())
    return colours[place].permute(0, 3, 1, 2)


def legend_picture(names: Sequence[str]) -> Tensor:
    """Return the colours of `mask_picture` with the names of the classes beside them, void last: (1, 3, H, W).

    Args:
        names: Names of the K classes, in the order of their numbers.

    Returns:
        (1, 3, H, W) in [-1, 1]; H and W depend on K alone.
    """
    from matplotlib import rc_context  # noqa: PLC0415 (heavy, and only needed once training is over)
    from matplotlib.figure import Figure  # noqa: PLC0415

    entries = [(PALETTE[k % len(PALETTE)], name) for k, name in enumerate(names)] + [(NOTHING, "void")]
    columns = min(4, len(entries))
    rows = math.ceil(len(entries) / columns)
    with rc_context(STYLE):
        figure = Figure((5.2, 0.26 * rows))
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, 4), ylim=(rows, 0))
        ax.axis("off")
        for number, (colour, name) in enumerate(entries):
            row, column = number // columns, number % columns
            ax.barh(row + 0.5, 0.16, 0.62, column + 0.05, color=colour, edgecolor=INK, linewidth=0.4)
            ax.text(column + 0.27, row + 0.5, name if len(name) <= 14 else f"{name[:13]}…", va="center", fontsize=8)
        return drawn(figure)


def _rgb(colour: str) -> list[float]:
    return [int(colour[i : i + 2], 16) / 127.5 - 1 for i in (1, 3, 5)]
