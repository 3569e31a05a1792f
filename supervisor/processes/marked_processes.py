"""Descendants of a child that can't be found in any other way after its death, by a variable of their environment.

A dead process's children get another parent, and some lead a group of their own.  All of them still show the
environment with which the child was started, or one that inherited from it.  Linux only: elsewhere none are found.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

PASSES = 10  # one that forks faster than we read is left after this many


def marked(name: str, value: str) -> set[int]:
    """Pids of the processes of this user whose environment has that variable; zombies are not among them."""
    variable, found = f"{name}={value}".encode(), set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if variable in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def kill_marked(name: str, value: str) -> None:
    """Kill them, and those that they have forked meanwhile."""
    for _ in range(PASSES):
        pids = marked(name, value)
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
