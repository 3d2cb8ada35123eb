"""The degradation that the data's own files have been through: real noise, or another camera's fewer pixels."""

from __future__ import annotations

from typing import Never, final

from torch import Tensor

from limbeck.data.base import DEGRADED, Degradation
from limbeck.errors import DataError, RecipeError, require
from limbeck.types import Batch


@final
class AsGiven(Degradation):
    """Takes the degraded images from the data, such as `PhotoCrops` and a `PhotoSet` with a folder `degraded`.

    Args:
        scale: How many times smaller they are; 1 for noise, blur or artefacts.

    Raises:
        RecipeError: `scale` is below 1.
    """

    given = True

    def __init__(self, scale: int = 1) -> None:
        require("AsGiven.scale", scale >= 1, "a whole number of at least 1", scale)
        self.scale, self.main_metric = scale, "psnr_y" if scale > 1 else "psnr"

    def of(self, batch: Batch, whole: Tensor, seed: Tensor) -> Tensor:
        """Return the field `degraded` of the batch.

        Raises:
            DataError: The data has none, or images of another size.
        """
        given = batch.fields.get(DEGRADED)
        if given is None:
            raise DataError(
                "AsGiven: expected data with a degraded form of each image, found none; give PhotoCrops a folder"
                " `degraded`"
            )
        wanted = tuple(side // self.scale for side in whole.shape[2:])
        if tuple(given.shape[2:]) != wanted:
            raise DataError(
                f"AsGiven.scale: expected degraded images of {wanted} pixels (H, W), {self.scale} times fewer than"
                f" those of whole ones, found {tuple(given.shape[2:])}"
            )
        return given

    def __call__(self, image: Tensor, seed: Tensor) -> Never:
        """Refuse to make what has to be given.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError("AsGiven: expected degraded images beside the whole ones, found whole ones alone")
