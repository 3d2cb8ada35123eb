"""The contract of a method: how a student learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

from torch import nn

from limbeck.types import Batch, Draw, Update


class Method(nn.Module, ABC):
    """The mathematics of one way to learn, and nothing else: no device, optimiser, schedule or logging.

    A subclass is final. Its constructor takes networks (`student`, `teacher: ... | None = None`, further players
    such as `discriminator`, and `teacher_discriminator` for the teacher's own) and then keyword scalars. Teachers
    are held in `Frozen`. What a loss has to own, such as adapters or memory banks, is a submodule that belongs to
    a player: it trains with that player, is checkpointed, and is never exported. Everything random is declared in
    `draws` and read from `batch.drawn`. Without its teacher the same method is the control arm.

    Attributes:
        losses: Every loss that `updates` may yield, as "player.loss", with its default weight.
        differentiates: How its losses are differentiated. "once": by one backward pass. "twice": one of them holds a
            gradient itself (R1 and its kin), which torch.compile cannot differentiate; the engine leaves the networks
            uncompiled. "forward": one of them holds a forward-mode derivative (`torch.func.jvp`), which neither
            torch.compile nor fused attention has and for which bf16 is too coarse; the engine leaves the networks
            uncompiled, computes attention by its formula, and everything in float32.
        student: The network that the method is about: it is averaged (EMA), evaluated and exported.
    """

    room: ClassVar[str] = "methods"

    losses: ClassVar[Mapping[str, float]]
    differentiates: Literal["once", "twice", "forward"] = "once"
    student: nn.Module

    def asks(self) -> Sequence[str]:
        """Return the module paths of the teacher ("" is its output) that `updates` takes from `batch.taught`.

        Only what depends on the teacher and `batch.image` alone can be stored; a method that asks for nothing runs
        its teacher. Where `batch.taught` lacks them, the method runs its teacher too.
        """
        return ()

    def draws(self) -> Mapping[str, Draw]:
        """Return what has to be drawn for every step, by name."""
        return {}

    @abstractmethod
    def players(self) -> Mapping[str, nn.Module]:
        """Return the module that each player trains, by name; disjoint, and none of them frozen."""

    @abstractmethod
    def updates(self, batch: Batch, step: int) -> Iterator[Update]:
        """Yield the updates of step number `step` (from 0) in order.

        Between two yields the engine weighs the losses, differentiates, averages the gradients over processes,
        clips them and moves the player's parameters; then it clears the gradients of all players.

        Nothing may stand after a yield but the next update: with micro-batches there is one of these generators for
        each, so that code after a yield would run once for each of them, and after the last yield of a step only for
        the first. What has to happen once a player has moved belongs in `moved`.
        """

    def moved(self, player: str, step: int) -> None:
        """Follow the optimiser step that `player` has just taken in step number `step` (from 0).

        Called once for each optimiser step in every process, whatever the number of micro-batches, and never when all
        losses of an update are switched off; gradients are not recorded. A target that follows the student (EMA), or
        a bank of what it has seen, is brought up to date here and kept in buffers, so that it is checkpointed.
        """
