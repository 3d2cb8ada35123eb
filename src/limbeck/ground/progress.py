"""What a person sees while a training runs."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar

LONG = 10  # seconds from which on lines without a terminal tell the time
SILENCE = 120  # the most seconds between two of them


class Output(Console):
    """A console that tells its caller when nobody reads it any more."""

    def on_broken_pipe(self) -> None:
        """Raise what writing raised, where the console of rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads it")


console = Output(stderr=True, highlight=False, emoji=False)
T = TypeVar("T")
REFRESH = 0.2  # seconds between two updates of the bar: drawing it must not cost steps


def say(line: str) -> None:
    """Print one line for the person watching, above any progress bar."""
    console.print(line, markup=False, soft_wrap=not console.is_terminal)  # in a file, a line is a line


def tracked(items: Iterable[T], title: str) -> Iterable[T]:
    """Return the items, with a bar that shows how far they are; without a terminal there is none."""
    return track(items, title, console=console, transient=True, disable=not console.is_terminal)


@cache
def say_once(line: str) -> None:
    """Print one line, unless this process has said it: data sets of a recipe are built more than once."""
    say(line)


class Progress:
    """A progress bar over steps, with the latest losses beside it.

    Without a terminal, a line every tenth and every two minutes, with the time so far and the time left.

    Args:
        title: What is running.
        total: Number of steps.
        first: Number of steps that were done before.
        known: The last of each value that was logged then.
    """

    def __init__(self, title: str, total: int, first: int = 0, known: Mapping[str, float] | None = None) -> None:
        self.title, self.total, self.first, self.live = title, total, first, console.is_terminal
        columns = (TextColumn("{task.description:<24}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
        self.bar = Bar(*columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console)
        self.drawn = self.started = time.monotonic()
        self.row = dict(known or {})

    def start(self) -> None:
        """Show it."""
        if self.live:
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.first, note=_note(self.row))

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
        elif not self.live and (step % max(1, self.total // 10) == 0 or now - self.drawn > SILENCE):
            self.drawn = now
            line = f"{self.title}: {step}/{self.total} {_note(self.row)}{self._times(step, now - self.started)}"
            print(line, file=sys.stderr, flush=True)

    def _times(self, step: int, elapsed: float) -> str:
        """Return how long it has taken and how long it will, once it is long."""
        if elapsed < LONG or step <= self.first:
            return ""
        left = elapsed / (step - self.first) * (self.total - step)
        return f"  ({_clock(elapsed)}{f', {_clock(left)} left' if left else ''})"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _note(row: Mapping[str, float]) -> str:
    return "  ".join(f"{name.split('.')[-1]} {value:.3g}" for name, value in list(row.items())[:3])
