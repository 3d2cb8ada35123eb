"""What a constructor's signature lets a recipe say, as types that pydantic reads and describes in JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
    TypeAdapter,
    ValidationError,
    with_config,
)
from pydantic_core import CoreSchema, core_schema
from torch import Tensor, nn
from typing_extensions import TypedDict

from limbeck.errors import LimbeckError, nearest
from limbeck.recipe.catalogue import arguments, open_ended, resolve
from limbeck.recipe.marks import Expected, Json, OneOf, Place, is_told, lines, mistakes, shown
from limbeck.recipe.words import or_text, type_text

PART = "x-limbeck-part"  # stands in a JSON Schema for the reference that schema.py puts there


@dataclass(frozen=True)
class Draft:
    """A class with its arguments, read but not built: those that are parts themselves are drafts too."""

    cls: type
    values: Mapping[str, Any] = field(default_factory=dict)


def nothing(cls: type) -> Collection[str]:
    """Return no names: everything that the class needs stands in the recipe."""
    return ()


@dataclass(frozen=True)
class PartOf:
    """Marks the place of a class of one of the `bases`, by name or as {class_path, init_args}: read as a `Draft`.

    The type that it marks is what may stand there instead.

    Attributes:
        bases: What it may be.
        supplied: Tells which arguments of a class come from elsewhere than from its `init_args`.
        change: Whether it may be laid over another, and so say only a part of it.
        named: Whether text is the name of a class.
        alone: Whether nothing may stand there instead.
    """

    bases: tuple[type, ...]
    supplied: Callable[[type], Collection[str]] = nothing
    change: bool = False
    named: bool = True
    alone: bool = True

    def read(self, value: Any, otherwise: Callable[[Any], Any]) -> Any:
        """Return the draft that a value describes, or what else it is."""
        if isinstance(value, Mapping) or (isinstance(value, str) and self.named):
            return self.draft(value)
        try:
            return otherwise(value)
        except ValidationError as error:
            if is_told(error):
                raise
            raise self._no_part(value) from None

    def draft(self, value: Any) -> Draft:
        """Return the draft that a value describes.

        Raises:
            ValidationError: With all mistakes.
        """
        spec = {"class_path": value} if isinstance(value, str) else value
        if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
            raise self._no_part(value)
        known = ("class_path", "init_args")
        found: list[tuple[Place, str]] = [
            ((name,), f"unknown key{nearest(name, known)}; there are {', '.join(known)}")
            for name in spec
            if name not in known
        ]
        draft = None
        try:
            cls = resolve(self.bases, spec["class_path"])
            draft = Draft(cls, read_arguments(cls, spec.get("init_args"), self.supplied(cls)))
        except LimbeckError as error:
            found.append((("class_path",) if spec is value else (), str(error)))
        except ValidationError as error:
            found += [(("init_args", *place), text) for place, text in lines(error)]
        if draft is None or found:
            raise mistakes(*found)
        return draft

    def _no_part(self, value: Any) -> ValidationError:
        wanted = or_text(self.bases)
        return mistakes(((), f"expected a {wanted}, as {{class_path: Name, init_args: {{...}}}}, found {shown(value)}"))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        otherwise = core_schema.is_instance_schema(self.bases) if self.alone else handler(source)
        return core_schema.no_info_wrap_validator_function(self.read, otherwise)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        choices: list[Json] = [{PART: replace(self, bases=(base,))} for base in self.bases]
        rest = [] if self.alone else [handler(schema)]
        return {"anyOf": [*choices, *rest]} if len(choices) + len(rest) > 1 else choices[0]


def _no(*kinds: type) -> BeforeValidator:
    """Return a mark that refuses kinds of values which pydantic would take."""

    def refuse(value: Any) -> Any:
        if isinstance(value, kinds):
            raise ValueError
        return value

    return BeforeValidator(refuse)


_PLAIN: dict[Any, Any] = {
    int: Annotated[int, _no(bool, float)],
    float: Annotated[float, Field(allow_inf_nan=False), _no(bool)],
    bool: Annotated[bool, Strict()],
    **{kind: kind for kind in (str, Path, list, dict, type(None), Tensor, Any)},
}


def readable(annotation: Any) -> Any:
    """Return the type that reads from plain data what an annotation asks for.

    A class of ours is read as a part, also in a list or in a mapping. What only exists in Python, in somebody else's
    class, is taken as it is: that class will see for itself.
    """
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return _one_of(tuple(option for option in get_args(annotation) if option is not Tensor))
    if _described(annotation):
        return Annotated[Any, PartOf((annotation,))]
    if origin is Literal:
        return Annotated[annotation, OneOf(get_args(annotation))]
    return _PLAIN.get(annotation, Any) if origin is None else _of(origin, get_args(annotation))


def _one_of(options: tuple[Any, ...]) -> Any:
    """Return the type of a union."""
    bases = tuple(option for option in options if _described(option))
    rest = tuple(readable(option) for option in options if option not in bases)
    if not bases:
        return Union[rest]  # noqa: UP007
    part = PartOf(bases, named=str not in options, alone=not rest)
    return Annotated[Union[rest] if rest else Any, part]  # noqa: UP007


def _of(kind: Any, inner: tuple[Any, ...]) -> Any:
    """Return the type of a container."""
    if not (isinstance(kind, type) and issubclass(kind, Iterable)):
        return Any
    items: Any = tuple(each if each is Ellipsis else readable(each) for each in inner)
    if issubclass(kind, Mapping):
        return dict[items]  # type: ignore[misc]
    return tuple[items] if kind is tuple else list[items]


class AsArgument:
    """Marks a type that is read as that of an argument is."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(argument(source))


def _described(option: Any) -> bool:
    """Return whether a recipe describes it by class_path: a network, or a class of ours."""
    return (
        isinstance(option, type)
        and get_origin(option) is None
        and (issubclass(option, nn.Module) or option.__module__.startswith("limbeck."))
    )


def argument(annotation: Any) -> Any:
    """Return the type of an argument, whose mistakes are told in the words of a recipe."""
    literals = [option for option in (annotation, *get_args(annotation)) if get_origin(option) is Literal]
    choices = tuple(choice for option in literals for choice in get_args(option))
    return Annotated[readable(annotation), Expected(type_text(annotation), choices)]


def read_arguments(cls: type, given: Any, supplied: Collection[str] = ()) -> dict[str, Any]:
    """Return the arguments of a class as its constructor wants them.

    Args:
        cls: The class.
        given: What the recipe says, or None.
        supplied: Arguments that come from elsewhere.

    Raises:
        ValidationError: With all mistakes, in the words of a recipe.
    """
    if given is not None and not isinstance(given, Mapping):
        raise mistakes(((), f"expected the arguments of {cls.__name__} by name, found {shown(given)}"))
    try:
        values = signature(cls, frozenset(supplied)).validate_python(given or {})
    except ValidationError as error:
        raise mistakes(*(_in_words(cls, supplied, line) for line in error.errors(include_url=False))) from None
    if taken := [name for name in values if name in supplied]:  # by a constructor that takes any keyword
        raise mistakes(*(((name,), _elsewhere(cls, name)) for name in taken))
    return values


def _elsewhere(cls: type, name: str) -> str:
    return f"{cls.__name__} gets {name!r} from elsewhere in the recipe; leave it out here"


def _in_words(cls: type, supplied: Collection[str], line: Mapping[str, Any]) -> tuple[Place, str]:
    """Return what is wrong with an argument, and its place; of a value that is told already."""
    name, text = str(line["loc"][-1]), str(line["msg"])
    if line["type"] == "missing":
        text = f"missing; {cls.__name__} needs it ({arguments(cls)[name].type})"
    elif line["type"] == "extra_forbidden" and name in supplied:
        text = _elsewhere(cls, name)
    elif line["type"] == "extra_forbidden" and name in (moved := getattr(cls, "moved_arguments", {})):
        text = f"now written as a term: terms: {{{moved[name]}}}"
    elif line["type"] == "extra_forbidden":
        known = [known for known in arguments(cls) if known not in supplied]
        there = f"it has {', '.join(known)}" if known else "it has none"
        text = f"{cls.__name__} has no argument {name!r}{nearest(name, known)}; {there}"
    return line["loc"], text


@cache
def signature(cls: type, supplied: frozenset[str]) -> TypeAdapter[dict[str, Any]]:
    """Return the reader of a constructor's arguments by name."""
    names = {
        a.name: (Required if a.required else NotRequired)[argument(a.annotation)]
        for a in arguments(cls).values()
        if a.name not in supplied
    }
    shape: Any = TypedDict  # mypy takes only names that are written out
    config = ConfigDict(extra="allow" if open_ended(cls) else "forbid", arbitrary_types_allowed=True)
    return TypeAdapter(with_config(config)(shape(cls.__name__, names)))
