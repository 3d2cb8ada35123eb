"""Who is told how a training goes: a terminal, a log, a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from limbeck.ground.progress import Progress, say


class Listener(Protocol):
    """Is told how a training goes, by the first of its processes.

    With several processes it is sent there (pickled) before it begins.
    """

    def begun(self, title: str, steps: int, first: int, known: Mapping[str, float]) -> None:
        """Hear that a training begins, or goes on.

        Args:
            title: What is trained.
            steps: The number of steps at its end.
            first: The number of steps that an interrupted run has taken before; 0 at the very beginning.
            known: The last of each value that was logged in them, by name.
        """

    def stepped(self, step: int, row: Mapping[str, float]) -> None:
        """Hear that `step` steps are taken, and what was logged at the last: losses and validation metrics by name."""

    def alarm(self, step: int, line: str) -> None:
        """Hear that after `step` steps something is wrong that no loss shows."""

    def done(self) -> None:
        """Hear that the run is over: at its end, interrupted, or failed."""


class Terminal:
    """Shows a progress bar with the latest losses, and alarms above it."""

    def begun(self, title: str, steps: int, first: int, known: Mapping[str, float]) -> None:
        """Show the bar; say where an interrupted training goes on."""
        if first:
            say(f"{title}: goes on from step {first} of {steps}")
        self.bar = Progress(title, steps, first, known)
        self.bar.start()

    def stepped(self, step: int, row: Mapping[str, float]) -> None:
        """Move the bar."""
        self.bar.update(step, row)

    def alarm(self, step: int, line: str) -> None:
        """Print the alarm."""
        say(f"ALARM at step {step}: {line}")

    def done(self) -> None:
        """Let the bar stand as it is."""
        self.bar.stop()


@contextmanager
def telling(
    listeners: Sequence[Listener], title: str, steps: int, first: int, known: Mapping[str, float]
) -> Iterator[None]:
    """Tell listeners that a training begins, and at the end, however it comes, that it is over."""
    begun: list[Listener] = []
    try:
        for listener in listeners:
            listener.begun(title, steps, first, known)
            begun.append(listener)
        yield
    finally:
        for listener in begun:
            listener.done()
