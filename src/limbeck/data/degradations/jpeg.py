"""The degradation of artefact removal: JPEG."""

from __future__ import annotations

import io
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limbeck.data.base import Degradation, to_float
from limbeck.errors import RecipeError


@final
class Jpeg(Degradation):
    """Compresses images as JPEG files of a low quality and reads them again.

    Args:
        quality: From 1 to 95, in libjpeg's sense.

    Raises:
        RecipeError: `quality` is out of its range.
    """

    main_metric = "psnr_y"

    def __init__(self, quality: int = 10) -> None:
        if not 1 <= quality <= 95:
            raise RecipeError(f"Jpeg.quality: expected a whole number from 1 to 95, found {quality}")
        self.quality = quality

    def __call__(self, image: Tensor, seed: Tensor) -> Tensor:
        """Return images of the same shape, grey or RGB; nothing is drawn."""
        return torch.stack([self._compressed(one) for one in image])

    def _compressed(self, image: Tensor) -> Tensor:
        levels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        picture = Image.fromarray(levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, 2))
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=self.quality)
        found = torch.from_numpy(np.array(Image.open(file)))
        return to_float(found[None] if found.ndim == 2 else found.permute(2, 0, 1))
