"""Write the tables of classes in docs/: the terms that there are, those of each method, moved arguments.

What a table says is read off the classes: their docstrings, their attributes, and what the methods say of them. A
table stands between two marks, and everything between them is generated:

    <!-- classes: terms -->
    <!-- /classes -->

The first names one of `TABLES`.

    python benchmarks/class_tables.py            rewrites what is out of date
    python benchmarks/class_tables.py --check    changes nothing, exits 1 if something is out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, get_args, get_origin

from documents import keep
from torch import nn

from limbeck.attacks.base import Attack
from limbeck.attacks.boundary import BoundarySearch, DeepFoolBoundary
from limbeck.attacks.pgd import Pgd
from limbeck.errors import LimbeckError
from limbeck.losses.base import FeatureLoss, LogitLoss
from limbeck.losses.feature_matching import FeatureMatching
from limbeck.losses.kd import Kd
from limbeck.methods.base import Method
from limbeck.recipe.catalogue import arguments, catalogue, describe
from limbeck.terms.around import Around
from limbeck.terms.base import SampleTerm, Term
from limbeck.terms.output_distance import OutputDistance
from limbeck.terms.scene import Scene
from limbeck.terms.under_attack import UnderAttack

MARKED = re.compile(r"(?P<open><!-- classes: (?P<name>[a-z ]+) -->)\n(?P<body>.*?)(?P<close><!-- /classes -->)", re.S)
EVERY = {"images", "logits", "logits of pixels"}
NETWORKS = {
    "teacher": "a teacher",
    "discriminator": "a discriminator",
    "teacher_discriminator": "the teacher's discriminator",
    "peer": "a peer",
    "feature_network": "a feature network",
}
PAPER = re.compile(
    r"\b(?!NeurIPS)[A-Z][a-z][\w-]*(?: et al\.(?:, [A-Z]+)?|(?:, [A-Z][\w-]+)* & [A-Z][\w-]+)? (?:19|20)\d\d\b"
    r"(?:, arXiv:\d{4}\.\d{4,5})?"
)
EXAMPLES: Mapping[type, Callable[[], Any]] = {  # of what a term cannot be made without
    nn.Module: lambda: nn.Sequential(nn.Identity()),
    Sequence[str]: lambda: ["0"],  # paths in that network
    LogitLoss: Kd,
    FeatureLoss: lambda: FeatureMatching({"0": "0"}),
    Term: OutputDistance,
    SampleTerm: OutputDistance,
    Attack: Pgd,
    BoundarySearch: DeepFoolBoundary,
}


def terms() -> Iterator[Sequence[str]]:
    """Yield the table of all terms."""
    yield "term", "what it makes small", "player", "the student gives", "needs", "default of", "paper"
    homes = _homes()
    known: Sequence[type[Term]] = catalogue(Term)
    for cls in known:
        student = "any" if set(cls.about) == EVERY else " or ".join(cls.about)
        default_of = ", ".join(f"`{name}`" for name in homes.get(cls, ()))
        yield f"`{cls.__name__}`", _summary(cls), cls.player or "any", student, _needs(cls), default_of, _papers(cls)


def losses(base: type[LogitLoss | FeatureLoss]) -> Iterator[Sequence[str]]:
    """Yield the table of the losses of a room that are terms as they stand."""
    yield "loss", "what it makes small", "compares samples", "paper"
    known: Sequence[type[LogitLoss | FeatureLoss]] = catalogue(base)
    for cls in known:
        yield f"`{cls.__name__}`", _summary(cls), "yes" if cls.couples else "", _papers(cls)


def default_terms() -> Iterator[Sequence[str]]:
    """Yield the table of the terms that methods have by themselves."""
    yield "method", "term", "is", "weight"
    for method in _methods():
        for name, default in method.defaults.items():
            yield f"`{method.__name__}`", f"`{name}`", _kind(default.make()), _share(default.weight)


def moved_arguments() -> Iterator[Sequence[str]]:
    """Yield the table of the arguments of methods that are terms now."""
    yield "method", "argument", "now, below `terms`"
    for cls in _methods():
        for old, new in cls.moved_arguments.items():
            yield f"`{cls.__name__}`", f"`{old}`", f"`{new}`"


TABLES: Mapping[str, Callable[[], Iterator[Sequence[str]]]] = {
    "terms": terms,
    "default terms": default_terms,
    "logit losses": lambda: losses(LogitLoss),
    "feature losses": lambda: losses(FeatureLoss),
    "moved arguments": moved_arguments,
}


def _summary(cls: type) -> str:
    """Return the first line of a docstring, without the papers in parentheses and the full stop."""
    found = re.sub(r" \([^()]*\b(?:19|20)\d\d\b[^()]*\)", "", describe(cls).summary)
    return found.removesuffix(".")


def _papers(cls: type) -> str:
    """Return the papers that a docstring names, or else that of its file."""
    docs = (cls.__doc__, sys.modules[cls.__module__].__doc__)
    found = next((f for doc in docs if (f := PAPER.findall(" ".join((doc or "").split())))), [])
    return "; ".join(dict.fromkeys(found))


def _needs(cls: type[Term]) -> str:
    """Return which networks a term cannot do without, and which methods it is for if not for all."""
    found = ["what its term needs"] if issubclass(cls, (Around, UnderAttack)) else list(_networks(cls))
    if cls.scene is not Scene:
        homes = [m for m in _methods() if issubclass(m.scene, cls.scene) and m.answers in cls.about]
        found.append("the method " + " or ".join(f"`{home.__name__}`" for home in homes))
    return "; ".join(found)


def _networks(cls: type[Term]) -> Iterator[str]:
    """Yield the networks that a term wants: in any case, by default, or with another value of an argument."""
    given = {name: EXAMPLES[a.annotation]() for name, a in arguments(cls).items() if a.required}
    usual = cls(**given).wants
    others = {told: cls(**given, **changed).wants for told, changed in _changes(cls)}
    for who in usual:
        yield NETWORKS[who] + ("" if all(who in wants for wants in others.values()) else " by default")
    for told, wants in others.items():
        yield from (f"{NETWORKS[who]} with `{told}`" for who in wants if who not in usual)


def _changes(cls: type[Term]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield other values of each argument that is a choice, or a number that may be left out."""
    for name, argument in arguments(cls).items():
        if get_origin(argument.annotation) is Literal:
            yield from ((f"{name}: {v}", {name: v}) for v in get_args(argument.annotation) if v != argument.default)
        elif argument.annotation == float | None:
            yield name, {name: 1.0}


def _methods() -> Sequence[type[Method]]:
    """Return the methods that a recipe can name: those that state their default terms."""
    return [cls for cls in catalogue(Method) if hasattr(cls, "defaults")]


def _kind(term: Term) -> str:
    """Return a term's class, and the classes of what stands in it."""
    inner = getattr(term, "term", getattr(term, "loss", None))
    within = inner if isinstance(inner, nn.Module) else None
    own = f"`{type(term).__name__}`"
    return own if within is None else f"{own} of {_kind(within)}"  # type: ignore[arg-type]  # a loss is no term


def _share(weight: float) -> str:
    """Return a weight as a fraction, such as 5/6, or 6."""
    return str(Fraction(weight).limit_denominator(100))


def _homes() -> Mapping[type, Sequence[str]]:
    """Return the methods in which terms are defaults, by the term's class."""
    found: dict[type, list[str]] = {}
    for method in _methods():
        for default in method.defaults.values():
            names = found.setdefault(type(default.make()), [])
            if method.__name__ not in names:
                names.append(method.__name__)
    return found


def table(name: str) -> str:
    """Return a table in Markdown.

    Raises:
        LimbeckError: There is none of that name.
    """
    if name not in TABLES:
        raise LimbeckError(f"classes: {name}: expected one of {', '.join(TABLES)}")
    head, *rows = TABLES[name]()
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rows)]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def refresh(text: str) -> str:
    """Return a page with its tables of classes as they are now.

    Raises:
        LimbeckError: A mark names no table, or is not closed.
    """
    if text.count("<!-- classes: ") != len(MARKED.findall(text)):
        raise LimbeckError("a table is opened by <!-- classes: ... --> but not closed by <!-- /classes -->")
    return MARKED.sub(lambda m: f"{m['open']}\n{table(m['name'])}{m['close']}", text)


def main(words: Sequence[str] | None = None) -> int:
    return keep("tables of the documents, from the classes", lambda text, root: refresh(text), words)


if __name__ == "__main__":
    sys.exit(main())
