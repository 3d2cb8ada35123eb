"""What a description of a part only names: the code of classes outside Limbeck, and the content of files.

Arms and evaluations are known by it: with another code or another picture under the same name they are made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from limbeck.data.base import data_root
from limbeck.ground.sources import code_of
from limbeck.networks.given.libraries import library_of

KNOWN = ("limbeck.", "torch.")  # packages whose classes do not change under a recipe's feet: their versions tell


def code_in(description: Any) -> dict[str, str]:
    """Return a hash of the code of every class outside Limbeck that a description names, nested ones too, by name."""
    found = dict(_code(description))
    return {name: found[name] for name in sorted(found)}


def content_of(description: Any) -> dict[str, str]:
    """Return what `code_in` does, with a hash of every file that is named, and of the folders given to such classes.

    A relative path is looked for here and in the data root.
    """
    found = code_in(description) | dict(_files(description, folders=False))
    return {name: found[name] for name in sorted(found)}


def _code(described: Any) -> Iterator[tuple[str, str]]:
    if isinstance(described, Mapping):
        for key in ("class_path", "target"):
            name = described.get(key)
            if isinstance(name, str) and not name.startswith(KNOWN):
                yield name, _code_at(name)
        described = list(described.values())
    for each in described if isinstance(described, list | tuple) else ():
        yield from _code(each)


def _code_at(name: str) -> str:
    """Return what the code behind a class path or the target of an `Import` is known by; "" where there is none."""
    library, _ = library_of(name)
    if library is not None:
        return code_of(library.package)
    file, colon, _ = name.rpartition(":")
    if colon:
        return code_of(Path(file).stem, Path(file))
    parts = name.split(".")[:-1]  # the last is a class, perhaps inside another or inside a function
    modules = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next(filter(None, map(code_of, modules)), "")


def _files(described: Any, folders: bool) -> Iterator[tuple[str, str]]:
    """Yield the files of a description; `folders` tells whether it is of a class outside Limbeck."""
    if isinstance(described, Mapping):
        folders = folders or not str(described.get("class_path", "limbeck.")).startswith(KNOWN)
        for key, value in described.items():
            yield from _files(value, folders or (key == "arguments" and "target" in described))
    elif isinstance(described, list | tuple):
        for each in described:
            yield from _files(each, folders)
    elif isinstance(described, str) and described:
        yield from ((described, _hash(place)) for place in _places(described, folders))


def _places(name: str, folders: bool) -> Iterator[Path]:
    """Yield where a text names a file, if it does; a folder counts where asked for."""
    for place in (Path(name), data_root() / name):
        try:
            if place.is_file() or (folders and place.is_dir()):
                yield place
                return
        except (OSError, ValueError):  # a text that can be no path
            return


def _hash(place: Path) -> str:
    """Return the hash of a file, or of all files below a folder with their names."""
    files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(place) if file != place else ''}\n".encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
