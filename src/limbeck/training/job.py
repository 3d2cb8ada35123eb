"""What a training is given: everything that the engine needs, and who observes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.methods.base import Method
from limbeck.training.feed import Material
from limbeck.training.listeners import Listener, Terminal
from limbeck.training.options import Training
from limbeck.training.watching import Monitor
from limbeck.weighting.base import Weighting


@dataclass(frozen=True)
class Place:
    """Where a training runs and what it leaves behind.

    Attributes:
        folder: Where checkpoints and the final state go.
        identity: A checkpoint with another identity belongs to another training and is refused.
        accelerator: "auto", "cpu", "cuda" or "mps".
    """

    folder: Path
    identity: str = ""
    accelerator: str = "auto"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def lock(self) -> Path:
        """The file whose lock whoever trains here holds."""
        return self.folder / ".lock"

    @property
    def final(self) -> Path:
        """The file that holds the finished training's state."""
        return self.folder / "final.safetensors"


@dataclass(frozen=True)
class Observation:
    """Who observes a training.

    Attributes:
        title: What listeners call it.
        listeners: Told how it goes, in its first process.
        monitor: Called every `training.evaluate_every` steps, or None.
        log_every: Steps between two entries of a loss in the history.
    """

    title: str = "training"
    listeners: Sequence[Listener] = field(default_factory=lambda: (Terminal(),))
    monitor: Monitor | None = None
    log_every: int = 50


@dataclass(frozen=True)
class Job:
    """Everything that a training needs; can be sent to another process.

    Attributes:
        method: What to train, on the CPU; or a function that makes it, for networks that cannot be sent to another
            process (spectral normalisation).
        material: What its batches are made of.
        training: The options.
        weighting: Weighs the losses.
        seed: Draws everything random.
        place: Where it runs and what it leaves behind.
        observation: Who observes it.
    """

    method: Method | Callable[[], Method]
    material: Material
    training: Training
    weighting: Weighting
    seed: int
    place: Place
    observation: Observation = field(default_factory=Observation)
