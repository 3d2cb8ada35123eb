"""Photographs from files to images of a network, and back, with what their headers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from limbeck.data.base import to_float
from limbeck.data.pixels import Reading, check_stored, eight_bits, image_file
from limbeck.metrics.pictures.mask_picture import class_colours

SPACES = {"RGBA": "RGB", "P": "RGB", "PA": "RGB", "LA": "L"}  # modes with the colours of another one


def read_picture(
    file: Path, channels: int, reading: Reading
) -> tuple[Image.Image, Image.Image | None, dict[str, bytes]]:
    """Return an upright picture of 1 or 3 channels, its transparency if it has any, and what is kept of its header.

    Raises:
        DataError: The file cannot be read, or does not hold what `reading` says.
    """
    with image_file(file, reading.largest) as opened:
        check_stored(opened, reading)
        upright = ImageOps.exif_transpose(opened)
        kept = {"icc_profile": upright.info.get("icc_profile"), "exif": upright.getexif().tobytes()}
        upright = eight_bits(upright, reading)
        clear = upright.has_transparency_data
        alpha = upright.convert("RGBA").getchannel("A") if clear else None
        colours = upright.convert("RGBA" if clear else "RGB").convert("RGB" if channels == 3 else "L")
    if colours.mode != SPACES.get(upright.mode, upright.mode):
        kept["icc_profile"] = None  # it is about other colours
    return colours, alpha, {name: value for name, value in kept.items() if value}


def to_tensor(picture: Image.Image) -> Tensor:
    """Return a picture of 1 or 3 channels as an image (1, C, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture, np.uint8))
    return to_float(pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1))[None]


def palette_of(logits: Tensor) -> Image.Image:
    """Return the class of every pixel of the first of logits (N, K, H, W), as a picture in a report's colours."""
    found = Image.fromarray(logits[0].argmax(0).to(torch.uint8).numpy()).convert("P")
    found.putpalette(((class_colours(len(logits[0])) + 1) * 127.5).round().int().flatten().tolist())
    return found


def picture_of(image: Tensor) -> Image.Image:
    """Return the first of images (N, C, H, W) in [-1, 1], C = 1 or 3, as a picture; values outside are cut off."""
    levels = ((image[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    return Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
