"""Letters and digits rendered from the fonts that matplotlib ships: a data set that needs no file and no network."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track

from limbeck.data.base import Data, InMemory, Split
from limbeck.errors import nearest, require
from limbeck.ground.randomness import seed_of

CHARACTERS = string.ascii_uppercase + string.digits
EM = 200  # pixels an em at which faces are measured
ZOOM = 4  # the twin's side over the image's; the image is the twin's average over squares of ZOOM x ZOOM

# The text faces of matplotlib's fonts/ttf: file -> words for family, weight and slant. Its other files hold
# symbols, mathematics only, or no letters.
FACES = {
    f"{file}.ttf": tuple(words.split())
    for file, words in {
        "DejaVuSans": "sans regular upright",
        "DejaVuSans-Bold": "sans bold upright",
        "DejaVuSans-Oblique": "sans regular italic",
        "DejaVuSans-BoldOblique": "sans bold italic",
        "DejaVuSansMono": "mono regular upright",
        "DejaVuSansMono-Bold": "mono bold upright",
        "DejaVuSansMono-Oblique": "mono regular italic",
        "DejaVuSansMono-BoldOblique": "mono bold italic",
        "DejaVuSerif": "serif regular upright",
        "DejaVuSerif-Bold": "serif bold upright",
        "DejaVuSerif-Italic": "serif regular italic",
        "DejaVuSerif-BoldItalic": "serif bold italic",
        "STIXGeneral": "serif regular upright",
        "STIXGeneralBol": "serif bold upright",
        "STIXGeneralItalic": "serif regular italic",
        "STIXGeneralBolIta": "serif bold italic",
        "cmr10": "serif regular upright",
        "cmb10": "serif bold upright",
        "cmti10": "serif regular italic",
        "cmss10": "sans regular upright",
        "cmtt10": "mono regular upright",
    }.items()
}
SPOKEN = {"sans": "sans-serif", "mono": "monospaced", "regular": "", "upright": ""}

Rgb = tuple[int, int, int]
COLOURS: dict[str, Rgb] = {
    "black": (20, 20, 20), "white": (245, 245, 245), "grey": (128, 128, 128), "red": (214, 39, 40),
    "orange": (255, 140, 20), "yellow": (245, 210, 40), "green": (25, 140, 60), "teal": (30, 150, 150),
    "blue": (35, 90, 205), "purple": (120, 50, 170), "pink": (240, 130, 185), "brown": (120, 70, 35),
    "dark grey": (70, 70, 70), "light grey": (195, 195, 195),
}  # fmt: skip
_GREYS = ("black", "dark grey", "light grey", "white")
_NAMED = tuple(name for name in COLOURS if name not in ("dark grey", "light grey"))
# Name of a choice of colours -> (foregrounds, backgrounds, how far a channel strays from its colour).
PALETTES: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "many": (_NAMED, _NAMED, 20),
    "few": (("red", "green", "blue", "purple"), ("white",), 0),
    "grey": (_GREYS, _GREYS, 0),
}
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
CONTRAST = 3.0  # least contrast of glyph and background: what WCAG 2.1 asks of large text


@dataclass(frozen=True)
class Glyph:
    """Everything that an item of `Glyphs` is rendered from.

    Attributes:
        character: What is drawn.
        face: File name of the font.
        scale: Longer side of the (rotated) glyph's box over the side of the image.
        angle: Rotation in degrees, counter-clockwise.
        place: Where the box lies in the room that is left, across and down, each in [0, 1]; (0.5, 0.5) is centred.
        foreground: Name and RGB (0..255) of the glyph's colour.
        background: Name and RGB (0..255) of the background's colour.
    """

    character: str
    face: str
    scale: float
    angle: float
    place: tuple[float, float]
    foreground: tuple[str, Rgb]
    background: tuple[str, Rgb]


class Glyphs(Data):
    """Upper-case letters and digits in 21 faces, with class, mask, caption and high-resolution twin.

    An item is a pure function of its split and index (and of these arguments); its class is the index modulo the
    number of classes, everything else is drawn at random. A split is rendered once, on its first use. Masks are 0
    on the background and 1 + class where the glyph covers at least half of the pixel. The defaults are hard; for
    large bold glyphs in few colours: `faces="bold", colours="few", rotation=0, scale=(0.8, 0.95), shift=0.5`.

    Args:
        size: Side of the square images in pixels.
        train: Number of training images.
        validation: Number of validation images. Splits are drawn separately; where little varies, two may by chance
            share an image.
        test: Number of test images.
        channels: 3 for RGB, or 1 for its luma (ITU-R BT.601).
        classes: The characters to draw, e.g. "ABC"; class numbers follow their order.
        faces: Words that every face has to have, of sans, serif, mono, regular, bold, upright, italic; e.g.
            "bold sans". Empty for all faces.
        colours: "many" (12 named colours, each varying a little, in pairs of sufficient contrast), "few" (red,
            green, blue or purple on white), or "grey" (four greys, dark on light or light on dark).
        rotation: Largest rotation in degrees, to either side.
        scale: Smallest and largest longer side of the glyph's box, as a part of the image's side in [0.1, 1].
        shift: How much of the room around the glyph it may use; 0 centres every glyph.
        target: Whether `target` holds the twins, of 4 times the side (16 times the memory of the images).

    Raises:
        RecipeError: An argument that cannot be used.
    """

    name = "glyphs"

    def __init__(
        self,
        size: int = 32,
        *,
        train: int = 20000,
        validation: int = 2000,
        test: int = 4000,
        channels: int = 3,
        classes: str = CHARACTERS,
        faces: str = "",
        colours: Literal["many", "few", "grey"] = "many",
        rotation: float = 15.0,
        scale: tuple[float, float] = (0.55, 0.9),
        shift: float = 1.0,
        target: bool = False,
    ) -> None:
        words = sorted({word for face in FACES.values() for word in face})
        low, high = scale
        self._counts: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        self._faces = [file for file, has in FACES.items() if set(faces.split()) <= set(has)]
        odd = set(classes) - set(CHARACTERS)
        require("Glyphs.classes", bool(classes) and not odd, "characters of A-Z and 0-9", classes)
        require("Glyphs.classes", len(set(classes)) == len(classes), "every character once", classes)
        for word in faces.split():
            require("Glyphs.faces", word in words, f"words of {', '.join(words)}", word, nearest(word, words))
        require("Glyphs.faces", bool(self._faces), "words that go together (no face is all of these)", faces)
        require(
            "Glyphs.colours", colours in PALETTES, f"one of {', '.join(PALETTES)}", colours, nearest(colours, PALETTES)
        )
        require("Glyphs.size", size >= 8, "at least 8 pixels", size)
        require("Glyphs.channels", channels in (1, 3), "1 (grey) or 3 (RGB)", channels)
        require("Glyphs.rotation", 0 <= rotation <= 180, "degrees in [0, 180]", rotation)
        require("Glyphs.scale", 0.1 <= low <= high <= 1, "the smallest and the largest, both in [0.1, 1]", scale)
        require("Glyphs.shift", 0 <= shift <= 1, "a number in [0, 1]", shift)
        for split, count in self._counts.items():
            require(f"Glyphs.{split}", count >= 1, "at least 1 image", count)
        self.image_shape = (channels, size, size)
        self.classes = tuple(classes)
        self.mask_classes = ("background", *classes)
        self.colours, self.rotation, self.scale, self.shift, self.target = colours, rotation, scale, shift, target
        self._splits: dict[Split, InMemory] = {}

    def gives(self) -> tuple[str, ...]:
        """Return the fields of its batches, the twins among them where they are asked for."""
        return (*super().gives(), *(["target"] if self.target else []))

    def split(self, name: Split) -> InMemory:
        """Return the samples of a split, rendered on the first call."""
        if name not in self._splits:
            self._splits[name] = self._render_all(name)
        return self._splits[name]

    def glyph(self, index: int, split: Split = "train") -> Glyph:
        """Return what item `index` of `split` is rendered from."""
        # random() is the one method of random.Random whose values are promised to stay the same between Pythons.
        draw = random.Random(seed_of("glyphs", split, index)).random
        face, size, angle, across, down, colour = (draw() for _ in range(6))
        low, high = self.scale
        foregrounds, backgrounds, stray = PALETTES[self.colours]
        foreground = _pick(foregrounds, colour)
        ink = _stray(COLOURS[foreground], stray, [draw() for _ in range(3)])
        shift = [draw() for _ in range(3)]
        papers = {name: _stray(COLOURS[name], stray, shift) for name in backgrounds}
        background = _pick([name for name, paper in papers.items() if contrast(ink, paper) >= CONTRAST], draw())
        return Glyph(
            character=self.classes[index % len(self.classes)],
            face=_pick(self._faces, face),
            scale=low + (high - low) * size,
            angle=self.rotation * (2 * angle - 1),
            place=(0.5 + self.shift * (across - 0.5), 0.5 + self.shift * (down - 0.5)),
            foreground=(foreground, ink),
            background=(background, papers[background]),
        )

    def caption(self, index: int, split: Split = "train") -> str:
        """Return item `index` of `split` in words, e.g. "a bold red serif G on white"."""
        glyph = self.glyph(index, split)
        family, weight, slant = (SPOKEN.get(word, word) for word in FACES[glyph.face])
        words = [weight, slant, glyph.foreground[0], family, glyph.character, "on", glyph.background[0]]
        text = " ".join(word for word in words if word)
        return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"

    def _render_all(self, split: Split) -> InMemory:
        count, (channels, size, _) = self._counts[split], self.image_shape
        image = np.empty((count, channels, size, size), np.uint8)
        mask = np.empty((count, size, size), np.uint8)
        twin = np.empty((count, channels, ZOOM * size, ZOOM * size), np.uint8) if self.target else None
        label = torch.arange(count) % len(self.classes)
        for i in track(range(count), f"rendering glyphs ({split})", console=Console(stderr=True), transient=True):
            glyph = self.glyph(i, split)
            fine = coverage(glyph, ZOOM * size)
            coarse = fine.reduce(ZOOM)
            image[i] = _paint(coarse, glyph, channels)
            mask[i] = (np.asarray(coarse) >= 128) * (1 + i % len(self.classes))
            if twin is not None:
                twin[i] = _paint(fine, glyph, channels)
        target = None if twin is None else torch.from_numpy(twin)
        return InMemory(torch.from_numpy(image), label, torch.from_numpy(mask), target)


def coverage(glyph: Glyph, side: int) -> Image.Image:
    """Return how much of each pixel the glyph covers: a grey image of side x side pixels, 0..255."""
    left, top, right, bottom = _ink(glyph.face, glyph.character)
    width, height, turn = right - left, bottom - top, math.radians(glyph.angle)
    # The box of the rotated box: its longer side is what `scale` measures, so no glyph is cut off.
    across = abs(width * math.cos(turn)) + abs(height * math.sin(turn))
    down = abs(width * math.sin(turn)) + abs(height * math.cos(turn))
    size = max(1, round(EM * glyph.scale * side / max(across, down)))
    zoom = size / EM
    half = math.ceil(zoom * math.hypot(width, height) / 2) + 2
    patch = Image.new("L", (2 * half, 2 * half))
    origin = (half - zoom * (left + right) / 2, half - zoom * (top + bottom) / 2)
    ImageDraw.Draw(patch).text(origin, glyph.character, fill=255, font=_font(glyph.face, size))
    if glyph.angle:
        patch = patch.rotate(glyph.angle, Image.Resampling.BILINEAR)
    boxes = zip((zoom * across, zoom * down), glyph.place, strict=True)
    x, y = (round(box / 2 + (side - box) * place) - half for box, place in boxes)
    canvas = Image.new("L", (side, side))
    canvas.paste(patch, (x, y))
    return canvas


def contrast(one: Rgb, other: Rgb) -> float:
    """Return the contrast ratio of two sRGB colours (0..255), in 1..21 (WCAG 2.1)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@cache
def _folder() -> Path:
    import matplotlib  # noqa: PLC0415  (slow to import, and needed for its fonts only)

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=512)
def _font(face: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_folder() / face), size, layout_engine=ImageFont.Layout.BASIC)


@cache
def _ink(face: str, character: str) -> tuple[int, int, int, int]:
    """Return the box of the pixels that a character inks, at EM pixels an em, relative to where it is drawn."""
    margin = EM // 2
    page = Image.new("L", (2 * EM, 2 * EM))
    ImageDraw.Draw(page).text((margin, margin), character, fill=255, font=_font(face, EM))
    left, top, right, bottom = page.getbbox() or (0, 0, EM, EM)
    return left - margin, top - margin, right - margin, bottom - margin


def _paint(cover: Image.Image, glyph: Glyph, channels: int) -> NDArray[np.float32]:
    """Return the glyph's colour over the background's, (channels, H, W), 0..255, rounded."""
    share = np.asarray(cover, np.float32) / 255
    ink, paper = np.array([glyph.foreground[1], glyph.background[1]], np.float32)[..., None, None]
    painted: NDArray[np.float32] = paper + share * (ink - paper)
    return np.rint(painted if channels == 3 else np.tensordot(LUMA, painted, 1)[None])


def _luminance(rgb: Rgb) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _pick(choices: Sequence[str], uniform: float) -> str:
    return choices[int(uniform * len(choices))]


def _stray(rgb: Rgb, stray: int, uniform: list[float]) -> Rgb:
    red, green, blue = (min(255, max(0, round(v + stray * (2 * u - 1)))) for v, u in zip(rgb, uniform, strict=True))
    return red, green, blue
