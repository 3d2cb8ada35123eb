"""Somebody else's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.networks.given.answers import Answer
from limbeck.networks.given.called_as.base import logits_of, name_of
from limbeck.networks.given.called_as.logits import GivesLogits, Outputs
from limbeck.networks.handling.tap import Tap


@final
class AsClassifier(GivesLogits):
    """Images in, logits out; see `roles.Classifier`.

    Args:
        image_range: (low, high) of the images that the module takes.
        image_shape: (C, H, W) of one image of the data. Null for any.
        classes: Number of classes K; 0 where nobody needs to know.
        features: Path of the module whose output `features` returns.
        mean: What the module wants subtracted from images in [0, 1], one number a channel, instead of an image_range.
        std: What it then wants them divided by.
        image_size: Height and width at which the module sees images; null leaves them at the size of the data.
        outputs: "logits", or "probabilities" of a module that ends in a softmax: then their logarithm is taken.

    Raises:
        RecipeError: An argument cannot be used.
    """

    role = "classifier"

    def __init__(
        self,
        image_range: Sequence[float] = (-1.0, 1.0),
        image_shape: Sequence[int] | None = None,
        classes: int = 0,
        *,
        features: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        image_size: int | None = None,
        outputs: Outputs = "logits",
    ) -> None:
        super().__init__(image_range, image_shape, classes, mean=mean, std=std, image_size=image_size, outputs=outputs)
        self._features = features

    def check(self, module: nn.Module) -> None:
        """Refuse a path of features that the module does not have."""
        if self._features is not None:
            Tap(module, [self._features])  # raises when there is no such module

    def check_answer(self, module: nn.Module, answer: Answer) -> None:
        """Refuse what is no row of numbers for each image, one for each class, or is no logits."""
        made = tuple(answer.made.shape)
        if len(made) != 2 or (self.classes and made[1] != self.classes):
            expected = f"logits (N, {self.classes or 'K'})"
            hint = f"; say classes: {made[1]}" if len(made) == 2 else ""
            raise RecipeError(f"{name_of(module)}: expected {expected}, found an output of {made}{hint}")
        super().check_answer(module, answer)

    def __call__(self, module: nn.Module, value: Tensor, label: Tensor | None) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W) in [-1, 1]."""
        return self.logits(module, self.tensor(module, logits_of(self.look(module, value))))

    def features(self, module: nn.Module, image: Tensor) -> Tensor:
        """Return the features (N, D) of images (N, C, H, W): maps are averaged over rows and columns."""
        if self._features is None:
            raise RecipeError(f"{name_of(module)}: say by `features` which module's output its features are")
        with Tap(module, [self._features]) as tap:
            self.look(module, image)
        found = tap[self._features]
        return found.flatten(2).mean(2) if found.ndim > 2 else found
