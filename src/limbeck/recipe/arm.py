"""Reading one arm of a recipe: its network, its method with further networks, its training and weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError, nearest, nearest_or_all
from limbeck.methods.base import Method
from limbeck.networks import roles
from limbeck.networks.given.libraries import is_pretrained
from limbeck.networks.roles import CutDown
from limbeck.recipe.catalogue import network_arguments
from limbeck.recipe.marks import shown
from limbeck.recipe.parts import Mistakes, Part, part_of, read_part, unusable, usable
from limbeck.recipe.plan import ArmRecipe, losses_of
from limbeck.recipe.sections import NUMBER, TrainingSection, VariantSection, WeightSection, from_the_player
from limbeck.recipe.words import classes_in
from limbeck.training.options import Training
from limbeck.weighting.base import Weighting
from limbeck.weighting.schedule import Schedule

ROLES = tuple(c for c in vars(roles).values() if isinstance(c, type) and c.__module__ == roles.__name__)


class ArmReader:
    """Reads arms, and remembers which networks and optimisers no method took.

    What a recipe gives to several arms may be of use to only some of them; that is no mistake.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._spare: dict[str, str] = {}

    def read(self, section: Mapping[str, Any], m: Mistakes, teacher: ArmRecipe | None = None) -> ArmRecipe:
        """Return the arm that a section describes; it is usable when no mistake was noted in `m`."""
        own = VariantSection.read(section, "", m)

        def part(base: type[Any], name: str) -> Part[Any]:
            draft = getattr(own, name)
            return unusable(base, section.get(name)) if draft is None else part_of(draft, name, m)

        method: Part[Method] = part(Method, "method")
        losses = losses_of(method)
        networks = {"student": part(nn.Module, "network")}
        if method.cls is not None:
            networks |= self._networks(section, method.cls, m)
            _check_roles(networks, method.cls, m)
        brought = [name for name, network in networks.items() if brings_weights(network)]
        training, description = self._training(section, losses, "student" in brought, m)
        if "training" not in section:  # nothing here is trained, so only what brings its own weights is of use
            networks = {name: network for name, network in networks.items() if name in ("student", *brought)}
        if own.new_layers and not {"load", "training"} <= section.keys():
            m.add("new_layers", "expected a network that has `load` and `training`: new layers must be trained")
        arm = ArmRecipe(
            network=networks.pop("student"),
            networks=networks,
            method=method,
            training=training,
            training_description=description,
            weights=_weights(own.weights, losses, m),
            weighting=part(Weighting, "weighting"),
            load=_file(own.load, "load", m),
            augmentation=None if own.augmentation is None else part(Augmentation, "augmentation"),
            new_layers=own.new_layers,
            start_from_teacher=own.start_from_teacher,
            taught_by=own.taught_by,
        )
        _check_teacher(arm, teacher, m)
        return arm

    def report(self, mistakes: Mistakes) -> None:
        """Note the networks and optimisers that no method took."""
        for key, text in self._spare.items():
            if key not in self._taken:
                mistakes.add(key, text)

    def _networks(self, section: Mapping[str, Any], method: type, m: Mistakes) -> dict[str, Part[nn.Module]]:
        """Return the networks that the method takes besides the student, by name."""
        given = m.section(section.get("networks"), "networks")
        takes = network_arguments(method)
        further = [name for name in takes if name != "student" and not name.startswith("teacher")]
        parts = {}
        for name, value in given.items():
            key = f"networks.{name}"
            if name in further:
                self._taken.add(m.at(key))
                parts[name] = read_part(nn.Module, value, key, m)
            else:
                takes_only = f"{method.__name__} takes {', '.join(further) or 'no further networks'}"
                self._spare.setdefault(m.at(key), f"no such network{nearest(name, further)}; {takes_only}")
        for name in further:
            if takes[name].required and name not in given and "training" in section:
                m.add(f"networks.{name}", f"missing; {method.__name__} needs it")
        return parts

    def _training(
        self, section: Mapping[str, Any], losses: Mapping[str, float], brings_weights: bool, m: Mistakes
    ) -> tuple[Training | None, dict[str, Any]]:
        """Return the training and its plain description; None for a network that is loaded or brings its weights."""
        if "training" not in section:
            if not brings_weights and "load" not in section:
                m.add("training", "missing; expected at least {steps: ...}")
            return None, {}
        before = len(m.lines)
        own = TrainingSection.read(section["training"], "training", m)
        values = {name: getattr(own, name) for name in TrainingSection.names() if name in own.model_fields_set}
        parts = self._optimizers(values.pop("optimizers", None), {name.split(".")[0] for name in losses}, m)
        if "steps" not in values and isinstance(section["training"], Mapping):
            m.add("training.steps", "missing; expected a whole number of at least 1")
        description = {**values, "optimizers": {name: dict(part.description) for name, part in parts.items()}}
        if len(m.lines) > before:
            return None, description
        try:
            return Training(**values, optimizers={n: partial(_optimizer, p) for n, p in parts.items()}), description
        except RecipeError as error:
            key, _, text = str(error).partition(": ")
            m.add(key, text)
            return None, description

    def _optimizers(self, value: Any, players: Collection[str], m: Mistakes) -> dict[str, Part[Optimizer]]:
        parts: dict[str, Part[Optimizer]] = {}
        for player, spec in m.section(value, "training.optimizers").items():
            key = f"training.optimizers.{player}"
            if players and player not in players:
                there = ", ".join(sorted(players))
                self._spare.setdefault(m.at(key), f"no such player{nearest(player, players)}; there are {there}")
                continue
            self._taken.add(m.at(key))
            before = len(m.lines)
            parts[player] = read_part(Optimizer, spec, key, m, from_the_player)
            if len(m.lines) == before:
                try:
                    parts[player].build(params=[Parameter()]).step()
                except (ValueError, TypeError, RuntimeError) as error:
                    m.add(key, error)
        return parts


def brings_weights(part: Part[nn.Module], *, head: bool = True) -> bool:
    """Return whether a network brings weights, from a file or a library, and so is of use without any training.

    Args:
        part: The network.
        head: All of them; else it may have a new, untrained last layer.
    """
    return not usable(part) or (part.cls is not None and _described_with_weights(part.description, head))


def _described_with_weights(network: Mapping[str, Any], head: bool) -> bool:
    given = network.get("init_args", {})
    members, files = given.get("members"), given.get("weights")
    if members:  # each may be given a file by who holds them, or bring its own
        pairs = zip(members, files or [None] * len(members), strict=False)
        return all(file is not None or _described_with_weights(member, head) for member, file in pairs)
    if files is not None:
        return True
    return is_pretrained(str(given.get("target")), given.get("arguments") or {}, head=head)


def _optimizer(part: Part[Optimizer], parameters: Any) -> Optimizer:
    """Return the optimiser of these parameters; a function of its own so that it can be sent to another process."""
    return part.build(params=parameters)


def _weights(given: Any, losses: Mapping[str, float], m: Mistakes) -> dict[str, float | Schedule]:
    weights: dict[str, float | Schedule] = {}
    for name, spec in m.section(given, "weights").items():
        key = f"weights.{name}"
        if losses and name not in losses:
            m.add(key, f"no such loss{nearest_or_all(name, losses)}")
            continue
        before = len(m.lines)
        if isinstance(spec, Mapping):
            own = WeightSection.read(spec, key, m)
            weight, options = own.weight, {"start": own.start, "until": own.until, "ramp": own.ramp}
            if "weight" not in own.model_fields_set:
                m.add(f"{key}.weight", "missing; expected a number of at least 0")
        else:
            weight, options = m.read(NUMBER, spec, key), {}
        if weight is None or len(m.lines) > before:
            continue
        try:
            schedule = Schedule(weight, **options)
            weights[name] = schedule if isinstance(spec, Mapping) else weight
        except RecipeError as error:
            m.add(key, error)
    return weights


def _file(given: str | None, key: str, m: Mistakes) -> Path | None:
    if given is None:
        return None
    try:
        file = Path(given).expanduser()
    except RuntimeError:  # of a user who is not here
        file = Path(given)
    if not file.is_file():
        m.add(key, f"no such file: {file}; a relative path begins where limbeck is run")
        return None
    return file


def _check_teacher(arm: ArmRecipe, teacher: ArmRecipe | None, m: Mistakes) -> None:
    """Check that the arm has the teacher that it needs, and that what starts from the teacher's networks fits."""
    takes = network_arguments(arm.method.cls) if arm.method.cls else {}
    if arm.method.cls and teacher is None and "teacher" in takes and takes["teacher"].required:
        m.add("method", f"{arm.method.cls.__name__} needs a teacher; this arm has none: give it one, or another method")
    own = {"student": arm.network, **arm.networks}
    for place in arm.start_from_teacher:
        name, _, path = place.partition(".")
        if teacher is None:
            m.add("start_from_teacher", "there is no teacher to start from; leave it out, or add a teacher")
        elif name not in own:
            m.add("start_from_teacher", f"no network {name!r}{nearest(name, own)}; there are {', '.join(own)}")
        elif not path and not issubclass(own[name].cls or object, CutDown):  # else compared once both are built
            _check_same(name, own[name], {"student": teacher.network, **teacher.networks}.get(name), m)


def _check_same(name: str, own: Part[nn.Module], theirs: Part[nn.Module] | None, m: Mistakes) -> None:
    """Check that a network which starts as a copy of the teacher's is of the same kind, where both can be built."""
    expected = f"expected the teacher's {name} to be the same network, found"
    if theirs is None:
        m.add("start_from_teacher", f"{expected} none")
    elif theirs.description != own.description and usable(theirs) and usable(own):
        m.add("start_from_teacher", f"{expected} {shown(dict(theirs.description))}")


def _check_roles(networks: Mapping[str, Part[nn.Module]], method: type, m: Mistakes) -> None:
    """Check that networks with a role have those that the method asks for."""
    takes = network_arguments(method)
    for name, part in networks.items():
        wanted = [c for c in classes_in(takes[name].annotation) if c in ROLES] if name in takes else []
        has = [role for role in ROLES if part.cls is not None and issubclass(part.cls, role)]
        if wanted and has and not set(wanted) & set(has) and part.cls is not None:
            key = "network" if name == "student" else f"networks.{name}"
            m.add(key, f"expected a {wanted[0].__name__}, found {part.cls.__name__}, a {has[0].__name__}")
