"""An arm of a run: one network, one way to train it, one seed; trained once and then known by its content.

An arm lives in a folder named after the hash of everything that decides its weights: its part of the recipe with the
files and the code of one's own that it names, its seed, its teacher's hash, the data's fingerprint and the version of
Limbeck. As long as the hash is the same the arm
is reused; a training that was interrupted goes on from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

import limbeck
from limbeck.errors import CheckpointError, RecipeError
from limbeck.ground.files import clear_half_written
from limbeck.ground.locks import held
from limbeck.ground.progress import say
from limbeck.ground.randomness import seed_of
from limbeck.methods.base import Method
from limbeck.metrics.base import FeatureExtractor
from limbeck.networks.given.weights import load_weights, weights_hash
from limbeck.recipe.arm import brings_weights
from limbeck.recipe.content import content_of
from limbeck.recipe.parts import canonical
from limbeck.recipe.reader import ArmRecipe
from limbeck.run.setting import Setting, Watcher
from limbeck.training import checkpoint
from limbeck.training.arithmetic import Arithmetic
from limbeck.training.feed import Material
from limbeck.training.job import Job, Observation, Place
from limbeck.training.launch import fit
from limbeck.training.teacher_cache import TeacherCache, check_stored, fill, kept


@dataclass(frozen=True)
class Arm:
    """One network with one way to train it.

    Attributes:
        name: "teacher", "student", "control"...
        recipe: Its part of the recipe.
        setting: What it shares with the other arms.
        seed: Draws its initial weights and everything random in its training.
        teacher: The arm it learns from, or None.
        extractor: What its validation metrics compare by, or None.
    """

    name: str
    recipe: ArmRecipe
    setting: Setting
    seed: int
    teacher: Arm | None = None
    extractor: FeatureExtractor | None = field(default=None, compare=False)

    @cached_property
    def hash(self) -> str:
        """The hash of everything that decides the weights."""
        described = self.recipe.description()
        return canonical(
            {
                "recipe": described,
                "content": content_of(described) | dict(self.setting.code),
                "seed": self.seed,
                "teacher": self.teacher.hash if self.teacher else None,
                **({"task": task} if (task := dict(self.setting.task.training_identity())) else {}),
                **self._given(),
                "data": self.setting.data.split("train").fingerprint(),
                "version": limbeck.__version__,
            }
        )

    def _given(self) -> dict[str, Any]:
        """Return the weights that the recipe knows by a name alone: those that a network brings."""
        content = {"given": weights_hash(self.network())} if self.loaded else {}
        for name, part in {"student": self.recipe.network, **self.recipe.networks}.items():
            if brings_weights(part, head=False) and not (self.loaded and name == "student"):
                with _seeded(self.seed, name):
                    content[f"given {name}"] = weights_hash(part.build())
        return content

    @property
    def folder(self) -> Path:
        """Where the arm lives."""
        return self.setting.store / f"{self.name.replace(' ', '-')}-seed{self.seed}-{self.hash[:12]}"

    def chain(self) -> list[Arm]:
        """Return its teacher's teachers, its teacher and itself, in the order in which they train."""
        return [*(self.teacher.chain() if self.teacher else []), self]

    @property
    def _place(self) -> Place:
        return Place(self.folder, self.hash, self.setting.accelerator)

    @property
    def title(self) -> str:
        """What a person who watches sees of it."""
        return f"{self.name} (seed {self.seed})"

    @property
    def loaded(self) -> bool:
        """Whether its weights come from elsewhere, so that there is nothing to train."""
        return self.recipe.training is None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.loaded or (self.folder / "final.safetensors").exists()

    def fit(self) -> Arm:
        """Train the arm unless it is trained already, and return it."""
        if self.loaded:
            say(f"{self.name}: its weights are given")
        elif self.done or not self._train():
            say(f"{self.title}: reused, its recipe has not changed")
        return self

    def _train(self) -> bool:
        """Train the arm as soon as nobody else does; return False where somebody else has by then."""
        with held(self._place.lock, self.title):
            if self.done:
                return False
            clear_half_written(self.folder)
            fit(self.job())
            return True

    @cached_property
    def state(self) -> dict[str, Any]:
        """The state that the training left, without what only a training needs.

        Raises:
            CheckpointError: It is not trained yet, or the file is damaged or another arm's.
        """
        file = self.folder / "final.safetensors"
        if not file.exists():
            raise CheckpointError(f"{self.name} (seed {self.seed}) is not trained yet: no {file}; use `limbeck train`")
        try:
            state = checkpoint.load(file)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; delete it, and the training goes on from its last checkpoint") from error
        if state["identity"] != self.hash:
            raise CheckpointError(f"{file}: belongs to another training; delete {self.folder} to train it again")
        return {key: value for key, value in state.items() if key != "optimizers"}

    @property
    def best_step(self) -> int | None:
        """The step of the checkpoint that was best on the validation split; None when that is the last, or unknown.

        It is known where `training.evaluate_every` looks at more than the last step.
        """
        best = None if self.loaded else self.state.get("best")
        return None if best is None or best["step"] == self.state["step"] else int(best["step"])

    def network(self, *, best: bool = False) -> nn.Module:
        """Return a new copy of the trained network, as it is exported: averaged, in evaluation mode.

        Args:
            best: Take the checkpoint that was best on the validation split, not the last.
        """
        network: nn.Module = self.recipe.network.build()
        if not self.loaded:
            from_best = best and self.best_step is not None
            network.load_state_dict(self.state["best"]["student"] if from_best else self.state["student"])
        elif self.recipe.load is not None:
            load_weights(network, self.recipe.load)
        return network.eval()

    @cached_property
    def answering(self) -> nn.Module:
        """The trained network, one for all who are compared with it: a task may remember what it answers."""
        return self.network()

    def player(self, name: str) -> nn.Module:
        """Return a new copy of another player's trained network, e.g. the "discriminator"."""
        if name not in self.recipe.networks or self.loaded:
            raise RecipeError(f"{self.name}: expected a trained {name!r} of it, found none; train the teacher here")
        network: nn.Module = self.recipe.networks[name].build()
        weights, prefix = self.state["method"], f"{name}."
        network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        return network.eval()

    def networks(self) -> dict[str, nn.Module]:
        """Return new copies of all its trained networks by name; a loaded arm's are as they were given."""
        if self.loaded:
            return {"student": self.network(), **{name: part.build() for name, part in self.recipe.networks.items()}}
        trained = {key.split(".")[0] for key in self.state["method"]}
        return {"student": self.network(), **{n: self.player(n) for n in self.recipe.networks if n in trained}}

    @property
    def history(self) -> list[dict[str, float]]:
        """Rows of losses and validation metrics over steps; empty for a loaded network."""
        return [] if self.loaded else list(self.state["history"])

    @property
    def moments(self) -> list[dict[str, Any]]:
        """What it made at some steps of its training ("step", "samples"); empty where nothing was looked at."""
        return [] if self.loaded else list(self.state.get("moments", []))

    @property
    def alarms(self) -> list[str]:
        """What went wrong while training, though no loss showed it."""
        return [] if self.loaded else [f"{self.title}, {line}" for line in self.state["alarms"]]

    @property
    def seconds(self) -> float | None:
        """The time its training took; None for a loaded network."""
        return None if self.loaded else float(self.state["seconds"])

    @property
    def machines(self) -> list[str]:
        """What it was trained on; empty for a loaded network, and where it was not noted."""
        return [] if self.loaded else list(self.state.get("machines", []))

    def job(self) -> Job:
        """Return the training of this arm, with new networks."""
        assert self.recipe.training is not None
        return Job(
            method=self.method,
            material=self._material(self._cache()),
            training=self.recipe.training,
            weighting=self.recipe.weigh(),
            seed=self.seed,
            place=self._place,
            observation=Observation(self.title, monitor=Watcher(self.setting, self.extractor)),
        )

    def _material(self, cache: TeacherCache | None = None) -> Material:
        augmentation = self.recipe.augmentation.build() if self.recipe.augmentation else None
        data, task = self.setting.data, self.setting.task
        views = self.recipe.training.views if self.recipe.training and augmentation else None
        return Material(data.split("train"), task, augmentation, cache, data.kinds, views)

    def _cache(self) -> TeacherCache | None:
        """Return what the teacher says to the training images, where the recipe wants it computed once."""
        training, teacher = self.recipe.training, self.teacher
        if training is None or not training.teacher_cache or teacher is None:
            return None
        method = self.method()
        material, network = self._material(), teacher.network().to(self.setting.device)
        check_stored(method, material.task, training, material.augmentation)
        seen = None if self.recipe.augmentation is None else dict(self.recipe.augmentation.description)
        sight = None if seen is None else [seen, content_of(seen), training.views]
        paths = list(method.teacher_paths())
        arithmetic = Arithmetic.of(training, method, self.setting.device.type)
        content = [teacher.hash, material.images.fingerprint(), paths, sight, asdict(arithmetic)]
        file = self.setting.store / f"teacher-cache-{canonical(content)[:12]}.safetensors"
        return kept(file, len(material.images), lambda path: fill(path, material, network, paths, arithmetic))

    def method(self) -> Method:
        """Return the method with new networks, and the teacher's trained ones."""
        networks: dict[str, nn.Module] = {}
        for name, part in {"student": self.recipe.network, **self.recipe.networks}.items():
            with _seeded(self.seed, name):
                networks[name] = part.build()
        teacher_networks = None if self.teacher is None else self.teacher.networks()
        with _seeded(self.seed, "method"):  # adapters and memories draw their initial values too
            return self.recipe.assemble(networks, teacher_networks)


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Draw initial weights from (seed, name), so that student and control begin alike."""
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, name, "initial weights"))
        yield
