"""One letter or digit as an image: how its look is drawn at random, and how it is rendered by matplotlib's fonts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from limbeck.errors import nearest, require

EM = 200  # pixels an em at which faces are measured

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


@dataclass(frozen=True)
class Look:
    """How characters may look: each item's look is drawn from these.

    Attributes:
        faces: Words that every face has to have, of sans, serif, mono, regular, bold, upright, italic; e.g.
            "bold sans". Empty for all faces.
        colours: "many" (12 named colours, each varying a little, in pairs of sufficient contrast), "few" (red,
            green, blue or purple on white), or "grey" (four greys, dark on light or light on dark).
        rotation: Largest rotation in degrees, to either side.
        scale: Smallest and largest longer side of the glyph's box, as a part of the image's side in [0.1, 1].
        shift: How much of the room around the glyph it may use; 0 centres every glyph.

    Raises:
        RecipeError: One that cannot be used.
    """

    faces: str = ""
    colours: Literal["many", "few", "grey"] = "many"
    rotation: float = 15.0
    scale: tuple[float, float] = (0.55, 0.9)
    shift: float = 1.0

    def __post_init__(self) -> None:
        words = sorted({word for face in FACES.values() for word in face})
        for word in self.faces.split():
            require("Glyphs.faces", word in words, f"words of {', '.join(words)}", word, nearest(word, words))
        require("Glyphs.faces", bool(self.files()), "words that go together (no face is all of these)", self.faces)
        colours, (low, high) = self.colours, self.scale
        require(
            "Glyphs.colours", colours in PALETTES, f"one of {', '.join(PALETTES)}", colours, nearest(colours, PALETTES)
        )
        require("Glyphs.rotation", 0 <= self.rotation <= 180, "degrees in [0, 180]", self.rotation)
        require("Glyphs.scale", 0.1 <= low <= high <= 1, "the smallest and the largest, both in [0.1, 1]", self.scale)
        require("Glyphs.shift", 0 <= self.shift <= 1, "a number in [0, 1]", self.shift)

    def files(self) -> tuple[str, ...]:
        """Return the file names of the faces."""
        return _faces(self.faces)

    def draw(self, character: str, draw: Callable[[], float]) -> Glyph:
        """Return a glyph of the character, whose look is decided by numbers that `draw` gives, each in [0, 1)."""
        face, size, angle, across, down, colour = (draw() for _ in range(6))
        low, high = self.scale
        foregrounds, backgrounds, stray = PALETTES[self.colours]
        foreground = _pick(foregrounds, colour)
        ink = _stray(COLOURS[foreground], stray, [draw() for _ in range(3)])
        shift = [draw() for _ in range(3)]
        papers = {name: _stray(COLOURS[name], stray, shift) for name in backgrounds}
        background = _pick([name for name, paper in papers.items() if contrast(ink, paper) >= CONTRAST], draw())
        return Glyph(
            character=character,
            face=_pick(self.files(), face),
            scale=low + (high - low) * size,
            angle=self.rotation * (2 * angle - 1),
            place=(0.5 + self.shift * (across - 0.5), 0.5 + self.shift * (down - 0.5)),
            foreground=(foreground, ink),
            background=(background, papers[background]),
        )


@cache
def _faces(words: str) -> tuple[str, ...]:
    return tuple(file for file, has in FACES.items() if set(words.split()) <= set(has))


def coverage(glyph: Glyph, side: int) -> Image.Image:
    """Return how much of each pixel the glyph covers: a grey image of side x side pixels, 0..255."""
    left, top, right, bottom = _ink(glyph.face, glyph.character)
    width, height, turn = right - left, bottom - top, math.radians(glyph.angle)
    # The box of the rotated box: its longer side is what `scale` measures, so no glyph is cut off.
    across = abs(width * math.cos(turn)) + abs(height * math.sin(turn))
    down = abs(width * math.sin(turn)) + abs(height * math.cos(turn))
    size = max(1, round(EM * glyph.scale * side / max(across, down)))
    patch = (_remembered if size <= EM else _upright)(glyph.face, glyph.character, size)
    if glyph.angle:
        patch = patch.rotate(glyph.angle, Image.Resampling.BILINEAR)
    zoom = size / EM
    boxes = zip((zoom * across, zoom * down), glyph.place, strict=True)
    x, y = (round(box / 2 + (side - box) * place) - patch.width // 2 for box, place in boxes)
    canvas = Image.new("L", (side, side))
    canvas.paste(patch, (x, y))
    return canvas


def _upright(face: str, character: str, size: int) -> Image.Image:
    """Return a character at `size` pixels an em, its ink in the middle of a square in which it can be turned."""
    left, top, right, bottom = _ink(face, character)
    zoom = size / EM
    half = math.ceil(zoom * math.hypot(right - left, bottom - top) / 2) + 2
    patch = Image.new("L", (2 * half, 2 * half))
    origin = (half - zoom * (left + right) / 2, half - zoom * (top + bottom) / 2)
    ImageDraw.Draw(patch).text(origin, character, fill=255, font=_font(face, size))
    return patch


_remembered = lru_cache(maxsize=1024)(_upright)  # of small ones: at most 70 kB each


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


def painted(cover: NDArray[np.uint8], glyph: Glyph, channels: int) -> NDArray[np.uint8]:
    """Return the glyph's colour over the background's, (channels, H, W), where it covers each pixel (H, W) 0..255."""
    return np.take(_mixed(glyph.foreground[1], glyph.background[1], channels), cover, 1)


@lru_cache(maxsize=512)
def _mixed(foreground: Rgb, background: Rgb, channels: int) -> NDArray[np.uint8]:
    """Return the colour of a pixel (channels, 256) by how much of it is covered, 0..255."""
    share = np.arange(256, dtype=np.float32) / 255
    ink, paper = np.array([foreground, background], np.float32)[..., None]
    colour: NDArray[np.float32] = paper + share * (ink - paper)
    return np.rint(colour if channels == 3 else np.tensordot(LUMA, colour, 1)[None]).astype(np.uint8)


@lru_cache(maxsize=512)
def _luminance(rgb: Rgb) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _pick(choices: Sequence[str], uniform: float) -> str:
    return choices[int(uniform * len(choices))]


def _stray(rgb: Rgb, stray: int, uniform: list[float]) -> Rgb:
    red, green, blue = (min(255, max(0, round(v + stray * (2 * u - 1)))) for v, u in zip(rgb, uniform, strict=True))
    return red, green, blue
