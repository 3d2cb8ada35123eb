"""The pictures of a report: training curves, quality against cost, image grids.

Figures are drawn by matplotlib's Agg and SVG backends on figures of their own: the state of pyplot, and with it a
user's session, is not touched.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from limbeck.report.result import Quality, Result
from limbeck.report.wording import cost_label, metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#22262b", "#8a929b"
ROLE_COLOURS = {"teacher": "#3d4450", "control": "#d55e00", "student": "#0072b2", "floor": "#8a929b"}
MORE_COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7d5ba6", "#a6761d", "#5f8d4e", "#b0413e")
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#c9ced4",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "grid.color": "#eceff2",
    "grid.linewidth": 0.8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # a "$" in an arm's name is a dollar
    "svg.hashsalt": "limbeck",  # the same numbers give the same file
}
POINTS = 160
GAP = 0.62  # grey of the gaps in a grid, in [-1, 1]: it shows where white images end
CROWDED = 100  # costs this many times apart leave room for the numbers of whole decades alone
Row = Mapping[str, Any]


def arm_colours(result: Result) -> dict[str, str]:
    """Return a colour for each arm, told apart by the colour-blind (after Okabe and Ito), the same in every plot."""
    colours, used = {}, set()
    spare = iter(MORE_COLOURS * (1 + len(result.arms) // len(MORE_COLOURS)))
    for name, arm in result.arms.items():
        first = arm.role in ROLE_COLOURS and arm.role not in used
        colours[name] = ROLE_COLOURS[arm.role] if first else next(spare)
        used.add(arm.role)
    return colours


def image_grid(images: Tensor, columns: int = 8, visible: int = 480) -> bytes:
    """Return the PNG of a grid of images, enlarged by a whole factor (nearest) to about `visible` pixels in width.

    Args:
        images: (N, C, H, W) in [-1, 1], C = 1 or 3; values outside are cut off, pixels that are not finite are magenta.
        columns: Images a row.
        visible: Width that it should at least have, in pixels.

    Raises:
        ValueError: The shape is another.
    """
    if images.dim() != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"an image grid needs (N, 1 or 3, H, W) with N > 0, found {tuple(images.shape)}")
    rgb = images.detach().float().cpu().expand(-1, 3, -1, -1)
    broken = ~torch.isfinite(rgb).all(dim=1, keepdim=True)
    magenta = torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    rgb = torch.where(broken, magenta, rgb.nan_to_num()).clamp(-1, 1)
    columns = min(columns, len(rgb))
    scale = max(1, math.ceil(visible / (columns * images.shape[3])))
    rgb = F.interpolate(rgb, scale_factor=scale, mode="nearest")
    gap = 2
    count, _, height, width = rgb.shape
    rows = math.ceil(count / columns)
    sheet = torch.full((3, rows * (height + gap) - gap, columns * (width + gap) - gap), GAP)
    for i, image in enumerate(rgb):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    pixels = ((sheet + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def curves(
    histories: Mapping[str, Sequence[Row]], keys: Sequence[str], colours: Mapping[str, str], titles: Mapping[str, str]
) -> bytes:
    """Return the SVG of one small plot a key, with one line an arm, over training steps.

    Long histories are drawn as the mean of stretches of steps, with the range of each stretch behind it.

    Args:
        histories: For each arm its rows, such as {"step": 10, "discriminator.real_fake": 0.7, ...}.
        keys: What to draw, a plot each; rows without the key are passed over.
        colours: A colour for each arm.
        titles: Headings of plots, by key; the key itself when there is none.
    """
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    across = 3
    down = math.ceil(len(keys) / across)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.6 * across + 0.4, 2.3 * down + 0.4), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).flatten()
        for key, ax in zip(keys, axes, strict=False):
            for arm, rows in histories.items():
                _curve(ax, [(row["step"], row[key]) for row in rows if _known(row.get(key))], arm, colours[arm])
            ax.set_title(titles.get(key, key))
            ax.margins(x=0.02)
        for ax in axes[: len(keys)][-across:]:
            ax.set_xlabel("step")
        for ax in axes[len(keys) :]:
            ax.set_axis_off()
        lines = {line.get_label(): line for ax in axes for line in ax.get_lines()}
        figure.legend(lines.values(), [str(k) for k in lines], loc="outside upper left", ncols=6)
        return _svg(figure)


def quality_against_cost(
    result: Result, metric: str, costs: Sequence[str], colours: Mapping[str, str], direction: str
) -> bytes:
    """Return the SVG of a metric against costs, a plot each, with every arm that has both.

    Bars show the standard deviation over seeds; the teacher is also a line across, and so is the floor.

    Args:
        result: What the run found.
        metric: Full name of the metric.
        costs: Names of the costs.
        colours: A colour for each arm.
        direction: "lower" or "higher": what is better.
    """
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context(STYLE):
        figure = Figure(figsize=(5.6 * len(costs), 3.9), layout="constrained")
        for cost, ax in zip(costs, figure.subplots(1, len(costs), squeeze=False, sharey=True)[0], strict=True):
            _scatter(ax, result, metric, cost, colours)
            ax.set_xlabel(f"{cost_label(cost)}{' (ms)' if '_ms' in cost else ''}")
        figure.axes[0].set_ylabel(f"{metric_name(metric)}, {direction} is better")
        return _svg(figure)


def plottable_costs(result: Result, metric: str) -> list[str]:
    """Return the costs, of MACs and latency, that at least two arms with the metric know."""
    return [
        cost
        for cost in ("macs", "latency_ms_batch1")
        if sum(bool(arm.cost.get(cost)) and metric in arm.quality for arm in result.arms.values()) >= 2
    ]


def _scatter(ax: Axes, result: Result, metric: str, cost: str, colours: Mapping[str, str]) -> None:
    points: list[tuple[str, float, Quality]] = []
    for name, arm in result.arms.items():
        quality = arm.quality.get(metric)
        if quality is None or quality.mean is None:
            continue
        if arm.role in ("teacher", "floor"):
            _level(ax, quality.mean, colours[name], name if arm.role == "floor" else None)
        if arm.role != "floor" and (value := arm.cost.get(cost)):
            points.append((name, value, quality))
    for name, value, quality in points:
        ax.errorbar(
            value, quality.mean or 0.0, yerr=quality.std, fmt="o", color=colours[name], markersize=8, capsize=4,
            markeredgecolor="white", zorder=3,
        )  # fmt: skip
    _scale(ax, [value for _, value, _ in points], cost)
    ax.margins(x=0.22, y=0.16)
    ax.autoscale_view()  # names are placed by where points end up
    _name_points(ax, points, colours)


def _level(ax: Axes, value: float, colour: str, name: str | None) -> None:
    """Draw a level that others are compared with: a line, dotted and named where nothing else names it."""
    ax.axhline(value, color=colour, linestyle="-" if name is None else ":", linewidth=1, alpha=0.7, zorder=1)
    if name is not None:
        ax.annotate(
            name, (1, value), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
            color=colour, fontsize=8,
        )  # fmt: skip


def _scale(ax: Axes, values: Sequence[float], cost: str) -> None:
    """Scale the axis of costs: logarithmically where they differ much."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    ratio = max(values) / min(values) if values else 1
    if ratio > 3:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < CROWDED else (1,)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}") if "_ms" in cost else EngFormatter(sep=" "))


def _name_points(ax: Axes, points: Sequence[tuple[str, float, Quality]], colours: Mapping[str, str]) -> None:
    """Write each arm's name beside its point; a name that would lie on another moves up, with a line to its point."""
    to_fraction = ax.transData + ax.transAxes.inverted()
    leader = {"arrowstyle": "-", "linewidth": 0.7, "relpos": (0, 0.5), "shrinkA": 0}
    placed: list[tuple[float, float]] = []
    for name, value, quality in sorted(points, key=lambda p: p[2].mean or 0.0):
        x, y = to_fraction.transform((value, quality.mean or 0.0))
        beneath = [top for left, top in placed if abs(left - x) < 0.3]
        label = max([y, *beneath])
        placed.append((x, label + 0.06))
        moved = label > y + 0.01
        ax.annotate(
            name, (value, quality.mean or 0.0), (x + (0.07 if moved else 0.025), label), textcoords=ax.transAxes,
            va="center", color=colours[name], fontsize=9, fontweight="bold", annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            arrowprops=leader | {"color": colours[name]} if moved else None,
        )  # fmt: skip


def _curve(ax: Axes, points: Sequence[tuple[int, float]], arm: str, colour: str) -> None:
    if not points:
        return
    if len(points) <= POINTS:
        marker = "o" if len(points) <= 12 else None
        ax.plot(*zip(*points, strict=True), color=colour, label=arm, linewidth=1.6, marker=marker, markersize=4)
        return
    width = math.ceil(len(points) / POINTS)
    stretches = [zip(*points[i : i + width], strict=True) for i in range(0, len(points), width)]
    steps, values = zip(*stretches, strict=True)
    middles = [*map(fmean, steps)]
    ax.fill_between(middles, [*map(min, values)], [*map(max, values)], color=colour, alpha=0.15, linewidth=0)
    ax.plot(middles, [*map(fmean, values)], color=colour, label=arm, linewidth=1.6)


def _known(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()
