"""Reading one arm of a recipe: its network, its method with further networks, its training and weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from limbeck.data.base import Augmentation
from limbeck.errors import RecipeError, nearest, nearest_or_all
from limbeck.methods.base import Method
from limbeck.networks import roles
from limbeck.networks.given.libraries import is_pretrained
from limbeck.networks.roles import CutDown
from limbeck.recipe.catalogue import classes_in, network_arguments
from limbeck.recipe.parts import Mistakes, Part, read_part, shown
from limbeck.recipe.plan import ArmRecipe
from limbeck.training.options import Training
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
        method: Part[Method] = read_part(Method, section.get("method"), "method", m, network_arguments)
        losses = losses_of(method)
        networks = self._networks(section, method.cls, m)
        brought = [name for name, part in networks.items() if brings_weights(part)]
        training, description = self._training(section, losses, "student" in brought, m)
        if section.get("training") is None:  # nothing here is trained, so only what brings its own weights is of use
            networks = {name: part for name, part in networks.items() if name in ("student", *brought)}
        start = m.value(tuple[str, ...], section.get("start_from_teacher", []), "start_from_teacher")
        new_layers = m.value(tuple[str, ...], section.get("new_layers", []), "new_layers")
        if new_layers and not ("load" in section and section.get("training") is not None):
            m.add("new_layers", "expected a network that has `load` and `training`: new layers must be trained")
        augmentation = section.get("augmentation")
        arm = ArmRecipe(
            network=networks.pop("student"),
            networks=networks,
            method=method,
            training=training,
            training_description=description,
            weights=_weights(section.get("weights"), losses, m),
            load=_file(section.get("load"), "load", m),
            augmentation=None if augmentation is None else read_part(Augmentation, augmentation, "augmentation", m),
            new_layers=new_layers or (),
            start_from_teacher=start or (),
            taught_by=section.get("taught_by"),
        )
        _check_teacher(arm, teacher, m)
        return arm

    def report(self, mistakes: Mistakes) -> None:
        """Note the networks and optimisers that no method took."""
        for key, text in self._spare.items():
            if key not in self._taken:
                mistakes.add(key, text)

    def _networks(self, section: Mapping[str, Any], method: type | None, m: Mistakes) -> dict[str, Part[nn.Module]]:
        """Return the student and the further networks that the method takes, by name."""
        parts = {"student": read_part(nn.Module, section.get("network"), "network", m)}
        given = m.section(section.get("networks"), "networks")
        if method is None:
            return parts
        takes = network_arguments(method)
        further = [name for name in takes if name != "student" and not name.startswith("teacher")]
        for name, value in given.items():
            key = f"networks.{name}"
            if name in further:
                self._taken.add(m.at(key))
                parts[name] = read_part(nn.Module, value, key, m)
            else:
                takes_only = f"{method.__name__} takes {', '.join(further) or 'no further networks'}"
                self._spare.setdefault(m.at(key), f"no such network{nearest(name, further)}; {takes_only}")
        for name, part in parts.items():
            if name in takes:
                _check_role(takes[name].annotation, part.cls, "network" if name == "student" else f"networks.{name}", m)
        for name in further:
            if takes[name].required and name not in given and section.get("training") is not None:
                m.add(f"networks.{name}", f"missing; {method.__name__} needs it")
        return parts

    def _training(
        self, section: Mapping[str, Any], losses: Mapping[str, float], brings_weights: bool, m: Mistakes
    ) -> tuple[Training | None, dict[str, Any]]:
        """Return the training and its plain description; None for a network that is loaded or brings its weights."""
        value = section.get("training")
        if value is None:
            if not brings_weights and "load" not in section:
                m.add("training", "missing; expected at least {steps: ...}")
            return None, {}
        before = len(m.lines)
        given = m.section(value, "training", [f.name for f in fields(Training)])
        hints = get_type_hints(Training)
        parts = self._optimizers(given.pop("optimizers", None), {name.split(".")[0] for name in losses}, m)
        values = {name: m.value(hints[name], v, f"training.{name}") for name, v in given.items()}
        if isinstance(value, Mapping) and "steps" not in given:
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
            parts[player] = read_part(Optimizer, spec, key, m, lambda _: ("params",))
            if len(m.lines) == before:
                try:
                    parts[player].build(params=[Parameter()]).step()
                except (ValueError, TypeError, RuntimeError) as error:
                    m.add(key, error)
        return parts


def losses_of(method: Part[Method]) -> dict[str, float]:
    """Return the default weight of every loss of a method with the terms that a recipe gives it, by "player.term"."""
    given: Mapping[str, Any] = method.description.get("init_args", {}).get("terms") or {}
    return method.cls.losses(name for name, term in given.items() if term is not None) if method.cls else {}


def brings_weights(part: Part[nn.Module], *, head: bool = True) -> bool:
    """Return whether a network brings weights, from a file or a library, and so is of use without any training.

    Args:
        part: The network.
        head: All of them; else it may have a new, untrained last layer.
    """
    return part.cls is not None and _described_with_weights(part.description, head)


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


def _weights(value: Any, losses: Mapping[str, float], m: Mistakes) -> dict[str, float | Schedule]:
    weights: dict[str, float | Schedule] = {}
    for name, spec in m.section(value, "weights").items():
        key = f"weights.{name}"
        if losses and name not in losses:
            m.add(key, f"no such loss{nearest_or_all(name, losses)}")
            continue
        options = (
            m.section(spec, key, ("weight", "from", "until", "ramp")) if isinstance(spec, Mapping) else {"weight": spec}
        )
        before = len(m.lines)
        numbers = {n: m.value(float, v, f"{key}.{n}" if isinstance(spec, Mapping) else key) for n, v in options.items()}
        if "weight" not in numbers:
            m.add(f"{key}.weight", "missing; expected a number of at least 0")
        if len(m.lines) > before:
            continue
        numbers["start"] = numbers.pop("from", 0.0)
        try:
            schedule = Schedule(**numbers)
            weights[name] = schedule if isinstance(spec, Mapping) else schedule.weight
        except RecipeError as error:
            m.add(key, error)
    return weights


def _file(value: Any, key: str, m: Mistakes) -> Path | None:
    path = None if value is None else m.value(str, value, key)
    if path is None:
        return None
    try:
        file = Path(path).expanduser()
    except RuntimeError:  # of a user who is not here
        file = Path(path)
    if not file.is_file():
        m.add(key, f"no such file: {file}")
        return None
    return file


def _check_teacher(arm: ArmRecipe, teacher: ArmRecipe | None, m: Mistakes) -> None:
    """Check that the arm has the teacher that it needs, and that what starts from the teacher's networks fits."""
    takes = network_arguments(arm.method.cls) if arm.method.cls else {}
    if teacher is None and "teacher" in takes and takes["teacher"].required:
        m.add("method", f"{arm.method.cls.__name__ if arm.method.cls else ''} needs a teacher; this arm has none")
    own = {"student": arm.network, **arm.networks}
    for place in arm.start_from_teacher:
        name, _, path = place.partition(".")
        if teacher is None:
            m.add("start_from_teacher", "there is no teacher to start from")
        elif name not in own:
            m.add("start_from_teacher", f"no network {name!r}{nearest(name, own)}; there are {', '.join(own)}")
        elif not path:  # of a part the shapes are compared, once both networks are built
            theirs = {"student": teacher.network, **teacher.networks}.get(name)
            cut_down = issubclass(own[name].cls or object, CutDown)  # compared once both are built
            if theirs is None or (theirs.description != own[name].description and not cut_down):
                found = "none" if theirs is None else shown(dict(theirs.description))
                m.add("start_from_teacher", f"expected the teacher's {name} to be the same network, found {found}")


def _check_role(annotation: Any, cls: type | None, key: str, m: Mistakes) -> None:
    """Check that a network with a role has the one that the method asks for."""
    wanted = [c for c in classes_in(annotation) if c in ROLES]
    has = [role for role in ROLES if cls is not None and issubclass(cls, role)]
    if wanted and has and not set(wanted) & set(has) and cls is not None:
        m.add(key, f"expected a {wanted[0].__name__}, found {cls.__name__}, a {has[0].__name__}")
