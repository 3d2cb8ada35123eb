"""The JSON Schema of recipes: for an editor that completes and checks them, and for whoever makes a form of them.

A room is described once, as the choice of its classes, and a class once, as its arguments; whatever takes a part
refers to them. What only the whole recipe shows, such as the names of a method's losses, no schema can check.
"""

from __future__ import annotations

from math import inf
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from limbeck.recipe.catalogue import arguments, catalogue, describe
from limbeck.recipe.marks import LATER, Json
from limbeck.recipe.sections import RecipeSection
from limbeck.recipe.signatures import PART, PartOf, signature

REQUIRED = ["name", "data", "task"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NULL: Json = {"type": "null"}
DOTTED: Json = {"type": "string", "pattern": r"\."}  # any class by its import path
FOREIGN: Json = {"type": "string", "pattern": r"^(?!limbeck\.).*\."}  # of which nothing is known


def recipe_schema() -> Json:
    """Return the JSON Schema (draft 2020-12) of a recipe."""
    definitions = _Definitions()
    recipe = definitions.linked(TypeAdapter(RecipeSection))
    definitions.complete()
    for name in REQUIRED:
        recipe["properties"][name]["anyOf"].remove(NULL)
    return {"$schema": DIALECT, **recipe, "required": REQUIRED, "$defs": dict(sorted(definitions.known.items()))}


class _Generator(GenerateJsonSchema):
    """Leaves out what JSON cannot say, and titles, which are names again."""

    ignored_warning_kinds = {"non-serializable-default"}  # noqa: RUF012 (as the base has it)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def is_instance_schema(self, schema: Any) -> Json:
        return {"not": {}}  # what only exists in Python, such as a tensor


class _Definitions:
    """What sections, rooms and classes refer to, by name."""

    def __init__(self) -> None:
        self.known: Json = {}
        self._rooms: dict[str, PartOf] = {}  # that are referred to

    def complete(self) -> None:
        """Describe every room that is referred to, and the rooms of which those speak."""
        while missing := self._rooms.keys() - self.known.keys():
            for name in sorted(missing):
                self.known[name] = self._room(self._rooms[name])

    def linked(self, kind: TypeAdapter[Any]) -> Json:
        """Return the schema of a type, which refers to rooms and sections."""
        schema = kind.json_schema(schema_generator=_Generator)
        for name, section in schema.pop("$defs", {}).items():
            if name not in self.known:
                self.known[name] = {}  # it may speak of itself
                self.known[name] = self._linked(section)
        linked: Json = self._linked(schema)
        return linked

    def _linked(self, schema: Any) -> Any:
        """Return a part of a schema with references in place of what stands elsewhere."""
        if isinstance(schema, list):
            return [self._linked(each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        rest = {name: self._linked(each) for name, each in schema.items() if name not in (PART, LATER)}
        if PART in schema:
            return rest | self._reference(schema[PART])
        return rest | (self.linked(TypeAdapter(schema[LATER])) if LATER in schema else {})

    def _reference(self, part: PartOf) -> Json:
        (base,) = part.bases
        name = f"{'Change' if part.change else 'Any'}{base.__name__}"
        self._rooms[name] = part
        return {"$ref": f"#/$defs/{name}"}

    def _room(self, part: PartOf) -> Json:
        """Return the choice of what may stand in the place of a part."""
        classes = catalogue(*part.bases)
        alone = [cls.__name__ for cls in classes if part.change or not self._required(cls, part)]
        choices = [
            {"enum": alone},
            DOTTED,
            *(self._choice(cls, part) for cls in classes),
            _described({"class_path": FOREIGN, "init_args": {"type": ["object", "null"]}}, "class_path"),
        ]
        if part.change:
            choices.append(_described({"init_args": {"type": "object"}}, "init_args"))
        return {"anyOf": choices}

    def _choice(self, cls: type, part: PartOf) -> Json:
        """Return the choice of one class with its arguments, which are described elsewhere."""
        if cls.__name__ not in self.known:
            self.known[cls.__name__] = {}
            self.known[cls.__name__] = self._arguments(cls, part)
        path = {"enum": [cls.__name__, f"{cls.__module__}.{cls.__qualname__}"]}
        reference: Json = {"$ref": f"#/$defs/{cls.__name__}"}
        required = self._required(cls, part)
        if required and not part.change:
            return _described({"class_path": path, "init_args": reference | {"required": required}}, *SPEC)
        return _described({"class_path": path, "init_args": {"anyOf": [reference, NULL]}}, "class_path")

    def _arguments(self, cls: type, part: PartOf) -> Json:
        found = self.linked(signature(cls, frozenset(part.supplied(cls))))
        found.pop("required", None)  # a change of a part need not say it again
        for name, schema in found.get("properties", {}).items():
            argument = arguments(cls)[name]
            if argument.doc:
                schema["description"] = argument.doc
            if isinstance(argument.default, str | bool | int | float) and argument.default not in (inf, -inf):
                schema["default"] = argument.default
        return found | {"title": cls.__name__, "description": describe(cls).summary}

    def _required(self, cls: type, part: PartOf) -> list[str]:
        return [a.name for a in arguments(cls).values() if a.required and a.name not in part.supplied(cls)]


SPEC = ("class_path", "init_args")


def _described(properties: Json, *required: str) -> Json:
    """Return the schema of a mapping of these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
