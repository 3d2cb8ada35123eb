"""The command of a script that makes tables in documents: it rewrites what is out of date, or with --check tells."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from limbeck.errors import LimbeckError
from limbeck.ground.files import write_atomically


def keep(description: str, refresh: Callable[[str, Path], str], words: Sequence[str] | None = None) -> int:
    """Bring the Markdown of the project up to date and return the exit status: 1 is out of date, 2 a bad table.

    Args:
        description: What the tables are made from.
        refresh: Returns the text of a document with its tables made anew, given the project's folder.
        words: The command line; that of the process by default.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, description=description)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a table is out of date")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project's folder")
    options = parser.parse_args(words)
    stale = []
    for path in sorted([*options.root.glob("*.md"), *options.root.glob("docs/**/*.md")]):
        old = path.read_text(encoding="utf-8")
        try:
            new = refresh(old, options.root)
        except LimbeckError as error:
            print(f"{path.relative_to(options.root)}: {error}", file=sys.stderr)
            return 2
        if new != old:
            stale.append(path)
            if not options.check:
                write_atomically(path, new.encode())
    for path in stale:
        print(f"{path.relative_to(options.root)}: {'out of date' if options.check else 'rewritten'}")
    return 1 if stale and options.check else 0
