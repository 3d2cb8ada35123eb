"""What of a machine does not belong into a result: where its files lie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PATH = re.compile(r"^(/|~|[A-Za-z]:[\\/])")


def without_folders(tree: Any) -> Any:
    """Return `tree` with absolute paths cut down to their last name, which says nothing of the machine."""
    if isinstance(tree, Mapping):
        return {str(key): without_folders(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [without_folders(value) for value in tree]
    if isinstance(tree, Path):
        return without_folders(str(tree))
    return re.split(r"[\\/]", tree.rstrip("\\/"))[-1] if isinstance(tree, str) and _PATH.match(tree) else tree
