"""Marks of the types by which pydantic reads a recipe: what does not fit is told in the words of a recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from limbeck.errors import nearest

Place = tuple[int | str, ...]  # keys and positions on the way to a value
Json = dict[str, Any]
TOLD = "told"  # the kind of a mistake that is in the words of a recipe already
LATER = "x-limbeck-later"  # stands in a JSON Schema for what schema.py puts there


@dataclass(frozen=True)
class Expected:
    """Marks a type whose mistakes are told as "expected `text`, found ...", with the nearest of the `choices`."""

    text: str
    choices: tuple[Any, ...] = ()

    def read(self, value: Any, read: Callable[[Any], Any]) -> Any:
        """Return the value as its type wants it."""
        try:
            return read(value)
        except ValidationError as error:
            if is_told(error):  # by a part inside
                raise
            hint = nearest(value, map(str, self.choices)) if isinstance(value, str) else ""
            raise mistakes(((), f"expected {self.text}, found {shown(value)}{hint}")) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self.read, handler(source))


@dataclass(frozen=True)
class OneOf:
    """Marks a Literal whose choices may be spelt otherwise: YAML reads `precision: 32` as a number."""

    choices: tuple[Any, ...]

    def read(self, value: Any) -> Any:
        """Return the choice that is spelt like the value."""
        if isinstance(value, bool) and not any(value is choice for choice in self.choices):
            raise ValueError  # True equals 1
        return {str(choice): choice for choice in self.choices}.get(str(value), value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {"enum": [*self.choices, *(int(c) for c in self.choices if isinstance(c, str) and c.isdecimal())]}


@dataclass(frozen=True)
class Later:
    """Marks what is read only once sections are merged, and where it is of use; until then it stays as it is."""

    kind: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.any_schema()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Json:
        return {LATER: self.kind}


def mistakes(*found: tuple[Place, str]) -> ValidationError:
    """Return the error that tells these texts, each of what stands in that place."""
    told = [
        InitErrorDetails(type=PydanticCustomError(TOLD, "{text}", {"text": text}), loc=place, input=None)
        for place, text in found
    ]
    return ValidationError.from_exception_data("recipe", told)


def lines(error: ValidationError) -> list[tuple[Place, str]]:
    """Return the texts of an error, each with its place."""
    return [(line["loc"], line["msg"]) for line in error.errors(include_url=False, include_context=False)]


def is_told(error: ValidationError) -> bool:
    """Return whether an error is in the words of a recipe already."""
    return any(line["type"] == TOLD for line in error.errors(include_url=False, include_context=False))


def shown(value: Any) -> str:
    """Return a value as a recipe would write it, shortened."""
    if value is None:
        return "nothing"
    text = json.dumps(value) if isinstance(value, bool | Mapping | list) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
