"""The contract of a task: what a model is for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from limbeck.data.base import Data, Images, Split
from limbeck.errors import RecipeError
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.networks.roles import stated
from limbeck.terms.base import Term
from limbeck.types import Batch, Draw


@dataclass(frozen=True)
class Picture:
    """A grid of images for the report. Columns of different arms at the same place show the same input.

    Attributes:
        title: What is shown.
        images: (N, C, H, W) in [-1, 1].
        columns: Images a row.
    """

    title: str
    images: Tensor
    columns: int = 8


class Task(ABC):
    """What goes in, what comes out, how good it is and what to draw. It holds no training logic.

    What `limbeck.distill` has to know where nobody says it, it says too: which method teaches it, by which terms, and
    how somebody's own network is called.

    Attributes:
        method: The name of the method that teaches it; None if it has to be said.
        answers: What a network answers, in a word: "images", "logits"...
    """

    room: ClassVar[str] = "tasks"
    method: ClassVar[str | None] = None
    answers: ClassVar[str] = "images"

    def draws(self) -> Mapping[str, Draw]:
        """Return what has to be drawn for every training step, by name."""
        return {}

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch as methods of this task expect it (e.g. the drawn latent as `latent`)."""
        return batch

    def gives(self, data: Data) -> tuple[str, ...]:
        """Return the fields that the prepared batches of this data have."""
        return data.gives()

    def training_identity(self) -> Mapping[str, Any]:
        """Return what of this task decides, beside an arm's own recipe, what a network learns; as plain JSON.

        An arm is known by it: with another degradation, or another picture under the same name, it is trained anew.
        """
        return {}

    def check(self, network: nn.Module, method: Any, weights: Mapping[str, Any]) -> None:
        """Refuse, before anything is trained, an arm that could not be measured as this task is told to.

        Args:
            network: The arm's student.
            method: The method that trains it; None if nothing does.
            weights: The weights that the recipe gives to losses.

        Raises:
            RecipeError: It could not be measured.
        """
        return

    def terms(self) -> Mapping[str, Term | LogitLoss | FeatureLoss]:
        """Return what its `method` is to have beside its default terms, or in their place, by "player.term"."""
        return {}

    def method_arguments(self, data: Data) -> Mapping[str, Any]:
        """Return what a method that teaches it can be told by task and data, its networks among them, by argument."""
        return {}

    def called(self, module: nn.Module, data: Data, **view: Any) -> nn.Module:
        """Return somebody's own module as this task calls its networks.

        Args:
            module: It.
            data: The data.
            view: How it sees images, such as its `image_range`: see `networks.given.called_as`.

        Raises:
            RecipeError: It cannot be called so, or an argument cannot be used.
        """
        raise RecipeError(f"{type(self).__name__}: expected a network with a role, found {type(module).__name__}")

    def image_shape(self, network: nn.Module) -> tuple[int, ...] | None:
        """Return (C, H, W) of the images that a network is for, or None where it does not say."""
        shape: tuple[int, ...] | None = stated(network, "image_shape")
        return shape

    def answer(self, data: Data, *inputs: Tensor) -> tuple[int, ...]:
        """Return the shape of one sample of what a network has to answer to inputs like those of `example`."""
        return tuple(inputs[0].shape[1:])

    @abstractmethod
    def example(self, data: Data, count: int) -> tuple[Tensor, ...]:
        """Return inputs for `count` samples, as the network is called: what costs are measured on."""

    @abstractmethod
    def evaluate(
        self,
        network: nn.Module,
        data: Data,
        *,
        split: Split,
        seed: int,
        extractor: Any = None,
        teacher: nn.Module | None = None,
        samples: int | None = None,
    ) -> dict[str, float]:
        """Return named metrics of `network` (in eval mode, on its device) against `split` of the data.

        Names carry their features, e.g. "fid[fashion-cnn]". `seed` draws the inputs, the same for every arm.
        `teacher` adds the fidelity to it on the same inputs. `samples` overrides the number of samples.
        """

    def floor(self, data: Data, *, extractor: Any = None) -> dict[str, float]:
        """Return the metrics of real training images against the reference split: nothing can be expected below."""
        return {}

    def alarm(self, network: nn.Module, data: Data) -> str | None:
        """Return a warning when `network` shows a failure that losses do not show, such as a collapse."""
        return None

    def chance(self, data: Data) -> dict[str, float]:
        """Return what the same answer to every image reaches on the reference split, and a little luck, by metric.

        It is for metrics of which more is better. A network that reaches no more has learnt nothing.
        """
        return {}

    @abstractmethod
    def preview(self, network: nn.Module, data: Data, seed: int) -> list[Picture]:
        """Return pictures of what the network does."""

    def glimpse(self, network: nn.Module, data: Data) -> Tensor | None:
        """Return a few images (N, C, H, W) in [-1, 1] of what a network in training makes, or None if it makes none.

        They are of the same inputs every time, so that a report can show how they changed.
        """
        return self.preview(network, data, 0)[0].images[:8] if self.answers == "images" else None

    def ready(self, network: nn.Module) -> nn.Module:
        """Return a network as this task calls it, such as a classical technique with all that it needs to be told."""
        return network

    def references(self, data: Data, seed: int) -> Mapping[str, list[Picture]]:
        """Return further pictures for the report, by the name that stands above them, such as inputs and truth.

        Their titles are those of `preview`, so that they stand beside those of the arms.
        """
        return {}

    @property
    @abstractmethod
    def directions(self) -> Mapping[str, str]:
        """Return for each metric's base name (before any "[") "lower", "higher" or "none" (only described)."""

    @property
    @abstractmethod
    def main_metric(self) -> str:
        """Return the base name of the metric that a verdict is about, e.g. "fid"."""


__all__ = ["Batch", "Data", "Images", "Picture", "Split", "Task"]
