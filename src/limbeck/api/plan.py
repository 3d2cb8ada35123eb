"""The plan of a run made in Python: the parts of its arms, and the arms themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from limbeck.api.given import described, has_role, network_part, path_of
from limbeck.api.optimizers import Optimizers
from limbeck.api.optimizers import described as described_optimizer
from limbeck.api.options import Options
from limbeck.data.base import Augmentation, Data
from limbeck.errors import RecipeError, require
from limbeck.methods.base import Method, Terms
from limbeck.networks.handling.copying import copied
from limbeck.recipe.catalogue import arguments, network_arguments
from limbeck.recipe.parts import Part
from limbeck.recipe.plan import ArmRecipe, losses_of
from limbeck.tasks.base import Task
from limbeck.training.options import Training
from limbeck.weighting.schedule import Schedule

USUAL = {"ema": 0.99, "schedule": "cosine"}  # where the defaults of `Training` are another's choice


@dataclass(frozen=True)
class Plan:
    """What the arms of a run have in common.

    Attributes:
        task: What the networks are for.
        data: The data.
        method: How they learn.
        options: What the user says of method, networks and training.
        terms: What the user says of the method's terms.
        optimizers: What the user says of the optimisers.
        augmentation: What changes training images at random, or None.
    """

    task: Task
    data: Data
    method: type[Method]
    options: Options
    terms: Terms
    optimizers: Optimizers = field(default_factory=Optimizers)
    augmentation: Augmentation | None = None

    def teacher(self, network: nn.Module) -> ArmRecipe:
        """Return the arm of a trained teacher, with those of the networks that it was trained with."""
        beside = {name: net for name, net in self._networks().items() if name.startswith("teacher_")}
        networks = {name.removeprefix("teacher_"): network_part(net) for name, net in beside.items()}
        return ArmRecipe(self.part(network), self._method(), training=None, networks=networks)

    def student(self, network: nn.Module, steps: int, batch: int, weights: Mapping[str, float | Schedule]) -> ArmRecipe:
        """Return the arm of a student, or with no weights but the method's that of its control.

        Raises:
            RecipeError: The method needs another network, or an option of the training cannot be used.
        """
        method = self._method()
        networks = {name: net for name, net in self._networks().items() if not name.startswith("teacher_")}
        players = {name.partition(".")[0] for name in losses_of(method)} & {"student", *networks}
        factories = self.optimizers.of(players)
        told = {**USUAL, **self.options.training}
        try:
            training = Training(steps, batch, **{**told, "optimizers": factories})
        except RecipeError as error:
            raise RecipeError(f"distill: {str(error).removeprefix('training.')}") from error
        change = self.augmentation
        return ArmRecipe(
            network=self.part(network),
            method=method,
            training=training,
            networks={name: network_part(net) for name, net in networks.items()},
            training_description={
                **{"steps": steps, "batch": batch, **described(told)},
                "optimizers": {name: described(described_optimizer(make)) for name, make in factories.items()},
            },
            weights=weights,
            augmentation=None if change is None else Part(known(change), partial(copied, change)),
        )

    def part(self, network: nn.Module) -> Part[nn.Module]:
        """Return a network as the task calls it."""
        if has_role(network):
            return network_part(network)
        view = self.options.view
        return network_part(network, partial(self.task.called, data=self.data, **view), called=described(view))

    def _method(self) -> Part[Method]:
        """Return the method, which gets copies of what has a state: every arm begins with what was given."""
        takes = arguments(self.method).keys() - network_arguments(self.method).keys()
        of_task = {name: value for name, value in self.task.method_arguments(self.data).items() if name in takes}
        usual = self.task.terms() if self.method.__name__ == self.task.method else {}
        given = {**of_task, **self.options.method, "terms": {**usual, **self.terms}}
        known = {"class_path": path_of(self.method), "init_args": described(given)}
        return Part(known, partial(_made, self.method, given), self.method)

    def _networks(self) -> dict[str, nn.Module]:
        """Return what the method takes beside student and teacher, as the user gives it, else as the task does.

        Raises:
            RecipeError: Nobody gives one that it needs.
        """
        takes = network_arguments(self.method)
        of_task: dict[str, Any] = {n: v for n, v in self.task.method_arguments(self.data).items() if n in takes}
        found = {**of_task, **self.options.networks}
        for name, argument in takes.items():
            there = name in found or name in ("student", "teacher") or not argument.required
            require(f"distill: {name}", there, f"a network, as {self.method.__name__} needs it", None)
        return found


def known(value: Any) -> dict[str, Any]:
    """Return what an object with plain attributes is known by."""
    return {"class_path": f"{type(value).__module__}.{type(value).__qualname__}", "init_args": described(vars(value))}


def _made(method: type[Method], given: Mapping[str, Any], **networks: nn.Module) -> Method:
    """Return the method; a function of its own so that it can be sent to another process."""
    return method(**networks, **copied(dict(given)))
