"""Single keys from a terminal, without waiting for Enter; the terminal's settings are restored at the end."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator

Read = Callable[[float], str]


@contextlib.contextmanager
def keys() -> Iterator[Read]:
    """A function that waits so many seconds for a key and returns it, or "" if none came.

    Without a terminal the function only waits.
    """
    if not sys.stdin.isatty():
        yield _waited
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)  # Ctrl-C stays a signal

        def read(seconds: float) -> str:
            ready, _, _ = select.select([descriptor], [], [], seconds)
            return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""

        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _waited(seconds: float) -> str:
    select.select([], [], [], seconds)
    return ""
