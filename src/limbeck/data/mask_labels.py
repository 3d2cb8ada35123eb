"""Files that name the classes of masks: JSON, in the forms that annotation tools write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.base import data_root
from limbeck.errors import DataError

LISTS = ("labels", "categories", "classes")  # what the list is called in a file that holds more
NAMES = ("name", "label", "class", "readable")
NUMBERS = ("id", "value", "index", "number")
COLOURS = ("color", "colour", "rgb")


def named_classes(classes: Sequence[str] | str, folder: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return the names of classes, and the `values` or `colours` of masks where a file of labels has them.

    Args:
        classes: The names; or the path of a JSON file, which is looked for in `folder`, here, and in the data root:
            ["road", "car"], {"0": "road", "7": "car"}, {"road": 0, "car": 7}, or a list of
            {"name": "road", "id": 0} or {"name": "road", "color": [128, 64, 128]}, perhaps as "labels" or
            "categories" of a mapping.
        folder: The folder of the data.

    Raises:
        DataError: There is no such file, or it is none of these.
    """
    if not isinstance(classes, str):
        return tuple(classes), {}
    file = _found(classes, folder)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error}); repair it, or list the classes instead") from error
    try:
        return _told(content)
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{file}: expected names of classes, as a list, as numbers with names, or as a list of names with `id` or"
            f" `color`, found {_shown(content)}"
        ) from None


def _found(path: str, folder: Path) -> Path:
    here = Path(path).expanduser()
    places = [folder / here, here, data_root() / here]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        shown = " or ".join(dict.fromkeys(map(str, places)))
        raise DataError(f"classes: expected a list of names, or a JSON file of them, found none: {shown}")
    return found


def _told(content: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return names, and the values or colours of masks.

    Raises:
        KeyError, TypeError, ValueError: The content has another form.
    """
    if isinstance(content, Mapping):
        inner = next((content[key] for key in LISTS if isinstance(content.get(key), list | dict)), None)
        if inner is not None:
            return _told(inner)
        return _by_number([(k, v) if isinstance(v, int) else (_text(v), int(k)) for k, v in content.items()])
    if not isinstance(content, list) or not content:
        raise TypeError
    if all(isinstance(entry, str) for entry in content):
        return tuple(content), {}
    names = [_text(_one_of(entry, NAMES)) for entry in content]
    if all(any(key in entry for key in NUMBERS) for entry in content):
        return _by_number([(n, int(_one_of(entry, NUMBERS))) for n, entry in zip(names, content, strict=True)])
    if any(any(key in entry for key in COLOURS) for entry in content):
        return tuple(names), {"colours": [_rgb(_one_of(entry, COLOURS)) for entry in content]}
    return tuple(names), {}


def _by_number(pairs: list[tuple[str, int]]) -> tuple[tuple[str, ...], dict[str, Any]]:
    names, numbers = zip(*sorted(pairs, key=lambda pair: pair[1]), strict=True)
    return names, {"values": list(numbers)}


def _one_of(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return entry[next((key for key in keys if key in entry), keys[0])]


def _text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError
    return name


def _rgb(colour: Any) -> tuple[int, int, int]:
    """Return a colour of [r, g, b] or "#rrggbb"."""
    levels = bytes.fromhex(colour.removeprefix("#")) if isinstance(colour, str) else colour
    red, green, blue = levels
    return int(red), int(green), int(blue)


def _shown(content: Any) -> str:
    text = json.dumps(content)
    return text if len(text) < 80 else f"{text[:77]}..."
