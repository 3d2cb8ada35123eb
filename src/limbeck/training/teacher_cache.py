"""What the teacher says to the images of a training, computed once and stored.

A teacher that only looks at the images of a step says the same to them in every run: its outputs are stored by the
content of teacher and data. Images that are augmented are stored in as many views as a training sees
(`training.views`), which are the same for every seed and every student. The outputs are those that the teacher would
give in the training's own arithmetic, and in the precision in which it would give them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.data.base import Augmentation
from limbeck.errors import CheckpointError, RecipeError
from limbeck.ground.files import clear_half_written
from limbeck.ground.locks import held
from limbeck.ground.progress import Progress
from limbeck.ground.rows import RowsWriter, read_rows
from limbeck.methods.base import Method
from limbeck.networks.handling.tap import Tap
from limbeck.tasks.base import Task
from limbeck.training.arithmetic import Arithmetic
from limbeck.training.feed import Material
from limbeck.training.options import Training

CHUNK = 128  # images at a time: more are no faster on a processor


@dataclass(frozen=True)
class TeacherCache:
    """Outputs of a teacher: a row for each image, and those of a view behind those of the view before it.

    Attributes:
        outputs: (views * images, ...) for each module path of the teacher; "" is its output.
        size: Number of images.
    """

    outputs: Mapping[str, Tensor]
    size: int

    def of(self, index: Tensor, view: Tensor) -> dict[str, Tensor]:
        """Return the outputs for images (N,) in these views (N,); where one view is stored, it is that of all."""
        views = len(next(iter(self.outputs.values()))) // self.size
        rows = view % views * self.size + index
        return {path: output[rows] for path, output in self.outputs.items()}


def check_stored(method: Method, task: Task, training: Training, augmentation: Augmentation | None) -> None:
    """Refuse to store what a teacher says where it depends on more than the data's images.

    Raises:
        RecipeError: The method's teacher sees something else, or augmented images that are new at every step.
    """
    for what, alone in ((method, method.teacher_paths()), (task, not task.draws())):
        if not alone:
            raise RecipeError(
                "training.teacher_cache: expected a method whose teacher sees nothing but the data's images, found"
                f" {type(what).__name__}; leave it out"
            )
    if augmentation is not None and training.views is None:
        raise RecipeError(
            "training.views: expected a number of augmented views of each image, as the teacher_cache is to hold what"
            " the teacher says to them, found null; give as many as there are epochs, or fewer"
        )


def kept(file: Path, size: int, fill: Callable[[Path], None]) -> TeacherCache:
    """Return the cache of so many images in a file, filled first where there is none.

    Raises:
        CheckpointError: The file is damaged, or could not be written.
    """
    if not file.exists():
        with held(file.with_name(f".{file.stem}.lock"), "teacher's outputs"):
            if not file.exists():  # as somebody else may have filled it by now
                clear_half_written(file.parent, file.name)
                try:
                    fill(file)
                except OSError as error:
                    raise CheckpointError(
                        f"{file}: could not be written ({error.strerror}); free space, or leave out teacher_cache"
                    ) from error
    try:
        return TeacherCache(read_rows(file), size)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it, and the teacher is asked again") from error


@torch.no_grad()
def fill(file: Path, material: Material, teacher: nn.Module, paths: Sequence[str], arithmetic: Arithmetic) -> None:
    """Write what the teacher says to every view of every image; runs on the teacher's device."""
    device = next(iter(teacher.parameters()), torch.empty(0)).device
    size, views = len(material.images), material.views or 1
    parts = [(view, part) for view in range(views) for part in torch.split(torch.arange(size), CHUNK)]
    arithmetic.network(teacher.eval())
    with (
        Tap(teacher, [path for path in paths if path]) as tap,
        RowsWriter(file, views * size) as rows,
        Progress("teacher's outputs", len(parts)) as progress,
    ):
        for number, (view, part) in enumerate(parts, 1):
            image = arithmetic.batch(material.seen(part, torch.full_like(part, view)).to(device)).image
            assert image is not None
            with arithmetic.running(device.type):
                output = teacher(image)
            rows.add({path: (tap[path] if path else output).cpu() for path in paths})
            progress.update(number, {})
