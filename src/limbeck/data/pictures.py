"""Single pictures that a recipe names, such as the paintings that a style is taken from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from limbeck.data.base import data_root, to_float
from limbeck.data.image_files import opened, planes
from limbeck.errors import DataError


def picture(path: str, size: int) -> Tensor:
    """Return a picture as (1, 3, size, size) in [-1, 1]: its shorter side resized, then the middle.

    A relative path is looked for here, then in the data root, then among the pictures that come with scikit-image, such
    as "gravel.png" and "brick.png".

    Raises:
        DataError: There is no such picture, or it cannot be decoded.
    """
    here = Path(path).expanduser()
    places = [here] if here.is_absolute() else [here, data_root() / here, *_embedded(here)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(f"no such picture: {' or '.join(map(str, places))}")
    square = ImageOps.fit(opened(file, 3), (size, size), Image.Resampling.BICUBIC)
    return to_float(torch.from_numpy(np.asarray(planes(square, 3))))[None]


def _embedded(path: Path) -> list[Path]:
    found = importlib.util.find_spec("skimage")
    return [] if found is None or found.origin is None else [Path(found.origin).parent / "data" / path]
