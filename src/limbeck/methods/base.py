"""The contract of a method: who plays, in which order, and by which terms they learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from limbeck.errors import RecipeError, nearest_or_all
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.networks.handling.feature_shapes import feature_shapes
from limbeck.networks.handling.frozen import Frozen
from limbeck.terms.base import Answers, Term, blank, join
from limbeck.terms.follow import as_term
from limbeck.terms.scene import Scene
from limbeck.types import Batch, Draw, Update

Terms = Mapping[str, Term | LogitLoss | FeatureLoss | None]
"""Terms by "player.term"; a loss of logits or features is one that follows the teacher's, None takes a default away."""

ORDER = ("once", "twice", "forward")  # how a method is differentiated, the most demanding last


class Default(NamedTuple):
    """A term that a method has unless a recipe says otherwise.

    Attributes:
        make: Makes it.
        weight: Its weight unless a recipe says otherwise; at 0 it is not even computed.
    """

    make: Callable[[], Term]
    weight: float = 1.0


class Method(nn.Module, ABC):
    """The players and their order, and nothing else: no device, optimiser, schedule or logging.

    What the players learn is their terms (see `terms.base.Term`). A subclass is final. Its constructor takes networks
    (`student`, `teacher: ... | None = None`, further players such as `discriminator`, and `teacher_discriminator` for
    the teacher's own), `terms`, and what decides the order. Teachers are held in `Frozen`. Without its teacher the
    terms that are taught fall away, and the same method is the control arm.

    Default terms that cannot work with the networks that there are stay away; to give one a weight is refused with the
    reason (`left_out`). A term that the recipe names has to work.

    Attributes:
        defaults: The default terms by "player.term".
        answers: What the student says.
        scene: The kind of scene that its terms look at.
        needs: The fields of a batch that it cannot do without.
        moved_arguments: How arguments of earlier versions are spelt now, below `terms`.
        terms: The terms by "player.term"; `terms_of` has them by player, and then by their own names.
        left_out: Why default terms are not there, by name.
        student: The network that the method is about: it is averaged (EMA), evaluated and exported.
    """

    room: ClassVar[str] = "methods"
    defaults: ClassVar[Mapping[str, Default]]
    answers: ClassVar[Answers] = "images"
    scene: ClassVar[type[Scene]] = Scene
    needs: ClassVar[tuple[str, ...]] = ("image",)
    moved_arguments: ClassVar[Mapping[str, str]] = {}
    student: nn.Module
    terms: Mapping[str, Term] = {}
    terms_of: Mapping[str, Mapping[str, Term]] = {}

    def cast(
        self,
        players: Mapping[str, nn.Module | None],
        teachers: Mapping[str, nn.Module | None],
        terms: Terms | None = None,
    ) -> None:
        """Take up the networks and the terms; the last thing that a constructor does, or nearly.

        Args:
            players: Networks that train, by argument, in the order of their updates; None for one that is not there.
            teachers: Networks that do not.
            terms: Terms by "player.term" that replace the defaults or stand beside them; None takes a default away.

        Raises:
            RecipeError: A network is both, or a term is none of this method's or cannot work.
        """
        self._take({**players, **teachers}, trained=players)
        self.left_out: dict[str, str] = {}
        self._terms = nn.ModuleDict()
        self.terms, self.terms_of = {}, {player: {} for player in self.of_players}
        given = {name: None if term is None else as_term(term) for name, term in (terms or {}).items()}
        for name in given:
            self._check_name(name)
        alone = not any(self.has(who) for who in teachers)
        wanted = {n: given.pop(n) if n in given else d.make() for n, d in self.defaults.items()} | given
        for name, term in sorted(wanted.items(), key=lambda item: self._turn(item[0])):
            if term is not None and not (term.needs_teacher and alone):
                self._admit(name, term, asked=name in (terms or {}))

    def _take(self, networks: Mapping[str, nn.Module | None], trained: Collection[str]) -> None:
        """Take up the networks, those that do not train frozen."""
        seen: dict[nn.Module, str] = {}
        for name, network in networks.items():
            if network in seen:
                raise RecipeError(f"{name}: expected another network than the {seen[network]} (a copy), found the same")
            if network is not None:
                seen[network] = name
            setattr(self, name, network if network is None or name in trained else Frozen(network))
        self.of_players = [name for name in trained if self.has(name)]

    def _turn(self, name: str) -> int:
        """Return when a term joins: those of a player that moves later know what was agreed before."""
        player = name.partition(".")[0]
        return self.of_players.index(player) if player in self.of_players else len(self.of_players)

    def _check_name(self, name: str) -> None:
        player, _, short = name.partition(".")
        if player not in self.of_players:
            there = nearest_or_all(player, self.of_players)
            raise RecipeError(f"terms.{name}: expected player.NAME, found no player {player!r}{there}")
        if not short.isidentifier():
            raise RecipeError(f"terms.{name}: expected player.NAME, a NAME of letters, digits and _, found {short!r}")

    def _admit(self, name: str, term: Term, *, asked: bool) -> None:
        """Let a term join; one that nobody asked for stays away where it cannot work."""
        player = name.partition(".")[0]
        try:
            if player not in self.of_players:
                raise RecipeError(f"{type(term).__name__} needs a {player}, and there is none")
            join(term, player, self)
        except RecipeError as error:
            if asked:
                raise RecipeError(f"terms.{name}: {error}") from error
            self.left_out[name] = str(error)
        else:
            self._terms[name.replace(".", "/")] = term
            self.terms = {**self.terms, name: term}
            self.terms_of = {**self.terms_of, player: {**self.terms_of[player], name.partition(".")[2]: term}}

    @classmethod
    def losses(cls, given: Iterable[str] = ()) -> dict[str, float]:
        """Return the weight that every term has unless a recipe says otherwise, by "player.term".

        Args:
            given: Names of the terms that a recipe gives beside the defaults, or in their place.
        """
        weights = {name: default.weight for name, default in cls.defaults.items()}
        return weights | {name: 1.0 for name in given if name not in weights}

    @property
    def weights(self) -> Mapping[str, float]:
        """The default weight of every term that there is, by "player.term"."""
        known = self.losses(self.terms)
        return {name: known[name] for name in self.terms}

    def demands(self) -> Sequence[str]:
        """Return the fields of a batch that the method with its networks and terms cannot do without."""
        of_terms = (name for term in self.terms.values() for name in term.needs)
        return list(dict.fromkeys((*self.needs, *of_terms)))

    def has(self, who: str) -> bool:
        """Return whether there is a network by that name of the constructor's argument."""
        return getattr(self, who, None) is not None

    @property
    def differentiates(self) -> Literal["once", "twice", "forward"]:
        """The most that a term asks for: "twice" (a penalty on a gradient) or "forward" cannot be compiled."""
        return max((term.differentiates for term in self.terms.values()), key=ORDER.index, default="once")

    def teacher_paths(self) -> Sequence[str]:
        """Return the module paths of the teacher ("" is its output) that `updates` takes from `batch.teacher_outputs`.

        Only what depends on the teacher and `batch.image` alone can be stored; a method that asks for nothing runs
        its teacher. Where `batch.teacher_outputs` lacks them, the method runs its teacher too.
        """
        return ()

    def draws(self) -> Mapping[str, Draw]:
        """Return what has to be drawn for every step, by name: every term's under its own."""
        return {f"{name}.{own}": draw for name, term in self.terms.items() for own, draw in term.draws().items()}

    def players(self) -> Mapping[str, nn.Module]:
        """Return the module that each player trains, by name: its network, and what its terms own."""
        return {player: self._with_terms(player) for player in self.of_players}

    def _with_terms(self, player: str) -> nn.Module:
        own = [term for term in self.terms_of[player].values() if _owns(term)]
        return nn.ModuleList([getattr(self, player), *own]) if own else getattr(self, player)

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
        for term in self.terms_of.get(player, {}).values():
            term.moved(step)

    def enter(self, batch: Batch, step: int, learners: Collection[str] = ("student",)) -> Scene:
        """Return the scene of a step.

        Args:
            batch: The batch.
            step: The number of the step.
            learners: The players that move by it; others run without a gradient.

        Raises:
            RecipeError: The batch lacks what the method needs.
        """
        for name in self.needs:
            batch.need(name, type(self).__name__)
        return self.scene(self, batch, step, learners)

    def update_of(self, player: str, scene: Scene) -> Update:
        """Return the update of a player: those of its terms that have anything to say in this step."""
        seen = {name: (term, scene.seen_by(f"{player}.{name}")) for name, term in self.terms_of[player].items()}
        return Update(player, {name: partial(term, s) for name, (term, s) in seen.items() if term.due(s)})

    def network(self, who: str) -> nn.Module:
        """Return a network by the name of the constructor's argument."""
        found: nn.Module = getattr(self, who)
        return found.network if isinstance(found, Frozen) else found

    def taps(self, who: str) -> Sequence[str]:
        """Return the module paths of a network whose outputs the terms compare."""
        return list(dict.fromkeys(path for term in self.terms.values() for path in term.paths().get(who, ())))

    def call(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return what a network says to a batch; here to its images."""
        found: Tensor = network(batch.image)
        return found

    def real(self, scene: Scene) -> Tensor:
        """Return what a discriminator is to take for real; here the images."""
        return _there(scene.batch.image, "images")

    def fake(self, scene: Scene) -> Tensor:
        """Return what the student makes of it."""
        return scene.student_output

    def shown(self, critic: nn.Module, batch: Batch, image: Tensor) -> tuple[Tensor, ...]:
        """Return what a discriminator is called with to see an image; here the image alone."""
        return (image,)

    def judge(self, critic: nn.Module, batch: Batch, image: Tensor) -> Tensor:
        """Return a discriminator's scores as one row, (N,) or (N * patches,), of images as it trains on them."""
        score: Tensor = critic(*self.shown(critic, batch, image))
        return score if score.ndim == 1 else score.flatten()

    def truth(self, batch: Batch) -> Tensor | None:
        """Return the classes of images (N,), or of pixels (N, H, W); None where there are none."""
        return batch.label

    def shapes(self, who: str, paths: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the shape of one sample's features at each path."""
        network = self.network(who)
        example = self.example(network)
        return feature_shapes(network, paths, call=lambda: self.call(network, example))

    def input(self) -> tuple[str, tuple[int, ...]]:
        """Return the field of a batch that networks are called with, and the shape of one sample of it."""
        name = self.needs[-1] if self.needs[-1] in ("image", "latent") else "image"
        example = self.example(self.student)
        return name, tuple(_there(getattr(example, name), name).shape[1:])

    def example(self, network: nn.Module) -> Batch:
        """Return two samples of what a network is called with.

        Raises:
            RecipeError: It does not state it.
        """
        shape = getattr(network, "image_shape", None)
        if shape is None:
            raise RecipeError(f"expected {type(network).__name__} to state its image_shape (C, H, W), found none")
        return Batch(image=blank(shape, network))


def _there(value: Tensor | None, what: str) -> Tensor:
    if value is None:
        raise RecipeError(f"expected batches with {what}, found none; choose another data set or task")
    return value


def _owns(term: Term) -> bool:
    return any(parameter.requires_grad for parameter in term.parameters())
