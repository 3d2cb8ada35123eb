"""The contract of a term: one number that a player makes small, and whatever it owns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol, final

import torch
from torch import Tensor, nn

from limbeck.errors import RecipeError
from limbeck.terms.scene import Scene
from limbeck.types import Draw

Answers = Literal["images", "logits", "logits of pixels"]
"""What the student of a method says, and so which terms can be about it."""


class Cast(Protocol):
    """What a term may ask of its method before anything is trained."""

    @property
    def answers(self) -> Answers:
        """What the student says."""
        ...

    @property
    def scene(self) -> type[Scene]:
        """The kind of scene that its terms look at."""
        ...

    @property
    def terms(self) -> Mapping[str, Term]:
        """All terms of the method, by "player.term"."""
        ...

    def has(self, who: str) -> bool:
        """Return whether there is a network by that name of the method's argument."""
        ...

    def network(self, who: str) -> nn.Module:
        """Return a network by the name of the method's argument."""
        ...

    def shapes(self, who: str, paths: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the shape of one sample's features at each path, e.g. (C, H, W).

        Raises:
            RecipeError: A path names no module, or the network does not state what it is called with.
        """
        ...

    def input(self) -> tuple[str, tuple[int, ...]]:
        """Return the field of a batch that student and teacher are called with, and the shape of one sample of it.

        Raises:
            RecipeError: No network states it.
        """
        ...


class Term(nn.Module, ABC):
    """One number that a player makes small, and whatever it owns: adapters, banks, a learned temperature.

    A recipe gives it by name, `terms: {student.output: {class_path: OutputDistance}}`, and weighs it by that name. What
    it owns trains with its player, is checkpointed, and is never exported. It sees a `Scene` and knows no method, so
    every method that has what it needs can use it.

    Attributes:
        player: Whose term it can be; None for any.
        who: Whose term it is: the player's name, once it has joined.
        about: What the student has to say, for the term to be about it.
        scene: The kind of scene that it looks at.
        wants: The method's networks that it cannot do without, by argument.
        needs: The fields of a batch that it cannot do without, beside those that its method needs.
        couples: Whether it is no mean over the samples of a batch, so that micro-batches change it.
        differentiates: "twice" for a penalty on a gradient, "forward" for a Jacobian-vector product.
    """

    room: ClassVar[str] = "terms"
    player: ClassVar[str | None] = "student"
    who: str = "student"
    about: ClassVar[Sequence[Answers]] = ("images", "logits", "logits of pixels")
    scene: ClassVar[type[Scene]] = Scene
    wants: Sequence[str] = ()
    needs: Sequence[str] = ()
    couples: bool = False
    differentiates: Literal["once", "twice", "forward"] = "once"

    @property
    @final
    def needs_teacher(self) -> bool:
        """Whether it is about a teacher: a method without one leaves it out, and so is its own control arm."""
        return any(who.startswith("teacher") for who in self.wants)

    def paths(self) -> Mapping[str, Sequence[str]]:
        """Return the module paths that it compares, by whose they are: "student", "teacher"."""
        return {}

    def join(self, cast: Cast) -> None:
        """Refuse what cannot work, and make what the term owns; called once, by the method's constructor.

        Raises:
            RecipeError: It cannot work in this method. The message does not name the term.
        """

    def draws(self) -> Mapping[str, Draw]:
        """Return what has to be drawn for every step, by its own names; called after `join`."""
        return {}

    def due(self, scene: Scene) -> bool:
        """Return whether it has anything to say in this step."""
        return True

    def moved(self, step: int) -> None:
        """Take note that its player has moved in step number `step`: once, whatever the number of micro-batches."""

    @abstractmethod
    def forward(self, scene: Scene) -> Tensor:
        """Return the loss, a scalar."""


class SampleTerm(Term):
    """A term that is the mean of one number a sample: it can be asked at the worst inputs, too (see `Worst`)."""

    @abstractmethod
    def each(self, scene: Scene) -> Tensor:
        """Return the loss of each sample (N,)."""

    def forward(self, scene: Scene) -> Tensor:
        """Return the mean over samples."""
        return self.each(scene).mean()

    def attacked(self, cast: Cast) -> tuple[str, tuple[int, ...]]:
        """Return the field of a batch that an attack on the term changes, and the shape of one sample of it."""
        return cast.input()

    def start(self, scene: Scene, field: str) -> Tensor:
        """Return what the attack starts from (N, ...)."""
        return scene.batch.need(field, "Worst")


def join(term: Term, player: str, cast: Cast) -> None:
    """Let a term join a method.

    Args:
        term: The term.
        player: Whose it is to be.
        cast: The method.

    Raises:
        RecipeError: It cannot work there. The message does not name the term.
    """
    kind = type(term).__name__
    if term.player not in (None, player):
        raise RecipeError(f"expected a term of the {player}, found {kind}, one of the {term.player}")
    if cast.answers not in term.about:
        raise RecipeError(f"{kind} is about {' or '.join(term.about)}, and this student says {cast.answers}")
    if not issubclass(cast.scene, term.scene):
        raise RecipeError(f"{kind} is not for {type(cast).__name__}: it needs steps of the kind {term.scene.__name__}")
    for who in term.wants:
        if not cast.has(who):
            raise RecipeError(f"{kind} needs a {who}, and there is none")
    term.who = player
    term.join(cast)


def blank(shape: Sequence[int], like: nn.Module) -> Tensor:
    """Return two samples of zeros (2, *shape) where a network's weights are."""
    return next(like.parameters(), torch.empty(0)).new_zeros(2, *shape)
