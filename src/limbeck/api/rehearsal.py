"""The first step of a student, taken beforehand on the CPU: what cannot learn from the data says so at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, RecipeError, in_a_line
from limbeck.methods.base import Method
from limbeck.recipe.plan import ArmRecipe, Recipe, losses_of
from limbeck.training.feed import Feed, Material
from limbeck.types import Batch, Update
from limbeck.weighting.schedule import Schedule

SAMPLES = 8  # the most of a batch that the first step is rehearsed with


def take_a_step(recipe: Recipe) -> None:
    """Compute the losses of the first step of every arm that trains; nothing moves.

    Raises:
        RecipeError: They cannot be computed, or move nobody.
    """
    data, task = recipe.data.build(), recipe.task.build()
    images = data.split("train")
    for name, arm in recipe.arms().items():
        if arm.training is None:
            continue
        with torch.random.fork_rng(devices=[]):
            method = _assembled(arm, recipe.teacher_of(name)).train()
            count = min(SAMPLES, arm.training.batch, len(images))
            feed = Feed(Material(images, task, kinds=data.kinds), method.draws(), seed=0, batch=count)
            _rehearse(name, arm, method, next(feed.steps(0, 1)))


def _assembled(arm: ArmRecipe, teacher: ArmRecipe | None) -> Method:
    """Return the method with copies of the networks on the CPU, in its own precision."""
    networks, teacher_networks = (None if each is None else _networks(each) for each in (arm, teacher))
    assert networks is not None
    try:
        return arm.assemble(networks, teacher_networks)
    except LimbeckError as error:
        raise RecipeError(f"distill: {error}") from error


def _networks(arm: ArmRecipe) -> dict[str, nn.Module]:
    parts = {"student": arm.network, **arm.networks}
    return {name: part.build().cpu() for name, part in parts.items()}


def _rehearse(name: str, arm: ArmRecipe, method: Method, batch: Batch) -> None:
    weights = {**losses_of(arm.method), **arm.weights}
    on = {loss for loss, weight in weights.items() if (weight.weight if isinstance(weight, Schedule) else weight) > 0}
    try:
        for update in method.updates(batch, 0):
            losses = _computed(update, on)
            if losses and not any(loss.requires_grad for loss in losses):
                raise RecipeError(
                    f"expected losses that have a gradient for the {update.player}, found none; does it run under"
                    " torch.no_grad?"
                )
    except LimbeckError as error:
        raise RecipeError(f"distill: {name}: {error}") from error


def _computed(update: Update, on: set[str]) -> list[Tensor]:
    """Return the losses of an update that have a weight."""
    found = []
    for short, loss in update.losses.items():
        name = f"{update.player}.{short}"
        if name not in on:
            continue
        try:
            value = loss if isinstance(loss, Tensor) else loss()
        except LimbeckError as error:
            raise RecipeError(f"{name}: {error}") from error
        except Exception as error:  # whatever somebody's own networks raise
            raise RecipeError(
                f"{name} cannot be computed: {in_a_line(error)}; do the networks fit the data?"
            ) from error
        if not value.isfinite():
            raise RecipeError(f"{name} is {value.item()} in the first step")
        found.append(value)
    return found
