"""What an answer shows of the network that gave it: a range of images that is not its own, or logits that are none.

An error is raised only where there is no doubt; an untrained network may still answer anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from limbeck.errors import RecipeError
from limbeck.ground.progress import say_once

SQUASHED = {"Sigmoid": (0.0, 1.0), "Hardsigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}
USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))  # ranges in which networks make images
# What carries numbers elsewhere and leaves them as they are.
CARRIED = {"View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Clone"}
CARRIED |= {"ToCopy", "Alias", "AsStrided", "Select", "PixelShuffle", "Cat"}
FAR, MANY = 0.1, 0.25  # of the width of a range, and of the values: more is no overshoot of a trained network
USED = 0.8  # of the width of a range: what the images of a trained network fill of theirs, in a whole batch
FLAT = 0.02  # of the width of a range: whose images fill no more of it than that are in another


@dataclass(frozen=True)
class Answer:
    """What a network answered to a batch of the data.

    Attributes:
        given: What it was called with (N, ...).
        made: What it answered (N, ...), in evaluation mode.
        trained: Whether it brings trained weights.
        graph: The autograd node of another answer of it; None where there was no gradient.
    """

    given: Tensor
    made: Tensor
    trained: bool
    graph: Any = None

    def ends_in(self, past: int = 0) -> str:
        """Return the name of the function that the numbers come out of, such as "Tanh"; "" where that is not known.

        Args:
            past: How many operations after it are ours.
        """
        node, ours = self.graph, past
        while node is not None and (ours > 0 or _name(node) in CARRIED):
            following = node.next_functions
            node, ours = (following[0][0] if following else None), ours - 1
        return "" if node is None else _name(node)


@runtime_checkable
class Checked(Protocol):
    """A network that can tell whether its answers are what it is said to answer."""

    def check_answer(self, answer: Answer) -> None:
        """Refuse an answer that cannot be.

        Raises:
            RecipeError: It is one.
        """


def check_images(name: str, answer: Answer, image_range: tuple[float, float], *, converted: bool) -> None:
    """Refuse images that cannot be in the range that a network is said to make them in.

    Args:
        name: Names the network.
        answer: What it made, as images in [-1, 1].
        image_range: (low, high) of what the module makes.
        converted: Whether three operations, a difference, a product and a difference, brought it to [-1, 1].

    Raises:
        RecipeError: They cannot.
    """
    low, high = image_range
    last = answer.ends_in(past=3 if converted else 0)
    if last in SQUASHED and SQUASHED[last] != image_range:
        _refuse(
            name, image_range, SQUASHED[last], f"a {last.lower()} at its end, which gives {_listed(SQUASHED[last])}"
        )
    if last in SQUASHED:
        return
    image = (answer.made.detach().double() + 1) * ((high - low) / 2) + low
    least, most = (float(value) for value in image.aminmax())
    fits = next((usual for usual in USUAL if usual != image_range and _fills(least, most, usual)), None)
    if last == "Relu" and low < 0:
        _refuse(name, image_range, fits, "a relu at its end, which gives nothing below 0")
    if _strange(image, image_range, answer.trained):
        found = f"values from {least:.3g} to {most:.3g} in {len(image)} images"
        if answer.trained and fits:
            _refuse(name, image_range, fits, found)
        say_once(f"{name}: its image_range is {_listed(image_range)}, but it made {found}; is its range another?")


def _strange(image: Tensor, image_range: tuple[float, float], trained: bool) -> bool:
    """Return whether images, in a network's own range, look as if that were another."""
    low, high = image_range
    reach = FAR * (high - low)
    least, most = image.aminmax()
    if not trained:  # it can still make anything
        return bool(low < 0 <= least < most)
    outside = ((image < low - reach) | (image > high + reach)).double().mean()
    return bool((low < 0 and least > FAR * low) or outside > MANY or most - least < FLAT * (high - low))


def check_logits(name: str, answer: Answer, *, offered: bool) -> None:
    """Refuse probabilities in place of logits (N, K, ...): a softmax of them is nearly the same for all classes.

    Args:
        name: Names the network.
        answer: What it made.
        offered: Whether the network has an argument `outputs`.

    Raises:
        RecipeError: They are probabilities.
    """
    found = answer.made.detach().float()
    if found.ndim < 2 or found.shape[1] < 2:
        return
    positive = bool((found >= 0).all())
    if positive and bool(((found.sum(1) - 1).abs() < 1e-3).all()):
        way = ", or say `outputs: probabilities`, and their logarithm is taken" if offered else ""
        raise RecipeError(
            f"{name}: expected logits, found probabilities (none is negative, and they sum to 1 over the classes);"
            f" take the softmax at its end away{way}"
        )
    if answer.ends_in() == "Sigmoid" or (answer.trained and positive and bool((found <= 1).all())):
        say_once(f"{name}: expected logits, found numbers in [0, 1]; if it ends in a sigmoid, take that away")


def log_of_probabilities(name: str, output: Tensor) -> Tensor:
    """Return logits of probabilities (N, K, ...): their logarithm.

    Raises:
        RecipeError: They are no probabilities.
    """
    output = output.float()
    with torch.no_grad():
        least, off = float(output.min()), float((output.sum(1) - 1).abs().max())
    if least < -1e-3 or off > 1e-2:
        found = f"a smallest one of {least:.3g}, and sums over the classes that are off 1 by {off:.3g}"
        raise RecipeError(f"{name}: expected probabilities, as `outputs` says, found {found}; say `outputs: logits`")
    return output.clamp(min=torch.finfo(output.dtype).tiny).log()


def _refuse(name: str, image_range: Sequence[float], fits: Sequence[float] | None, found: str) -> None:
    mend = f"say image_range: {_listed(fits)}" if fits else "say by image_range in which range its images are"
    raise RecipeError(f"{name}: expected images in its image_range {_listed(image_range)}, found {found}; {mend}")


def _fills(least: float, most: float, usual: tuple[float, float]) -> bool:
    """Return whether values look like images in a usual range: within it but for an overshoot, and all over it."""
    low, high = usual
    width = high - low
    return least > low - FAR * width and most < high + FAR * width and most - least > USED * width


def _listed(image_range: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:g}' for value in image_range)}]"


def _name(node: Any) -> str:
    """Return the name of an autograd node's operation: "Tanh" of "TanhBackward0"."""
    return str(node.name()).rpartition("::")[2].partition("Backward")[0]
