"""Locks of files that die with the process that holds them, however it ends."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.errors import LimbeckError
from limbeck.ground.progress import say

try:
    import fcntl
except ImportError:  # Windows has no flock, and two runs in one folder go unnoticed there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held(file: Path, title: str) -> Iterator[None]:
    """Hold a lock alone, as soon as whoever holds it lets go; says who that is while waiting.

    The lock is the kernel's (flock): it ends with its process, also after SIGKILL, and a file that is left behind locks
    nothing. Whoever `joined` it has to end as well.

    Args:
        file: The lock; made where there is none, and left.
        title: What is locked, for the person who waits.

    Raises:
        LimbeckError: The file cannot be written.
    """
    with _opened(file, title, shared=False) as handle:
        with _opened(_of_helpers(file), title, shared=False):
            pass  # processes that a killed holder had started have ended
        holder = f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M')}"
        with _told(file):
            os.ftruncate(handle, 0)
            os.write(handle, holder.encode())
        yield


@contextmanager
def joined(file: Path) -> Iterator[None]:
    """Keep a lock that the process which started this one holds, should that one be killed first."""
    with _opened(_of_helpers(file), "a training", shared=True):
        yield


def _of_helpers(file: Path) -> Path:
    return file.with_name(f"{file.name}-helpers")


@contextmanager
def _opened(file: Path, title: str, *, shared: bool) -> Iterator[int]:
    """Yield the open file once it is locked."""
    with _told(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if fcntl is not None:
            _lock(handle, title, shared=shared)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LimbeckError(
            f"{file}: cannot be written ({error.strerror}); free space, or choose another folder with --out"
        ) from error


def _lock(handle: int, title: str, *, shared: bool) -> None:
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
        say(f"{title}: {holder} is at it; waiting until it ends")
        fcntl.flock(handle, how)
    except OSError as error:
        say(f"{title}: this file system has no locks ({error.strerror}); start no other run in this folder")
