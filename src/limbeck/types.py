"""The values that travel between the rooms: `Draw`, `Batch`, `Update`.

Shape letters, used in every docstring: N samples in a batch, C channels, H rows, W columns, K classes,
D features. Images are float tensors (N, C, H, W) in [-1, 1] unless a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

Loss = Tensor | Callable[[], Tensor]
"""A scalar, or a function that computes it: the function is called only when the loss has a weight."""


VOID = 255
"""The class of a pixel that counts nowhere: nobody said what it is. Class numbers of pixels are below it."""

MAPS = ("drawn", "taught")  # fields of a batch that hold tensors by name


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
class Batch:
    """The tensors of N samples; a field that the data does not have is None.

    Attributes:
        image: (N, C, H, W), float in [-1, 1].
        label: (N,), int64 class numbers.
        target: What `image` should become (N, C', H', W'), float in [-1, 1].
        mask: (N, H, W), int64 class of each pixel, or `VOID`. All of an image without labels is void.
        text: (N, L), int64 tokens.
        audio: (N, T), float in [-1, 1].
        latent: (N, ...), float.
        index: (N,), int64 position in the data set.
        drawn: What was drawn for these samples, by the name under which it was declared.
        taught: What the teacher says to `image`, (N, ...) by module path of it ("" is its output), where that was
            stored beforehand.
    """

    image: Tensor | None = None
    label: Tensor | None = None
    target: Tensor | None = None
    mask: Tensor | None = None
    text: Tensor | None = None
    audio: Tensor | None = None
    latent: Tensor | None = None
    index: Tensor | None = None
    drawn: Mapping[str, Tensor] = field(default_factory=dict)
    taught: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return N."""
        return next(len(t) for t in self._tensors())

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with `function` applied to every tensor in it."""
        new: dict[str, Any] = {
            f.name: function(t) for f in fields(self) if f.name not in MAPS and (t := getattr(self, f.name)) is not None
        }
        new |= {m: {name: function(t) for name, t in getattr(self, m).items()} for m in MAPS}
        return replace(self, **new)

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`."""
        return self.map(lambda t: t.to(device, non_blocking=True))

    def __getitem__(self, part: slice) -> Batch:
        """Return some of the samples, e.g. `batch[:8]`."""
        return self.map(lambda t: t[part])

    def _tensors(self) -> list[Tensor]:
        named = [getattr(self, f.name) for f in fields(self) if f.name not in MAPS]
        return [t for t in named if t is not None] + [t for m in MAPS for t in getattr(self, m).values()]


@dataclass(frozen=True)
class Update:
    """One optimiser step of one player: what `Method.updates` yields.

    Attributes:
        player: The name of the player whose parameters move.
        losses: The named losses to be weighted and added up; addressed in recipes as `player.loss`.
    """

    player: str
    losses: Mapping[str, Loss]
