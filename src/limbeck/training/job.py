"""What a training is given: everything that the engine needs, and what watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.data.base import Augmentation, Images
from limbeck.methods.base import Method
from limbeck.tasks.base import Task
from limbeck.training.listeners import Listener, Terminal
from limbeck.training.options import Training
from limbeck.training.teacher_cache import TeacherCache
from limbeck.training.watching import Monitor
from limbeck.types import Kind
from limbeck.weighting.base import Weighting


@dataclass(frozen=True)
class Job:
    """Everything that a training needs; can be sent to another process.

    Attributes:
        method: What to train, on the CPU; or a function that makes it, for networks that cannot be sent to another
            process (spectral normalisation).
        task: Makes the method's batches.
        images: The training data.
        training: The options.
        weighting: Weighs the losses.
        seed: Draws everything random.
        folder: Where checkpoints and the final state go.
        identity: A checkpoint with another identity belongs to another training and is refused.
        augmentation: Applied to the images, or None.
        monitor: Called every `training.evaluate_every` steps, or None.
        cache: What the teacher says to the training images, computed beforehand, or None.
        kinds: The data's `kinds`: how the fields that it brings move with an image.
        listeners: Told how it goes, in its first process.
        log_every: Steps between two entries of a loss in the history.
        title: What listeners call it.
        accelerator: "auto", "cpu", "cuda" or "mps".
    """

    method: Method | Callable[[], Method]
    task: Task
    images: Images
    training: Training
    weighting: Weighting
    seed: int
    folder: Path
    identity: str = ""
    augmentation: Augmentation | None = None
    monitor: Monitor | None = None
    cache: TeacherCache | None = None
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    listeners: Sequence[Listener] = field(default_factory=lambda: (Terminal(),))
    log_every: int = 50
    title: str = "training"
    accelerator: str = "auto"

    @property
    def final(self) -> Path:
        """The file that holds the finished training's state."""
        return self.folder / "final.safetensors"
