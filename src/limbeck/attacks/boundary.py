"""Boundary samples: inputs at which a classifier cannot decide between two classes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, final, get_args

import torch
from torch import Tensor

from limbeck.attacks.base import Bounds, check_radius, input_gradient, per_sample
from limbeck.errors import RecipeError, require
from limbeck.ground.described import Described

Output = Callable[[Tensor], Tensor]
"""From an input (N, ...) to logits (N, K), or to the logit of the second of two classes, (N,) or (N, 1)."""
Threshold = Literal["top_two", "half"]

_HALVINGS = 30  # a line cannot be divided more finely in float32


class Boundary(NamedTuple):
    """What a search found.

    Attributes:
        samples: (N, ...), detached, in the input's dtype: at the boundary, or the input where that was not reached.
        reached: (N,), bool.
    """

    samples: Tensor
    reached: Tensor


class BoundarySearch(Described, ABC):
    """Moves inputs to where a classifier's decision changes.

    It knows nothing of models: whoever makes `output` decides which network it asks, teacher or student, and in which
    mode. Searching from stored samples refreshes them.
    """

    room: ClassVar[str] = "boundary searches"

    @abstractmethod
    def __call__(self, output: Output, input: Tensor) -> Boundary:
        """Return the samples at the boundary, and which of them reached it.

        No gradient reaches a parameter, and none that is there is touched.

        Args:
            output: The classifier, differentiable with respect to its input.
            input: (N, ...), within the bounds.

        Raises:
            RecipeError: The input is out of bounds, or the output has another shape than the threshold needs or no
                gradient with respect to the input.
        """


@final
class DeepFoolBoundary(BoundarySearch):
    """Linearised steps across the nearest boundary (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599), then bisection.

    As long as the class is still that of the input, y, a step goes to the nearest of the linearised boundaries with
    other classes j, and a little beyond (algorithm 2):

        x ← x + (1 + overshoot) |f| / ‖∇f‖² ∇f,  f = z_j - z_y,  j with the smallest |f| / ‖∇f‖

    The line from the input to the first point of another class is then bisected until |p₁ - p₂| of the two most
    likely classes is at most `margin`. An input that is there already is left as it is; one that is not brought to
    another class, or whose classifier jumps over the margin, is returned unchanged and not `reached`.

    It costs `steps` forward and min(classes, K - 1) times as many backward passes, and up to 30 forward passes for
    the bisection, but ends as soon as all samples have arrived.

    Args:
        threshold: "top_two": the two most likely of many classes are equally so, (N, K) logits. "half": the
            probability of a class is 0.5, two classes, given by their logits (N, 2) or by the one logit log p/(1 - p),
            (N,) or (N, 1). For a classifier that gives p itself, pass `lambda x: torch.logit(classifier(x))`.
        margin: The bound of |p₁ - p₂|, in (0, 1).
        steps: How many linearised steps at most, at least 1.
        classes: How many other classes are tried, those most likely at the input, at least 1.
        overshoot: How far a step goes beyond the linearised boundary, as a part of its length, above 0.
        low: Smallest value of the input; null for none.
        high: Largest value of the input; null for none.

    Raises:
        RecipeError: An argument is out of its range.
    """

    def __init__(
        self,
        threshold: Threshold = "top_two",
        *,
        margin: float = 0.02,
        steps: int = 20,
        classes: int = 9,
        overshoot: float = 0.02,
        low: float | None = -1.0,
        high: float | None = 1.0,
    ) -> None:
        require("DeepFoolBoundary.threshold", threshold in get_args(Threshold), "'top_two' or 'half'", threshold)
        require("DeepFoolBoundary.margin", 0 < margin < 1, "a number in (0, 1)", margin)
        require("DeepFoolBoundary.steps", steps >= 1, "at least 1", steps)
        require("DeepFoolBoundary.classes", classes >= 1, "at least 1", classes)
        self.threshold, self.margin, self.steps, self.classes = threshold, margin, steps, classes
        self.overshoot = check_radius(overshoot, "DeepFoolBoundary.overshoot")
        self.bounds = Bounds("DeepFoolBoundary", low, high)

    def __call__(self, output: Output, input: Tensor) -> Boundary:
        """Return the samples at the boundary, and which of them reached it."""
        clean = self.bounds.admit(input)
        start = self._logits(output, clean)
        crossed = self._cross(output, clean, start)
        return self._bisect(output, clean, start, crossed)

    def _cross(self, output: Output, clean: Tensor, start: Tensor) -> Tensor:
        """Return points (N, ...) of another class than at `clean`, or as far towards one as `steps` steps come."""
        label = start.argmax(1)
        count = min(self.classes, start.shape[1] - 1)
        others = start.scatter(1, label[:, None], -math.inf).topk(count, dim=1).indices
        point = clean
        for _ in range(self.steps):
            with torch.enable_grad():
                place = point.detach().requires_grad_()
                logits = self._classified(output(place), place)
                inside = logits.detach().argmax(1) == label
                if not inside.any():
                    break
                step = _to_nearest(logits, place, label, others)
            moved = self.bounds.clamp(point + (1 + self.overshoot) * step)
            point = torch.where(per_sample(inside, point), moved, point)
        return point

    def _bisect(self, output: Output, clean: Tensor, start: Tensor, crossed: Tensor) -> Boundary:
        """Return points at the boundary: `clean` or `crossed` if they are there, else the first found between them."""
        label, end = start.argmax(1), self._logits(output, crossed)
        at_start, at_end = _margin(start) <= self.margin, _margin(end) <= self.margin
        samples, reached = torch.where(per_sample(at_end & ~at_start, clean), crossed, clean), at_start | at_end
        able = end.argmax(1) != label
        near, far = clean.new_zeros(len(clean)), clean.new_ones(len(clean))
        for _ in range(_HALVINGS):
            if bool((reached | ~able).all()):
                break
            middle = (near + far) / 2
            point = torch.lerp(clean, crossed, per_sample(middle, clean))
            logits = self._logits(output, point)
            found = able & ~reached & (_margin(logits) <= self.margin)
            samples, reached = torch.where(per_sample(found, point), point, samples), reached | found
            before = logits.argmax(1) == label
            near, far = torch.where(before, middle, near), torch.where(before, far, middle)
        return Boundary(samples, reached)

    def _logits(self, output: Output, point: Tensor) -> Tensor:
        with torch.enable_grad():  # not no_grad: see `base.loss_at`
            return self._classified(output(point), point).detach()

    def _classified(self, output: Tensor, point: Tensor) -> Tensor:
        """Return logits (N, K), at least float32, after checking that the threshold can be asked of them."""
        single = output.shape in ((len(point),), (len(point), 1))
        classes = 2 if single else output.shape[1] if output.ndim == 2 and len(output) == len(point) else 0
        if self.threshold == "half" and classes != 2:
            expected = "'half' is asked of two classes, (N,), (N, 1) or (N, 2); use 'top_two' for more"
        elif self.threshold == "top_two" and (single or classes < 2):
            expected = "'top_two' is asked of logits (N, K), K of at least 2; use 'half' for one number a sample"
        else:
            wide = output.to(torch.promote_types(output.dtype, torch.float32))
            return torch.stack([-wide.flatten() / 2, wide.flatten() / 2], dim=1) if single else wide
        raise RecipeError(f"DeepFoolBoundary.threshold: {expected}; found an output of shape {tuple(output.shape)}")


def _to_nearest(logits: Tensor, place: Tensor, label: Tensor, others: Tensor) -> Tensor:
    """Return the step (N, ...) to the nearest linearised boundary with one of the `others` (N, J); 0 without slope."""
    own = logits.gather(1, label[:, None]).squeeze(1)
    shortest, best = torch.full_like(own, math.inf).detach(), torch.zeros_like(place)
    for other in others.unbind(1):
        lead = logits.gather(1, other[:, None]).squeeze(1) - own
        slope = input_gradient(lead.sum(), place, "DeepFoolBoundary", again=True)
        steepness = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        length = torch.where(steepness > 0, lead.detach().abs() / steepness, math.inf)
        closer = length < shortest
        shortest = torch.where(closer, length, shortest)
        step = per_sample((length / steepness).to(slope), slope) * slope
        best = torch.where(per_sample(closer, step), step, best)
    return best.detach()


def _margin(logits: Tensor) -> Tensor:
    """Return |p₁ - p₂| of the two most likely classes, (N,) in [0, 1]."""
    top = logits.softmax(1).topk(2, dim=1).values
    return top[:, 0] - top[:, 1]
