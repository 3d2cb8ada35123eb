"""data/embedded_photos.py: what is cut out, and what is left out."""

from __future__ import annotations

import numpy as np
import torch

from limbeck.data.base import to_float
from limbeck.data.embedded_photos import EmbeddedPhotos
from limbeck.data.image_files import opened, planes


def test_cut_outs_are_the_photographs_own_pixels_and_none_is_of_one_colour() -> None:
    data = EmbeddedPhotos(size=48, stride=48)
    train = data.split("train")
    image = train.read(torch.arange(len(train))).image
    assert image is not None
    coffee = planes(opened(data.folder / "coffee.png", 3), 3)[:, :48, :48]
    assert torch.equal(image[0], to_float(torch.from_numpy(np.asarray(coffee))))
    rows = image.flatten(2)
    assert bool((rows.amax(2) > rows.amin(2)).any(1).all())
    grid = {"coffee.png": (400, 600), "motorcycle_left.png": (500, 741), "hubble_deep_field.jpg": (872, 1000)}
    grid |= {"gravel.png": (512, 512), "grass.png": (512, 512), "retina.jpg": (1411, 1411)}
    whole = sum((height // 48) * (width // 48) for height, width in grid.values())
    assert whole - 100 < len(rows) < whole  # the black corners around the retina
