"""`limbeck list`: what there is to choose from, room by room."""

from __future__ import annotations

import pytest

from limbeck.cli import main
from limbeck.recipe.catalogue import catalogue, rooms


def test_rooms_show_themselves_with_what_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    found: dict[str, set[str]] = {}
    room = ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("  "):
            found[room].add(line.split()[0])
        else:
            room, found[line] = line, set()
    expected = {name: {cls.__name__ for cls in catalogue(base)} for name, base in rooms().items()}
    assert found == {name: classes for name, classes in expected.items() if classes}
    assert {"methods", "data", "export formats", "baselines"} <= set(found) and "Safetensors" in found["export formats"]
