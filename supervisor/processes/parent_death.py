"""Die with the parent: a killed supervisor must leave no process behind.

Linux sends a chosen signal when the parent dies (`prctl(PR_SET_PDEATHSIG)`), but resets the choice at fork, so every
process chooses at its own start, and then checks whether the parent has died already.  "Parent" is the *thread* that
forked: a supervisor spawns from its main thread only.  On other systems a thread checks every second.

A program that is not ours is started through this file, which chooses the signal and then executes that program: the
choice survives an exec.  No Python code runs between fork and exec (`preexec_fn`): another thread may have held a lock
at the fork, and the child would wait for it for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from os import PathLike

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_SECONDS = 1.0
COULD_NOT_BE_STARTED = 127  # the shell's status for this

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(expected_parent_pid: int | None = None, sent: int = signal.SIGKILL) -> None:
    """Make the kernel kill this process when its parent dies, and at once if that has happened already.

    expected_parent_pid: the parent's `os.getpid()`.  Without it, multiprocessing's parent is used; without that, the
    present parent, which may be process 1.
    sent: the signal, where the system lets a program choose it.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, sent, 0, 0, 0)
    parent = os.getppid()
    expected = expected_parent_pid or _multiprocessing_parent()
    if expected is not None and parent != expected:
        os.kill(os.getpid(), signal.SIGKILL)
    if _libc is None:
        threading.Thread(target=_watch, args=(parent,), name="parent-death", daemon=True).start()


def dying_with_us(argv: Sequence[str | PathLike[str]]) -> list[str | PathLike[str]]:
    """The command line by which that program dies with this process, or rather with the thread that starts it.

    If the program can't be started, stderr says so and the status is COULD_NOT_BE_STARTED.  If the kernel has no
    parent-death signal, the command line is the program's own.
    """
    if _libc is None:
        return list(argv)
    # Without the environment's paths and `site`, which may import any code; takes 0.02 s.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def _become(argv: list[str]) -> None:
    """argv: the parent's pid, then the program's own."""
    die_with_parent(int(argv[0]))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores it, and an exec would keep that
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(argv[1], argv[1:])
    except OSError as error:
        print(f"darkroom: {argv[1]} could not be started: {error.strerror}", file=sys.stderr)
        sys.exit(COULD_NOT_BE_STARTED)


def _multiprocessing_parent() -> int | None:
    """The pid of the process that forked this one, if multiprocessing (dramatiq's way) did it."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    parent = multiprocessing.parent_process() if multiprocessing else None
    return parent.pid if parent else None


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _become(sys.argv[1:])
