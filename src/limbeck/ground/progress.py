"""What a person sees while a training runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

console = Console(stderr=True, highlight=False)
REFRESH = 0.2  # seconds between two updates of the bar: drawing it must not cost steps


def say(line: str) -> None:
    """Print one line for the person watching, above any progress bar."""
    console.print(line, markup=False)


@cache
def say_once(line: str) -> None:
    """Print a line that would come up again and again, such as one about a network that is built several times."""
    say(line)


class Progress:
    """A progress bar over steps, with the latest losses beside it. Without a terminal, a line every tenth.

    Args:
        title: What is running.
        total: Number of steps.
        first: Number of steps that were done before.
    """

    def __init__(self, title: str, total: int, first: int = 0) -> None:
        self.title, self.total, self.first, self.live = title, total, first, console.is_terminal
        columns = (TextColumn("{task.description:<24}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Bar(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console)
        self.drawn = 0.0
        self.row: dict[str, float] = {}

    def start(self) -> None:
        """Show it."""
        if self.live:
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.first, note="")

    def stop(self) -> None:
        """Let it stand as it is."""
        if self.live:
            self.bar.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def update(self, step: int, row: Mapping[str, float]) -> None:
        """Show that `step` steps are done, and the last of each value that rows have had."""
        now = time.monotonic()
        self.row.update(row)
        if self.live and (now - self.drawn > REFRESH or step == self.total):
            self.drawn = now
            self.bar.update(self.task, completed=step, note=_note(self.row))
        elif not self.live and step % max(1, self.total // 10) == 0:
            print(f"{self.title}: {step}/{self.total} {_note(self.row)}", file=sys.stderr, flush=True)


def _note(row: Mapping[str, float]) -> str:
    return "  ".join(f"{name.split('.')[-1]} {value:.3g}" for name, value in list(row.items())[:3])
