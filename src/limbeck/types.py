"""The values that travel between the rooms: `Draw`, `Batch` with the `Kind` of its fields, `Update`.

Shape letters, used in every docstring: N samples in a batch, C channels, H rows, W columns, K classes,
D features. Images are float tensors (N, C, H, W) in [-1, 1] unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, final

import torch
from torch import Tensor

from limbeck.errors import DataError

Loss = Tensor | Callable[[], Tensor]
"""A scalar, or a function that computes it: the function is called only when the loss has a weight."""


VOID = 255
"""The class of a pixel that counts nowhere: nobody said what it is. Class numbers of pixels are below it."""


@dataclass(frozen=True)
class Draw:
    """Something random that a step needs, declared by whoever needs it and drawn by the engine.

    The engine draws it for the *global* batch from (seed, step, name) and gives each process its slice, so
    neither resuming a run nor the number of processes changes what is drawn.

    Attributes:
        shape: Shape of one sample; () for one number a sample.
        kind: "normal" (mean 0, variance 1), "uniform" (in [0, 1)) or "integers" (in [0, high)).
        high: The exclusive upper bound of "integers".
        once: Every sample of the global batch gets the same, drawn once.
    """

    shape: tuple[int, ...] = ()
    kind: Literal["normal", "uniform", "integers"] = "normal"
    high: int = 0
    once: bool = False

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` samples, (count, *shape): float32, or int64 for "integers"."""
        if self.once:
            return replace(self, once=False).sample(1, generator).repeat_interleave(count, dim=0)
        shape = (count, *self.shape)
        if self.kind == "normal":
            return torch.randn(shape, generator=generator)
        if self.kind == "uniform":
            return torch.rand(shape, generator=generator)
        return torch.randint(self.high, shape, generator=generator)


@dataclass(frozen=True)
class Kind:
    """How a field of a batch moves when an augmentation moves the image that it belongs to.

    Attributes:
        moves: "bilinear" for values of pixels (N, C, H, W), such as a depth; "nearest" for classes of pixels
            (N, H, W), between which there is nothing; "alike" for another view of the image (N, C, H, W), to which
            all is done that is done to the image; None for what is no picture, such as a label.
        void: Under "nearest", the class of what comes in from outside of the image.
    """

    moves: Literal["bilinear", "nearest", "alike"] | None = None
    void: int = VOID


KINDS: Mapping[str, Kind] = {
    "image": Kind("bilinear"),
    "target": Kind("bilinear"),
    "mask": Kind("nearest"),
    "label": Kind(),
    "text": Kind(),
    "audio": Kind(),
    "latent": Kind(),
    "index": Kind(),
}
"""The fields that every part of Limbeck knows; a data set says in its `kinds` which others it brings."""


@final
class Batch:
    """Named tensors of N samples, each an attribute: `Batch(image=image, depth=depth).depth`.

    The fields of `KINDS` are None where the data does not have them; there may be others, which a data set brings:

        image: (N, C, H, W), float in [-1, 1].
        label: (N,), int64 class numbers.
        target: What `image` should become (N, C', H', W'), float in [-1, 1].
        mask: (N, H, W), int64 class of each pixel, or `VOID`. All of an image without labels is void.
        text: (N, L), int64 tokens.
        audio: (N, T), float in [-1, 1].
        latent: (N, ...), float.
        index: (N,), int64 position in the data set.

    Args:
        drawn: What was drawn for these samples, by the name under which it was declared.
        teacher_outputs: What the teacher says to `image`, (N, ...) by module path of it ("" is its output), where
            that was stored beforehand.
        fields: The tensors by name; None is left out.

    Raises:
        AttributeError: On reading a field that this batch does not have and that is none of `KINDS`.
    """

    __slots__ = ("drawn", "fields", "teacher_outputs")

    def __init__(
        self,
        *,
        drawn: Mapping[str, Tensor] | None = None,
        teacher_outputs: Mapping[str, Tensor] | None = None,
        **fields: Tensor | None,
    ) -> None:
        if taken := fields.keys() & OWN:
            raise TypeError(
                f"Batch: expected names of fields that it does not have itself, found {', '.join(sorted(taken))}"
            )
        self.fields: Final[Mapping[str, Tensor]] = {name: t for name, t in fields.items() if t is not None}
        self.drawn: Final[Mapping[str, Tensor]] = drawn or {}
        self.teacher_outputs: Final[Mapping[str, Tensor]] = teacher_outputs or {}

    def __getattr__(self, name: str) -> Tensor | None:
        """Return a field."""
        if name.startswith("_"):  # pickle and copy ask for their own names before there are fields
            raise AttributeError(name)
        if name in self.fields or name in KINDS:
            return self.fields.get(name)
        raise AttributeError(f"Batch: expected one of the fields {', '.join({**KINDS, **self.fields})}, found {name!r}")

    def need(self, name: str, who: str) -> Tensor:
        """Return a field that has to be there.

        Args:
            name: The field.
            who: Who needs it, as the user wrote it.

        Raises:
            DataError: The data does not have it.
        """
        if name not in self.fields:
            what = plural([name])
            raise DataError(f"{who}: expected data with {what}, found none; choose a set with {what}")
        return self.fields[name]

    def replace(
        self,
        *,
        drawn: Mapping[str, Tensor] | None = None,
        teacher_outputs: Mapping[str, Tensor] | None = None,
        **fields: Tensor | None,
    ) -> Batch:
        """Return the batch with some of its fields replaced, added, or, by None, left out."""
        return Batch(
            drawn=self.drawn if drawn is None else drawn,
            teacher_outputs=self.teacher_outputs if teacher_outputs is None else teacher_outputs,
            **{**self.fields, **fields},
        )

    def __len__(self) -> int:
        """Return N."""
        return len(next(tensor for part in (self.fields, self.drawn, self.teacher_outputs) for tensor in part.values()))

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with `function` applied to every tensor in it."""
        fields, drawn, teacher_outputs = (
            {name: function(tensor) for name, tensor in part.items()}
            for part in (self.fields, self.drawn, self.teacher_outputs)
        )
        return Batch(drawn=drawn, teacher_outputs=teacher_outputs, **fields)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`."""
        return self.map(lambda t: t.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU can read by itself; the loader of batches calls it."""
        return self.map(lambda t: t.pin_memory())

    def __getitem__(self, part: slice) -> Batch:
        """Return some of the samples, e.g. `batch[:8]`."""
        return self.map(lambda t: t[part])

    def __repr__(self) -> str:
        """Return names and shapes."""
        return f"Batch({', '.join(f'{name}={tuple(t.shape)}' for name, t in self.fields.items())})"


OWN = frozenset(dir(Batch))


def plural(fields: Iterable[str]) -> str:
    """Return names of fields in words: "images, labels and masks"."""
    *others, last = [f"{name}s" for name in fields]
    return f"{', '.join(others)} and {last}" if others else last


@dataclass(frozen=True)
class Update:
    """One optimiser step of one player: what `Method.updates` yields.

    Attributes:
        player: The name of the player whose parameters move.
        losses: The named losses to be weighted and added up; addressed in recipes as `player.loss`.
    """

    player: str
    losses: Mapping[str, Loss]
