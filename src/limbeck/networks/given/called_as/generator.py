"""Somebody else's generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn

from limbeck.networks.given.answers import Answer
from limbeck.networks.given.called_as.base import CalledAs, viewed


@final
class AsGenerator(CalledAs):
    """Latents in, images out; see `roles.Generator`.

    Args:
        image_range: (low, high) of the images that the module makes.
        image_shape: (C, H, W) of one image of the data; a flat output is viewed so. Null for any.
        classes: Number of classes; with classes it is called with (latent, label).
        latent_shape: Shape in which it takes one latent, e.g. [128, 1, 1]; null leaves it as it is.

    Raises:
        RecipeError: An argument cannot be used.
    """

    role = "generator"

    def __init__(
        self,
        image_range: Sequence[float] = (-1.0, 1.0),
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        *,
        latent_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(image_range, image_shape, classes)
        self.latent_shape = None if latent_shape is None else tuple(latent_shape)

    def states(self) -> dict[str, Any]:
        """Return what every network states, and its `latent_shape`."""
        return {**super().states(), "latent_shape": self.latent_shape}

    def check_answer(self, module: nn.Module, answer: Answer) -> None:
        """Refuse images that are not in the module's range."""
        self.check_images(module, answer)

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return images (N, C, H, W) in [-1, 1] from latents (N, ...)."""
        latent = viewed(module, value, "latent_shape", self.latent_shape)
        labels = (label,) if label is not None and self.classes else ()
        return self.to_ours(module, self.tensor(module, module(latent, *labels)))
