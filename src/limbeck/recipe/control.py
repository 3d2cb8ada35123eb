"""What a control takes over from its student: everything but what comes from a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from limbeck.errors import LimbeckError
from limbeck.methods.base import Method
from limbeck.recipe.catalogue import network_arguments
from limbeck.recipe.parts import Mistakes, part_of
from limbeck.recipe.signatures import Draft, PartOf
from limbeck.terms.follow import as_term


def without_teacher(student: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of a student without what comes from a teacher."""
    section = {name: v for name, v in student.items() if name not in ("weights", "start_from_teacher", "taught_by")}
    start = student.get("start_from_teacher")
    began = isinstance(start, list | tuple) and any(str(place).partition(".")[0] == "student" for place in start)
    if began and isinstance(section.get("training"), Mapping):
        # What the student holds as the teacher left it, its control would hold as it was drawn.
        section["training"] = {name: value for name, value in section["training"].items() if name != "freeze"}
    return section


def weights_of_added(student: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """Return a student's weights of terms that its control has too and no default has: both weigh them alike."""
    weights = student.get("weights")
    try:
        method = PartOf((Method,), network_arguments).draft(control.get("method"))
        terms = {name: term for name, term in (method.values.get("terms") or {}).items() if isinstance(term, Draft)}
        usual = method.cls.losses() if issubclass(method.cls, Method) else {}
        added = {name: term for name, term in terms.items() if name not in usual}
        alone = [name for name, term in added.items() if not as_term(_built(term)).needs_teacher]
    except (LimbeckError, ValidationError):  # told where the method is read
        return {}
    return {name: weights[name] for name in weights if name in alone} if isinstance(weights, Mapping) else {}


def _built(term: Draft) -> Any:
    return part_of(term, "terms", Mistakes()).build()
