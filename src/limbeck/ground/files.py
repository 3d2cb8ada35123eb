"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def clear_half_written(folder: Path, name: str = "*") -> None:
    """Delete what a killed process left half-written in a folder, of files with such a name (a pattern).

    Nobody else may be writing them.
    """
    for part in folder.glob(f".{name}.*.part"):
        part.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, force it to the disk, and rename it into place.

    Whoever reads `path`, at whatever instant, finds the old file or the new one. When writing fails (no space, no
    permission) the old file stays and nothing half-written is left behind.

    Raises:
        OSError: The file could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o644)  # mkstemp makes it private
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
