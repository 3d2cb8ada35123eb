"""Somebody else's stylizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.blocks.building import check_sizes
from limbeck.networks.given.answers import Answer
from limbeck.networks.given.called_as.base import CalledAs, name_of


@final
class AsStylizer(CalledAs):
    """Images in, paintings out; of several styles it is told which by a number (N,). See `roles.Stylizer`.

    Args:
        image_range: (low, high) of the images that the module takes and makes.
        styles: Number of styles that it knows; of one it is called with images alone.

    Raises:
        RecipeError: An argument cannot be used.
    """

    role = "stylizer"

    def __init__(self, image_range: Sequence[float] = (-1.0, 1.0), *, styles: int = 1) -> None:
        super().__init__(image_range)
        check_sizes(self, styles=styles)
        self.styles = styles

    def states(self) -> dict[str, Any]:
        """Return what every network states, and its `styles`."""
        return {**super().states(), "styles": self.styles}

    def check_answer(self, module: nn.Module, answer: Answer) -> None:
        """Refuse paintings of another size than the images, or that are not in the module's range."""
        given, made = tuple(answer.given.shape[1:]), tuple(answer.made.shape[1:])
        if made != given:
            raise RecipeError(f"{name_of(module)}: expected paintings {given} (C, H, W) as the images, found {made}")
        self.check_images(module, answer)

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return paintings (N, 3, H, W) in [-1, 1] of images (N, 3, H, W), in the styles of these numbers (N,)."""
        numbers = (label,) if label is not None and self.styles > 1 else ()
        return self.to_ours(module, self.tensor(module, module(self.to_theirs(value), *numbers)))
