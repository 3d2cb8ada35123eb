"""The rehearsal of a recipe: everything is built once, so that what cannot work shows before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.baselines.base import Fitted
from limbeck.data.base import Data
from limbeck.errors import LimbeckError, in_a_line
from limbeck.methods.base import Method
from limbeck.networks.given.external import External
from limbeck.networks.roles import Discriminator, Segmenter, segments, stated
from limbeck.recipe.needs import check_needs
from limbeck.recipe.parts import Mistakes, Part
from limbeck.recipe.plan import ArmRecipe, Recipe, losses_of
from limbeck.tasks.base import Task
from limbeck.training.feed import together
from limbeck.training.teacher_cache import check_stored
from limbeck.weighting.schedule import Schedule


def rehearse(recipe: Recipe) -> None:
    """Build everything once, so that what cannot be built or does not fit shows before any training.

    Raises:
        RecipeError: With one line for each of them.
    """
    mistakes = Mistakes()
    with torch.random.fork_rng(devices=[]):
        if isinstance(recipe.features, Part):
            _build(recipe.features, mistakes)
        stage = _Stage(_build(recipe.data, mistakes), _build(recipe.task, mistakes), mistakes)
        for name, part in recipe.baselines.items():
            stage.fit(f"baselines.{name}", _build(part, mistakes))
        for name, arm in recipe.arms().items():
            networks, method = _assemble(arm, recipe.teacher_of(name), mistakes)
            augmentation = None if arm.augmentation is None else _build(arm.augmentation, mistakes)
            if networks["student"] is not None:
                built = networks["student"], method, augmentation
                stage.play(name, arm, built, control=name in recipe.controls)
                if name in recipe.students and method is not None:
                    stage.remind(name, arm, method)
            for own, network in networks.items() if name not in recipe.controls else ():  # theirs are the students'
                key = f"{name}.network" if own == "student" else f"{name}.networks.{own}"
                if isinstance(network, Discriminator) and segments(networks["student"]):
                    stage.judge_masks(key, network, networks["student"])
                else:
                    stage.fit(key, network, beside=own != "student")
    mistakes.report(recipe.name)


def _assemble(arm: ArmRecipe, teacher: ArmRecipe | None, mistakes: Mistakes) -> tuple[dict[str, Any], Method | None]:
    """Try to put an arm together, and return its networks by name and its method; None for what cannot be built."""
    networks = _networks(arm, mistakes)
    teacher_networks = None if teacher is None else _networks(teacher, mistakes)
    if (
        arm.training is None
        or None in networks.values()
        or (teacher_networks is not None and None in teacher_networks.values())
    ):
        return networks, None
    try:
        return networks, arm.assemble(networks, teacher_networks)
    except LimbeckError as error:
        mistakes.note(str(error))
        return networks, None


@dataclass(frozen=True)
class _Stage:
    """Data and task, None where they cannot be built, by which networks and methods are checked."""

    data: Data | None
    task: Task | None
    mistakes: Mistakes

    def play(self, name: str, arm: ArmRecipe, built: tuple[nn.Module, Method | None, Any], *, control: bool) -> None:
        """Note why an arm, with its student, method and augmentation as they are built, cannot do the task."""
        student, method, augmentation = built
        if self.task is None:
            return
        try:
            self.task.check(student, method, arm.weights)
            together(self.task, {} if method is None else method.draws(), augmentation)
            if self.data is not None:  # a feature network learns as a classifier does, whatever the task
                given = self.data.gives() if name == "features" else self.task.gives(self.data)
                check_needs(method, given, self.data)
            arm.weigh()
            if method is not None:
                self._weigh(name, arm, method, control=control)
                if arm.training is not None and arm.training.teacher_cache and method.has("teacher"):
                    check_stored(method, self.task, arm.training, augmentation)
        except LimbeckError as error:
            self.mistakes.add(name, str(error))

    def _weigh(self, name: str, arm: ArmRecipe, method: Method, *, control: bool) -> None:
        """Note terms that have a weight and are not there, players that learn nothing, and optimisers of nobody."""
        on = {loss: (w.weight if isinstance(w, Schedule) else w) > 0 for loss, w in arm.weights.items()}
        for loss in (loss for loss, weighed in on.items() if weighed and loss not in method.terms and not control):
            why = method.left_out.get(loss, "there is no such term here: it was taken away, or needs a teacher")
            self.mistakes.add(f"{name}.weights.{loss}", why)
        heard = [loss for loss, weight in losses_of(arm.method).items() if on.get(loss, weight > 0)]
        if not any(loss in method.terms for loss in heard if loss.startswith("student.")):
            self.mistakes.add(
                name, "there is nothing to learn: expected a term of the student that is there and weighed"
            )
        for player in arm.training.optimizers if arm.training else ():
            if player not in method.players():
                known = ", ".join(method.players())
                self.mistakes.add(f"{name}.training.optimizers.{player}", f"no such player; there is {known}")

    def remind(self, name: str, arm: ArmRecipe, method: Method) -> None:
        """Note terms that a recipe spells out for a student and that nobody weighs: the method has them off."""
        given = arm.method.description.get("init_args", {}).get("terms")
        off = [loss for loss, weight in losses_of(arm.method).items() if weight == 0 and loss not in arm.weights]
        for loss in given if isinstance(given, Mapping) else ():
            if loss in off and loss in method.terms:
                self.mistakes.add(f"{name}.weights.{loss}", "missing; this term is off unless it has a weight")

    def fit(self, key: str, network: Any, *, beside: bool = False) -> None:
        """Note where a network does not take the shapes and classes of data and task.

        `beside` is for a network that a method has beside the arm's own.
        """
        if self.data is not None and self.task is not None:
            self._fit_shapes(key, network, self.data, self.task, beside=beside)
            self._fit_classes(key, network, self.data)

    def _fit_shapes(self, key: str, network: Any, data: Data, task: Task, *, beside: bool) -> None:
        image, latent = getattr(network, "image_shape", None), getattr(network, "latent_shape", None)
        drawn = task.draws().get("latent")
        if latent is not None and drawn is not None and prod(latent) != prod(drawn.shape):
            self.mistakes.add(key, f"expected latents {drawn.shape} as the task draws them, found {latent}")
        elif isinstance(network, External):
            image = _called(key, network, data, task, self.mistakes, beside=beside) or image
        if image is not None and image != data.image_shape:
            self.mistakes.add(key, f"expected images {data.image_shape} (C, H, W) as in {data.name}, found {image}")
        channels = data.image_shape[0]
        if isinstance(network, Segmenter) and network.channels != channels:
            expected = f"images of {channels} channels as in {data.name}"
            self.mistakes.add(key, f"expected {expected}, found {network.channels}")

    def _fit_classes(self, key: str, network: Any, data: Data) -> None:
        of_pixels = segments(network) or (isinstance(network, Fitted) and network.truth == "mask")
        told, known = len(data.mask_classes if of_pixels else data.classes), getattr(network, "classes", 0)
        if 0 < known < told or (of_pixels and 0 < told < known):  # a class too many would be told for some pixel
            self.mistakes.add(key, f"expected the {told} classes of {data.name}, found {known}")

    def judge_masks(self, key: str, network: Discriminator, student: nn.Module) -> None:
        """Note where a discriminator does not take an image together with the probabilities of its pixels' classes."""
        shape, condition = getattr(network, "image_shape", None), getattr(network, "condition", None) or 0
        classes: int | None = stated(student, "classes")
        if self.data is None or shape is None or classes is None:
            return
        image, found = self.data.image_shape[0], shape[0] + condition
        if found != image + classes:
            expected = f"{image + classes} channels, the image's {image} and one for each of {classes} classes"
            self.mistakes.add(key, f"expected {expected}, found {found}")


def _called(
    key: str, network: External, data: Data, task: Task, mistakes: Mistakes, *, beside: bool
) -> tuple[int, ...] | None:
    """Call somebody else's network, which need not state its shapes, and return (C, H, W) of what a generator makes.

    None for other roles, and where it cannot be called, which is noted.
    """
    latent = task.draws().get("latent")
    makes, classifies = network.role == "generator", network.role in ("classifier", "segmenter")
    if beside:  # it is shown what the method makes: where there is a latent, images like the data's
        known = latent is not None and (classifies or network.role == "discriminator")
    else:
        known = classifies or (makes and latent is not None)
    if not known:
        return None
    given, shape = ("latents", latent.shape) if makes and latent else ("images", data.image_shape)
    label = (
        torch.zeros(2, dtype=torch.long) if network.classes and task.training_identity().get("conditional") else None
    )
    try:
        with torch.no_grad():  # it was built for this
            output: Tensor = network.eval()(_two(given, shape), label)
    except LimbeckError as error:
        mistakes.add(key, str(error))
    except Exception as error:  # whatever the owner's module raises
        name = type(network.module).__name__
        mistakes.add(key, f"{name} cannot be called with {given} of shape {(2, *shape)}: {in_a_line(error)}")
    else:
        return tuple(output.shape[1:]) if makes else None
    return None


def _networks(arm: ArmRecipe, mistakes: Mistakes) -> dict[str, Any]:
    return {name: _build(part, mistakes) for name, part in {"student": arm.network, **arm.networks}.items()}


def _two(kind: str, shape: tuple[int, ...]) -> Tensor:
    """Return two samples: latents of a standard normal, or images in [-1, 1], as a network may check its range."""
    return torch.randn(2, *shape) if kind == "latents" else torch.rand(2, *shape) * 2 - 1


def _build(part: Part[Any], mistakes: Mistakes) -> Any:
    try:
        return part.build()
    except LimbeckError as error:
        mistakes.note(str(error))
        return None
