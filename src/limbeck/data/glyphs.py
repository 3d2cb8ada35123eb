"""Letters and digits rendered from the fonts that matplotlib ships: a data set that needs no file and no network."""

from __future__ import annotations

import random
import string
from typing import Any, ClassVar

import numpy as np
import torch

from limbeck.data.base import Data, InMemory, Split
from limbeck.data.glyph_drawing import FACES, SPOKEN, Glyph, Look, coverage, painted
from limbeck.errors import require
from limbeck.ground.progress import tracked
from limbeck.ground.randomness import seed_of

CHARACTERS = string.ascii_uppercase + string.digits
ZOOM = 4  # the twin's side over the image's; the image is the twin's average over squares of ZOOM x ZOOM


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
        target: Whether `target` holds the twins, of 4 times the side (16 times the memory of the images).
        look: `faces`, `colours`, `rotation`, `scale` and `shift`: see `Look`.

    Raises:
        RecipeError: An argument that cannot be used.
    """

    name = "glyphs"

    passes_on: ClassVar[tuple[type, ...]] = (Look,)

    def __init__(
        self,
        size: int = 32,
        *,
        train: int = 20000,
        validation: int = 2000,
        test: int = 4000,
        channels: int = 3,
        classes: str = CHARACTERS,
        target: bool = False,
        **look: Any,
    ) -> None:
        self._counts: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        odd = set(classes) - set(CHARACTERS)
        require("Glyphs.classes", bool(classes) and not odd, "characters of A-Z and 0-9", classes)
        require("Glyphs.classes", len(set(classes)) == len(classes), "every character once", classes)
        require("Glyphs.size", size >= 8, "at least 8 pixels", size)
        require("Glyphs.channels", channels in (1, 3), "1 (grey) or 3 (RGB)", channels)
        for split, count in self._counts.items():
            require(f"Glyphs.{split}", count >= 1, "at least 1 image", count)
        self.image_shape = (channels, size, size)
        self.classes = tuple(classes)
        self.mask_classes = ("background", *classes)
        self.look, self.target = Look(**look), target
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
        return self.look.draw(self.classes[index % len(self.classes)], draw)

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
        for i in tracked(range(count), f"rendering glyphs ({split})"):
            glyph = self.glyph(i, split)
            fine = coverage(glyph, ZOOM * size)
            coarse = np.asarray(fine.reduce(ZOOM))
            image[i] = painted(coarse, glyph, channels)
            mask[i] = (coarse >= 128) * (1 + i % len(self.classes))
            if twin is not None:
                twin[i] = painted(np.asarray(fine), glyph, channels)
        target = None if twin is None else torch.from_numpy(twin)
        return InMemory(torch.from_numpy(image), label, torch.from_numpy(mask), target)
