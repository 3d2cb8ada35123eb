"""The losses that a recipe can choose between: of logits, and of features.

Losses are pure functions. Those that a recipe can choose, and those that own something, are also classes: a
`LogitLoss` or a `FeatureLoss` in the file of its function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn

from limbeck.errors import RecipeError, require
from limbeck.types import Draw


class LogitLoss(nn.Module, ABC):
    """How a student's logits follow a teacher's. A subclass is final, and computes nothing but a pure function.

    A recipe chooses it by name: `logits: {class_path: Kd, init_args: {temperature: 4.0}}`.

    Attributes:
        needs_label: Whether `forward` needs the labels. A loss around another one needs what that one needs.
        couples: Whether it compares the samples of a batch with one another: micro-batches change such a loss.
    """

    room: ClassVar[str] = "logit losses"

    needs_label: bool = False
    couples: bool = False

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the loss of each sample (N,), or a scalar where it couples the samples of a batch.

        Args:
            student: Logits (N, K).
            teacher: Logits (N, K) of the same images, without gradient.
            label: Classes (N,), int64; never None where `needs_label`.

        Raises:
            RecipeError: The shapes differ.
        """


class FeatureLoss(nn.Module, ABC):
    """How a student's features follow a teacher's. What it owns (adapters, variances, memory) trains with the student.

    A recipe chooses it by name and says which modules' outputs it compares:
    `features: {class_path: Hint, init_args: {paths: {layer2: layer2}}}`. It is built before the networks are known,
    so what it owns is made in `fit_to`, which the method calls once with the shapes that the networks show.

    Attributes:
        paths: Module path in the student for each module path of the teacher, {student path: teacher path}.
        couples: Whether it compares the samples of a batch with one another: micro-batches change such a loss.
    """

    room: ClassVar[str] = "feature losses"

    paths: Mapping[str, str]
    couples: ClassVar[bool] = False
    needs_label: ClassVar[bool] = False
    needs_index: ClassVar[bool] = False

    def fit_to(self, student: Sequence[tuple[int, ...]], teacher: Sequence[tuple[int, ...]]) -> None:
        """Check these shapes of one sample's features, (C, H, W) or (D,), and make what the loss owns for them.

        Raises:
            RecipeError: The features of a pair cannot be compared.
        """
        pairs(self, student, teacher, "any")

    def draws(self) -> Mapping[str, Draw]:
        """Return what the loss needs drawn for every sample, by name; the method passes it on in `drawn`."""
        return {}

    @abstractmethod
    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        label: Tensor | None = None,
        index: Tensor | None = None,
        drawn: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the loss, a scalar.

        Args:
            student: Features of each path, (N, C, H, W) or (N, D).
            teacher: The same of the teacher, without gradient.
            label: Classes (N,), int64, of images, or (N, H, W) of pixels where those are to be told; never None where
                `needs_label`.
            index: Positions (N,) in the data set, int64; never None where `needs_index`.
            drawn: What `draws` declared.
        """


def check_paths(loss: nn.Module, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the paths of a feature loss.

    Raises:
        RecipeError: There are none.
    """
    require(f"{type(loss).__name__}.paths", len(paths) > 0, "{student path: teacher path}", dict(paths))
    return dict(paths)


def pairs(
    loss: FeatureLoss,
    student: Sequence[tuple[int, ...]],
    teacher: Sequence[tuple[int, ...]],
    kind: Literal["maps", "alike", "any"],
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the two shapes of each path.

    Args:
        loss: Whose paths they are.
        student: Shape of one sample's features at each path.
        teacher: The same of the teacher.
        kind: "maps": both are (C, H, W). "alike": both are, or both are (D,). "any": each is one or the other.

    Raises:
        RecipeError: The shapes are of another kind.
    """
    found = list(zip(map(tuple, student), map(tuple, teacher), strict=True))
    expected = {
        "maps": "feature maps (C, H, W)",
        "alike": "two feature maps (C, H, W) or two vectors (D,)",
        "any": "feature maps (C, H, W) or vectors (D,)",
    }[kind]
    for (path, goal), (mine, theirs) in zip(loss.paths.items(), found, strict=True):
        ranks = {len(mine), len(theirs)}
        if not ranks <= ({3} if kind == "maps" else {1, 3}) or (kind == "alike" and len(ranks) == 2):
            raise RecipeError(
                f"{type(loss).__name__} {path!r} -> {goal!r}: expected {expected}, found {mine} and {theirs};"
                " choose other layers"
            )
    return found
