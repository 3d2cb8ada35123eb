"""Pictures: the pixels of a grid, what a plot is made of, and that plots leave a user's matplotlib alone."""

import io
import re
from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from limbeck.report import plots


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_grid_shows_each_image_in_its_place():
    images = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, 2, 2)
    sheet = pixels(plots.image_grid(images, columns=3, visible=24))  # scale 4: tiles of 8, gaps of 2
    assert sheet.shape == (18, 28, 3)
    for i in range(6):
        top, left = (i // 3) * 10, (i % 3) * 10
        assert (sheet[top : top + 8, left : left + 8] == round(i / 5 * 255)).all()
    assert (sheet[8:10] == 207).all() and (sheet[:, 8:10] == 207).all()


def test_a_grid_enlarges_by_whole_pixels_and_keeps_colours():
    image = torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]], [[0.0, 2.0]]]).unsqueeze(0)  # (1, 3, 1, 2); 2.0 is cut off
    sheet = pixels(plots.image_grid(image, columns=8, visible=10))
    assert sheet.shape == (5, 10, 3)
    assert (sheet[:, :5] == [255, 0, 128]).all()
    assert (sheet[:, 5:] == [0, 255, 255]).all()


def test_pixels_that_are_not_finite_are_magenta():
    image = torch.zeros(1, 1, 1, 2)
    image[..., 1] = torch.nan
    sheet = pixels(plots.image_grid(image, visible=2))
    assert (sheet[0, 0] == 128).all()
    assert (sheet[0, 1] == [255, 0, 255]).all()


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8), (1, 2, 8, 8)])
def test_a_grid_of_something_else_is_an_error(shape):
    with pytest.raises(ValueError, match="image grid"):
        plots.image_grid(torch.zeros(shape))


def test_arms_have_colours_of_their_own(result):
    colours = plots.arm_colours(result)
    assert set(colours) == set(result.arms)
    assert len(set(colours.values())) == len(colours)
    assert colours["teacher"] == plots.ROLE_COLOURS["teacher"]


def test_curves_draw_a_line_for_each_arm_that_has_the_key():
    rows = [{"step": s, "a.x": float(s), "a.y": None if s == 3 else 1.0} for s in range(6)]
    histories = {"student": rows, "control": [{"step": 0, "a.x": 1.0}]}
    svg = plots.curves(histories, ["a.x", "a.y"], {"student": "#010203", "control": "#040506"}, {}).decode()
    drawn = re.findall(r"stroke: (#010203|#040506); stroke-width: 1.6", svg)
    assert drawn.count("#010203") == 2 + 1  # two plots and the legend
    assert drawn.count("#040506") == 1 + 1


def test_a_long_history_is_drawn_by_its_means(monkeypatch):
    seen = []
    monkeypatch.setattr("matplotlib.axes.Axes.plot", lambda self, x, y, **_: seen.append((list(x), list(y))) or [])
    points = [(i, float(i % 4)) for i in range(4 * plots.POINTS)]
    plots._curve(Figure().subplots(), points, "student", "#000000")
    ((steps, values),) = seen
    assert len(steps) == plots.POINTS
    assert values == [1.5] * plots.POINTS  # the mean of 0, 1, 2, 3
    assert steps[0] == 1.5


def test_quality_against_cost_has_a_bar_for_the_seeds_and_lines_for_teacher_and_floor(result):
    colours = plots.arm_colours(result)
    metric = "fid[fashion-cnn]"
    assert plots.plottable_costs(result, metric) == ["macs", "latency_ms_batch1"]
    svg = plots.quality_against_cost(result, metric, ["macs"], colours, "lower").decode()
    for name in ("teacher", "control", "student"):
        assert colours[name] in svg
    assert f"stroke-dasharray: 1,1.65; stroke-dashoffset: 0; stroke: {colours['floor']}" in svg
    assert svg == plots.quality_against_cost(result, metric, ["macs"], colours, "lower").decode()


@pytest.mark.parametrize("apart", [5, 60, 3e4, 1e7])
def test_numbers_along_the_costs_do_not_run_into_each_other(result, apart):
    arms = {name: arm for name, arm in result.arms.items() if arm.cost}
    for (name, arm), macs in zip(arms.items(), (5e5, *[5e5 * apart] * len(arms)), strict=False):
        arms[name] = replace(arm, cost={"macs": macs})
    figure = Figure(figsize=(5.6, 3.9))
    ax = figure.subplots()
    plots._scatter(ax, replace(result, arms=arms), "fid[fashion-cnn]", "macs", plots.arm_colours(result))
    FigureCanvasAgg(figure).draw()
    low, high = ax.get_xlim()
    ticks = [t for t in ax.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
    boxes = [tick.label1.get_window_extent() for tick in ticks]
    assert len(boxes) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(sorted(boxes, key=lambda box: box.x0)))


def test_drawing_leaves_matplotlib_as_it_was(result):
    before = dict(matplotlib.rcParams)
    plots.quality_against_cost(result, "fid[fashion-cnn]", ["macs"], plots.arm_colours(result), "lower")
    assert dict(matplotlib.rcParams) == before
