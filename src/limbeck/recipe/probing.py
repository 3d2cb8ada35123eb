"""The probe of an arm: before anything is trained its network answers a batch of the data, and it takes one real step.

What the recipe's rehearsal cannot know shows here: the networks are those that will train, in their own precision, with
their weights, in training mode, on the device and at the batch size of the recipe; and their answers are looked at. All
is built for the purpose and thrown away, so nobody's statistics, optimisers or random numbers have moved afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.base import Data
from limbeck.errors import LimbeckError, RecipeError, TrainingError, in_a_line
from limbeck.methods.base import Method
from limbeck.networks.given.answers import Answer, Checked
from limbeck.networks.given.weights import load_weights
from limbeck.recipe.arm import brings_weights
from limbeck.recipe.plan import ArmRecipe
from limbeck.tasks.base import Task
from limbeck.training.engine import Engine
from limbeck.training.feed import Material
from limbeck.training.job import Job, Place
from limbeck.training.options import device_of
from limbeck.training.replicas import One

SAMPLES = 16  # whose answers are looked at
FEW = 2  # whose gradient tells what a network ends in
# What torch says, and how to mend it.
HINTS = {
    "more than 1 value per channel": "make training.batch larger: batch norm cannot train on one value",
    "does not require grad": "does a forward pass run under torch.no_grad?",
    "out of memory": "make training.batch smaller, or raise training.micro_batches",
}


@dataclass(frozen=True)
class Probe:
    """What every arm is probed with.

    Attributes:
        data: The data.
        task: The task.
        accelerator: "auto", "cpu", "cuda" or "mps".
    """

    data: Data
    task: Task
    accelerator: str = "auto"

    def arm(self, name: str, arm: ArmRecipe, teacher: ArmRecipe | None = None) -> None:
        """Look at what the arm's network answers, and take its first step if it is to be trained.

        Args:
            name: The arm's name, under which a recipe has it.
            arm: The arm.
            teacher: The arm that teaches it, if any; where that is still to be trained, as it begins.

        Raises:
            LimbeckError: An answer cannot be, or the step cannot be taken.
        """
        device = device_of(self.accelerator)
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            with told(f"{name}.network"):
                trained = arm.training is None or arm.load is not None or brings_weights(arm.network, head=False)
                self._answer(_loaded(arm), device, trained=trained)
            if arm.training is not None:
                with told(name, "the first step fails"):
                    self._step(arm, teacher, device)

    def baseline(self, name: str, network: nn.Module) -> None:
        """Look at what somebody else's network answers that is only evaluated; ours and techniques have no need.

        Raises:
            LimbeckError: An answer cannot be.
        """
        if any(isinstance(part, Checked) for part in network.modules()):
            with torch.random.fork_rng([]), told(f"baselines.{name}"):
                self._answer(network, device_of(self.accelerator), trained=True)

    def _answer(self, network: nn.Module, device: torch.device, *, trained: bool) -> None:
        network = network.to(device).eval()
        inputs = [value.to(device) for value in self.task.example(self.data, SAMPLES)]
        with torch.no_grad():
            made, given = _called(self.task.ready(network), inputs)
            one, _ = _called(self.task.ready(network), [value[:1] for value in inputs])
        for part, (asked, answered) in given.items():
            answer = Answer(asked, answered, trained, _graph(part, self.task.ready(network), inputs))
            part.check_answer(answer)
        self._check(made, inputs)
        if one.shape != made[:1].shape:  # the last batch of an evaluation can be one
            expected, found = tuple(made[:1].shape), tuple(one.shape)
            raise RecipeError(f"expected {expected} for a batch of one, found {found}; does it squeeze() its answer?")
        if trained and not made.isfinite().all():
            raise RecipeError("expected numbers, found NaN or infinity in what it answers; check its weights")

    def _check(self, made: Any, inputs: list[Tensor]) -> None:
        """Refuse an answer of another shape than the task expects; more classes than the data has will do."""
        kind, shape, asked = self.task.answers, self.task.answer(self.data, *inputs), tuple(inputs[0].shape[1:])
        found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        if found == (len(inputs[0]), *shape) or 0 in shape:
            return
        if kind == "logits" and isinstance(made, Tensor) and made.ndim == 2 and made.shape[1] > shape[0]:
            return
        found = found[1:] if isinstance(found, tuple) else found
        raise RecipeError(f"expected {kind} {shape} of {self.data.name} for an input {asked}, found {found}")

    def _step(self, arm: ArmRecipe, teacher: ArmRecipe | None, device: torch.device) -> None:
        """Take the first step of a training, in one process that does the work of the first of several."""
        assert arm.training is not None
        batch = arm.training.batch // arm.training.processes
        training = replace(arm.training, batch=batch, processes=1, workers=0, compile=False)
        augmentation = None if arm.augmentation is None else arm.augmentation.build()
        material = Material(self.data.split("train"), self.task, augmentation, kinds=self.data.kinds)
        with tempfile.TemporaryDirectory() as folder:
            job = Job(_assembled(arm, teacher), material, training, arm.weigh(), 0, Place(Path(folder)))
            engine = Engine(One(device), job)
            try:
                engine.advance(next(engine.feed.steps(0, 1)))
            except TrainingError:  # what an untrained teacher says can be beyond all bounds
                if teacher is None or teacher.training is None:
                    raise
            engine.student()  # the validation looks at a copy, so there has to be one


@contextmanager
def told(key: str, what: str = "cannot be run") -> Iterator[None]:
    """Name the key in whatever goes wrong, and turn what torch or somebody's own module raises into one line.

    Args:
        key: Whose mistake it is.
        what: What went wrong, if it is no `LimbeckError` that says so.

    Raises:
        LimbeckError: Something went wrong.
    """
    try:
        yield
    except RecipeError as error:
        said = str(error)
        raise RecipeError(said if said.startswith(f"{key}: ") else f"{key}: {said}") from error
    except LimbeckError:
        raise
    except Exception as error:  # whatever somebody's own networks raise
        text = in_a_line(error)
        hint = next((hint for said, hint in HINTS.items() if said in str(error)), "do the networks fit the data?")
        raise RecipeError(f"{key}: {what}: {text}; {hint}") from error


def _loaded(arm: ArmRecipe) -> nn.Module:
    """Return the arm's network, with its weights where it is not trained."""
    network: nn.Module = arm.network.build()
    if arm.training is None and arm.load is not None:
        load_weights(network, arm.load)
    return network


def _assembled(arm: ArmRecipe, teacher: ArmRecipe | None) -> Method:
    return arm.assemble(_networks(arm), None if teacher is None else _networks(teacher))


def _networks(arm: ArmRecipe) -> dict[str, nn.Module]:
    return {"student": _loaded(arm), **{name: part.build() for name, part in arm.networks.items()}}


def _called(network: Callable[..., Any], inputs: list[Tensor]) -> tuple[Any, Mapping[Checked, tuple[Tensor, Tensor]]]:
    """Return what a network answers, and what those in it that can tell were given and answered."""
    found: dict[Checked, tuple[Tensor, Tensor]] = {}
    parts = [part for part in network.modules() if isinstance(part, Checked)] if isinstance(network, nn.Module) else []
    hooks = [part.register_forward_hook(lambda m, given, made: found.update({m: (given[0], made)})) for part in parts]
    try:
        return network(*inputs), found
    finally:
        for hook in hooks:
            hook.remove()


def _graph(part: Checked, network: Callable[..., Any], inputs: list[Tensor]) -> Any:
    """Return the autograd node of what a part answers, where its forward pass can be differentiated."""
    try:
        with torch.enable_grad():
            _, given = _called(network, [value[:FEW] for value in inputs])
    except RuntimeError:  # it changes something in place that then may not be changed
        return None
    return given[part][1].grad_fn
