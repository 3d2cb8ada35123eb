"""What pictures of metrics share.

They are drawn by matplotlib's Agg backend on figures of their own: the state of pyplot, and with it a user's session,
is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, BLUE = "#22262b", "#0072b2"
STYLE: dict[Any, Any] = {"font.family": ["DejaVu Sans"], "text.color": INK, "text.parse_math": False}


def drawn(figure: Figure, dpi: int = 200) -> Tensor:
    """Return a figure as an image (1, 3, H, W) in [-1, 1]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = torch.from_numpy(np.array(canvas.buffer_rgba()))[..., :3]
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1
