"""Where benchmarks keep their figures: results/benchmarks/NAME.json, with versions and hardware."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from limbeck.ground.files import write_atomically
from limbeck.report.machine import hardware, versions

FOLDER = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


def record(name: str, figures: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write the figures of a benchmark, the settings that they hold for, and where they were measured."""
    tree = {"name": name, "figures": figures, "settings": settings, "versions": versions(), "hardware": hardware()}
    write_atomically(FOLDER / f"{name}.json", (json.dumps(tree, indent=2) + "\n").encode())
