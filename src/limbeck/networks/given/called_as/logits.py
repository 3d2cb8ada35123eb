"""Roles whose networks look at images and give logits of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from limbeck.errors import require
from limbeck.networks.given.answers import Answer, check_logits, log_of_probabilities
from limbeck.networks.given.called_as.base import LooksAtImages, name_of

Outputs = Literal["logits", "probabilities"]


class GivesLogits(LooksAtImages):
    """A role in which the module takes images and gives one number for each class.

    Args:
        image_range: (low, high) of the images that the module takes.
        image_shape: (C, H, W) of one image of the data. Null for any.
        classes: Number of classes K, or 0.
        mean: What the module wants subtracted from images in [0, 1], one number a channel, instead of an image_range.
        std: What it then wants them divided by.
        image_size: Height and width at which the module sees images; null leaves them at the size of the data.
        outputs: "logits", or "probabilities" of a module that ends in a softmax: then their logarithm is taken.

    Raises:
        RecipeError: An argument cannot be used.
    """

    def __init__(
        self,
        image_range: Sequence[float] = (-1.0, 1.0),
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
        outputs: Outputs = "logits",
    ) -> None:
        super().__init__(image_range, image_shape, classes, mean=mean, std=std, image_size=image_size)
        require("outputs", outputs in get_args(Outputs), "logits or probabilities", outputs)
        self.outputs = outputs

    def check_answer(self, module: nn.Module, answer: Answer) -> None:
        """Refuse probabilities that were said to be logits."""
        if self.outputs == "logits":
            check_logits(name_of(module), answer, offered=True)

    def logits(self, module: nn.Module, output: Tensor) -> Tensor:
        """Return the logits (N, K, ...) of what the module returned.

        Raises:
            RecipeError: They were said to be probabilities and are not.
        """
        return output if self.outputs == "logits" else log_of_probabilities(name_of(module), output)
