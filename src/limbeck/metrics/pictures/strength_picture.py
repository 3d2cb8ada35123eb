"""A picture of how accuracy falls as an attack grows stronger."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from limbeck.metrics.pictures.drawing import BLUE, INK, STYLE, drawn


def strength_picture(strengths: Sequence[float], accuracy: Sequence[float], mark: float) -> Tensor:
    """Return the curve of accuracy against strength: (1, 3, H, W).

    Args:
        strengths: In units of the input, rising.
        accuracy: In [0, 1], one for each strength.
        mark: The strength that the metrics are measured at, drawn as a line.

    Returns:
        (1, 3, H, W) in [-1, 1]; H and W are always the same.
    """
    from matplotlib import rc_context  # noqa: PLC0415 (heavy, and only needed once training is over)
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context(STYLE):
        figure = Figure((5.2, 3.4))
        ax = figure.add_axes((0.12, 0.16, 0.84, 0.78), ylim=(0, 1.02), xlim=(0, max(strengths) * 1.02))
        ax.axvline(mark, color="#c9ced4", linewidth=1, linestyle="--")
        ax.plot(strengths, accuracy, color=BLUE, marker="o", markersize=4, clip_on=False)
        for x, y in zip(strengths, accuracy, strict=True):
            ax.annotate(f"{100 * y:.0f}", (x, y), (0, 6), textcoords="offset points", fontsize=8, ha="center")
        ax.set_xlabel("strength of the attack (images are in [−1, 1])", fontsize=8, color=INK)
        ax.set_ylabel("accuracy", fontsize=8, color=INK)
        ax.tick_params(labelsize=8)
        ax.grid(color="#eceff2", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
        return drawn(figure)
