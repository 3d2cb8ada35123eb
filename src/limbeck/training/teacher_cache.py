"""What the teacher says to the images of a training, computed once and stored.

A teacher that only looks at the images of a step says the same to them in every run: its outputs are stored by the
content of teacher and data. Images that are not augmented are known by their index, and one pass over them serves
the whole training. Augmented ones are known by their position in it, which the seed decides, for as many epochs as
are asked for; after them the teacher runs again. Either way the outputs are those that the teacher would give in the
training's own arithmetic, and in the precision in which it would give them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.data.base import Images
from limbeck.errors import CheckpointError
from limbeck.ground.files import clear_half_written
from limbeck.ground.locks import held
from limbeck.ground.progress import Progress
from limbeck.networks.handling.tap import Tap
from limbeck.training import checkpoint
from limbeck.training.arithmetic import Arithmetic
from limbeck.training.feed import Feed
from limbeck.types import Batch

CHUNK = 250


@dataclass(frozen=True)
class TeacherCache:
    """Outputs of a teacher, a row a sample.

    Attributes:
        outputs: (rows, ...) for each module path of the teacher; "" is its output.
        by_index: Whether a row is a sample's index in the data, not its position in the training.
    """

    outputs: Mapping[str, Tensor]
    by_index: bool

    def of(self, batch: Batch, positions: Tensor) -> dict[str, Tensor]:
        """Return the outputs for a batch whose samples have these positions in the training; {} for later ones."""
        rows = batch.index if self.by_index else positions
        if rows is None or any(int(rows.max()) >= len(output) for output in self.outputs.values()):
            return {}
        return {path: output[rows] for path, output in self.outputs.items()}


def kept(file: Path, fill: Callable[[], TeacherCache]) -> TeacherCache:
    """Return the cache in a file, filled first where there is none.

    Raises:
        CheckpointError: The file is damaged, or could not be written.
    """
    if not file.exists():
        with held(file.with_name(f".{file.stem}.lock"), "teacher's outputs"):
            if not file.exists():  # as somebody else may have filled it by now
                clear_half_written(file.parent, file.name)
                cache = fill()
                checkpoint.save(file, {"outputs": dict(cache.outputs), "by_index": cache.by_index})
    try:
        state = checkpoint.load(file)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it, and the teacher is asked again") from error
    return TeacherCache(state["outputs"], state["by_index"])


def of_images(images: Images, teacher: nn.Module, paths: Sequence[str], arithmetic: Arithmetic) -> TeacherCache:
    """Return the teacher's outputs for all images as they are; runs on the teacher's device."""
    parts = torch.split(torch.arange(len(images)), CHUNK)
    batches = (images.read(part) for part in parts)
    return TeacherCache(_outputs(batches, len(parts), teacher, paths, arithmetic), by_index=True)


def of_steps(feed: Feed, steps: int, teacher: nn.Module, paths: Sequence[str], arithmetic: Arithmetic) -> TeacherCache:
    """Return the teacher's outputs for the augmented images of the first steps; runs on the teacher's device."""
    return TeacherCache(_outputs(feed.steps(0, steps), steps, teacher, paths, arithmetic), by_index=False)


@torch.no_grad()
def _outputs(
    batches: Iterator[Batch], count: int, teacher: nn.Module, paths: Sequence[str], arithmetic: Arithmetic
) -> dict[str, Tensor]:
    device = next(iter(teacher.parameters()), torch.empty(0)).device
    inner = [path for path in paths if path]
    found: dict[str, list[Tensor]] = {path: [] for path in paths}
    arithmetic.network(teacher.eval())
    with Tap(teacher, inner) as tap, Progress("teacher's outputs", count) as progress:
        for number, batch in enumerate(batches, 1):
            image = arithmetic.batch(batch.to(device)).image
            assert image is not None
            with arithmetic.running(device):
                output = teacher(image)
            for path, parts in found.items():
                parts.append((tap[path] if path else output).cpu())
            progress.update(number, {})
    return {path: torch.cat(parts) for path, parts in found.items()}
