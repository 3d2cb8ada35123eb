"""Glyphs against matplotlib's own reading of its fonts, WCAG's contrast, and what each argument promises."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from limbeck.data.base import InMemory
from limbeck.data.glyph_drawing import CONTRAST, FACES, LUMA, Glyph, contrast, coverage
from limbeck.data.glyphs import CHARACTERS, Glyphs
from limbeck.errors import RecipeError


@pytest.fixture(scope="module")
def data() -> Glyphs:
    return Glyphs(train=144, validation=4, test=4, target=True)


@pytest.fixture(scope="module")
def train(data: Glyphs) -> InMemory:
    return data.split("train")


def test_the_faces_are_the_text_faces_that_matplotlib_ships() -> None:
    fonts = {file.name: FT2Font(str(file)) for file in Path(matplotlib.get_data_path(), "fonts/ttf").glob("*.ttf")}
    complete = {n for n, font in fonts.items() if set(map(ord, CHARACTERS)) <= font.get_charmap().keys()}
    # These have all the characters, but are symbols, mathematics, or boxes for characters that a font lacks.
    assert set(FACES) == complete - {"cmex10.ttf", "cmmi10.ttf", "cmsy10.ttf", "LastResortHE-Regular.ttf"}
    assert len(FACES) == 21
    for name, (_, weight, slant) in FACES.items():
        if not name.startswith("cm"):  # Computer Modern does not tell its style
            style = fonts[name].style_name.lower()
            assert ("bold" in style) == (weight == "bold")
            assert ("italic" in style or "oblique" in style) == (slant == "italic")


def test_no_two_characters_of_a_face_look_alike() -> None:
    for face in FACES:
        glyphs = [Glyph(c, face, 0.9, 0.0, (0.5, 0.5), ("black", (0, 0, 0)), ("white", (255,) * 3)) for c in CHARACTERS]
        assert len({coverage(glyph, 64).tobytes() for glyph in glyphs}) == len(CHARACTERS)


def test_an_item_does_not_depend_on_how_many_there_are(train: InMemory) -> None:
    few = Glyphs(train=10, target=True).split("train")
    assert torch.equal(few.image, train.image[:10]) and torch.equal(few.mask, train.mask[:10])  # type: ignore[index,arg-type]


def drawn_afresh(glyph: Glyph, side: int) -> Image.Image:
    """Return how much of each pixel a glyph covers, of a character that nothing remembers."""
    font = partial(ImageFont.truetype, Path(matplotlib.get_data_path(), "fonts/ttf", glyph.face))
    basic = ImageFont.Layout.BASIC
    page = Image.new("L", (400, 400))
    ImageDraw.Draw(page).text((100, 100), glyph.character, fill=255, font=font(200, layout_engine=basic))
    left, top, right, bottom = (place - 100 for place in page.getbbox() or ())
    width, height, turn = right - left, bottom - top, math.radians(glyph.angle)
    across = abs(width * math.cos(turn)) + abs(height * math.sin(turn))
    down = abs(width * math.sin(turn)) + abs(height * math.cos(turn))
    size = round(200 * glyph.scale * side / max(across, down))
    zoom = size / 200
    half = math.ceil(zoom * math.hypot(width, height) / 2) + 2
    patch = Image.new("L", (2 * half, 2 * half))
    origin = (half - zoom * (left + right) / 2, half - zoom * (top + bottom) / 2)
    ImageDraw.Draw(patch).text(origin, glyph.character, fill=255, font=font(size, layout_engine=basic))
    if glyph.angle:
        patch = patch.rotate(glyph.angle, Image.Resampling.BILINEAR)
    x, y = (
        round(zoom * box / 2 + (side - zoom * box) * place) - half
        for box, place in zip((across, down), glyph.place, strict=True)
    )
    canvas = Image.new("L", (side, side))
    canvas.paste(patch, (x, y))
    return canvas


def coloured(cover: Image.Image, glyph: Glyph, channels: int) -> np.ndarray:
    """Return the colour of every pixel by its own sum."""
    share = np.asarray(cover, np.float32) / 255
    ink, paper = np.array([glyph.foreground[1], glyph.background[1]], np.float32)[..., None, None]
    colour = paper + share * (ink - paper)
    return np.rint(colour if channels == 3 else np.tensordot(LUMA, colour, 1)[None]).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "channels", "look"),
    [
        (32, 1, {"classes": "AB", "faces": "bold serif", "colours": "few", "rotation": 0, "scale": (0.85, 0.95)}),
        (28, 3, {"colours": "grey", "shift": 0.3}),
        (13, 1, {"colours": "many", "rotation": 180}),
        (70, 3, {"scale": (0.9, 1.0), "classes": "QI"}),  # larger than what is remembered
    ],
)
def test_what_is_remembered_changes_no_pixel(size: int, channels: int, look: dict[str, Any]) -> None:
    data = Glyphs(size, train=60, validation=1, test=1, channels=channels, target=True, **look)
    train = data.split("train")
    assert train.target is not None and train.mask is not None
    for i in range(60):
        glyph = data.glyph(i)
        fine = drawn_afresh(glyph, 4 * size)
        coarse = fine.reduce(4)
        assert np.array_equal(train.target[i], coloured(fine, glyph, channels))
        assert np.array_equal(train.image[i], coloured(coarse, glyph, channels))
        assert np.array_equal(train.mask[i] > 0, np.asarray(coarse) >= 128)


def test_labels_go_round_and_masks_hold_them(train: InMemory) -> None:
    assert train.label is not None and train.mask is not None
    assert train.label.tolist() == [i % 36 for i in range(144)]
    for mask, label in zip(train.mask, train.label, strict=True):
        assert mask.unique().tolist() == [0, int(label) + 1]


def test_the_mask_is_where_the_colour_is_nearer_to_the_glyphs(data: Glyphs, train: InMemory) -> None:
    assert train.mask is not None
    for i in range(0, 144, 7):
        glyph = data.glyph(i)
        ink, paper = (np.array(c[1], float)[:, None, None] for c in (glyph.foreground, glyph.background))
        share = ((train.image[i].numpy() - paper) * (ink - paper)).sum(0) / ((ink - paper) ** 2).sum(0)
        clear = np.abs(share - 0.5) > 0.02  # colours are rounded to 8 bits
        assert ((share > 0.5) == (train.mask[i].numpy() > 0))[clear].all() and clear.mean() > 0.9


def test_the_image_is_its_twin_averaged(train: InMemory) -> None:
    assert train.target is not None and train.target.shape == (144, 3, 128, 128)
    small = F.avg_pool2d(train.target.float(), 4)
    assert (small - train.image.float()).abs().max() <= 1.5  # both are rounded, and the coverage is


def test_scale_is_the_longer_side_of_the_box_and_nothing_is_cut_off() -> None:
    data = Glyphs(train=1, rotation=180, scale=(0.3, 1.0))
    for i in range(200):
        glyph = data.glyph(i)
        box = coverage(glyph, 256).point(lambda v: 255 * (v > 64)).getbbox()
        assert box is not None
        # Only the corners of a rotated glyph's box count: the ink of a slanted letter may not fill them.
        longest = max(box[2] - box[0], box[3] - box[1]) / 256
        assert longest <= glyph.scale + 0.02
        whole = coverage(Glyph(**{**vars(glyph), "place": (0.5, 0.5)}), 256)
        # Half a pixel of the softest edge may be lost to rounding where the box fills the image.
        assert np.mean(whole) == pytest.approx(np.mean(coverage(glyph, 256)), rel=5e-3)
    upright = Glyphs(train=1, rotation=0, scale=(0.7, 0.7), shift=0)
    for i in range(72):
        left, top, right, bottom = coverage(upright.glyph(i), 256).point(lambda v: 255 * (v > 64)).getbbox() or (0,) * 4
        assert max(right - left, bottom - top) / 256 == pytest.approx(0.7, abs=0.02)
        assert (left + right) / 2 == pytest.approx(128, abs=3) and (top + bottom) / 2 == pytest.approx(128, abs=3)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((10, 20, 30), (10, 20, 30)) == 1
    assert contrast((119, 119, 119), (255, 255, 255)) == pytest.approx(4.478, abs=1e-3)  # #777 on white: 4.48 : 1


@pytest.mark.parametrize("colours", ["many", "few", "grey"])
def test_every_pair_of_colours_has_contrast(colours: str) -> None:
    data = Glyphs(train=1, colours=colours)  # type: ignore[arg-type]
    pairs = [(g.foreground, g.background) for g in map(data.glyph, range(2000))]
    assert min(contrast(ink, paper) for (_, ink), (_, paper) in pairs) >= CONTRAST
    names = {(ink, paper) for (ink, _), (paper, _) in pairs}
    assert {"many": len(names) > 30, "few": len(names) == 4, "grey": len(names) > 4}[colours]
    if colours == "grey":
        assert all(len(set(rgb)) == 1 for pair in pairs for _, rgb in pair)


def test_everything_varies_evenly() -> None:
    data = Glyphs(train=1)
    glyphs = [data.glyph(i) for i in range(4000)]
    share = np.array([sum(g.face == face for g in glyphs) for face in FACES]) / 4000
    assert np.abs(share - 1 / 21).max() < 4.5 * np.sqrt(1 / 21 / 4000)
    for values, low, high in (
        ([g.scale for g in glyphs], 0.55, 0.9),
        ([g.angle for g in glyphs], -15, 15),
        ([g.place[0] for g in glyphs], 0, 1),
        ([g.place[1] for g in glyphs], 0, 1),
    ):
        assert low <= min(values) and max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=4.5 * (high - low) / np.sqrt(12 * 4000))
    assert (
        np.corrcoef([[g.scale, g.angle, *g.place] for g in glyphs], rowvar=False)[~np.eye(4, dtype=bool)].max() < 0.08
    )


def test_captions_say_what_is_there(data: Glyphs) -> None:
    plain = Glyphs(train=1, faces="bold upright sans", classes="G")
    i = next(i for i in range(500) if plain.glyph(i).foreground[0] == "red" and plain.glyph(i).background[0] == "white")
    assert plain.caption(i).replace("monospaced", "sans-serif") == "a bold red sans-serif G on white"
    for i in range(100):
        glyph, caption = data.glyph(i), data.caption(i)
        assert f" {glyph.character} on {glyph.background[0]}" in caption and glyph.foreground[0] in caption
        assert ("italic" in caption) == ("italic" in FACES[glyph.face])
        assert caption.startswith("an " if caption.split()[1][0] in "aio" else "a ")
    assert data.caption(3, "test") != data.caption(3, "train")


def test_one_channel_is_the_luma_of_three() -> None:
    colour = Glyphs(train=20).split("train").image.float()
    grey = Glyphs(train=20, channels=1).split("train").image.float()
    luma = (colour * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    assert (luma - grey).abs().max() <= 1.01


def test_an_easy_setting() -> None:
    data = Glyphs(train=60, classes="XYZ", faces="bold", colours="few", rotation=0, scale=(0.8, 0.95), shift=0.5)
    assert data.classes == ("X", "Y", "Z")
    glyphs = [data.glyph(i) for i in range(60)]
    assert {g.character for g in glyphs} == set("XYZ") and {g.angle for g in glyphs} == {0}
    assert all("bold" in FACES[g.face] and g.background == ("white", (245,) * 3) for g in glyphs)
    assert all(0.25 <= at <= 0.75 for g in glyphs for at in g.place)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": "ABa"}, "Glyphs.classes: expected characters of A-Z and 0-9, found 'ABa'"),
        ({"classes": ""}, "Glyphs.classes"),
        ({"classes": "ABA"}, "every character once"),
        ({"faces": "bolt"}, "found 'bolt' (did you mean 'bold'?)"),
        ({"faces": "bold regular"}, "no face is all of these"),
        ({"colours": "gray"}, "found 'gray' (did you mean 'grey'?)"),
        ({"size": 4}, "Glyphs.size: expected at least 8 pixels, found 4"),
        ({"channels": 2}, "Glyphs.channels"),
        ({"rotation": -1.0}, "Glyphs.rotation"),
        ({"scale": (0.9, 0.5)}, "Glyphs.scale"),
        ({"scale": (0.0, 0.5)}, "Glyphs.scale"),
        ({"shift": 2.0}, "Glyphs.shift"),
        ({"validation": 0}, "Glyphs.validation: expected at least 1 image, found 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Glyphs(**arguments)  # type: ignore[arg-type]
    assert words in str(caught.value)
