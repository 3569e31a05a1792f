"""Die with one's parent: a killed supervisor must leave nobody behind.

Linux sends a chosen signal when the parent dies (`prctl(PR_SET_PDEATHSIG)`), but forgets the choice at fork, so every
process makes it for itself at its start and then looks whether the parent has died before it did.  "Parent" is the
*thread* that forked: a supervisor spawns from its main thread only.  Elsewhere a thread looks every second.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_SECONDS = 1.0

# Loaded here and not in the function: a child between fork and exec must not load libraries.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(expected_parent_pid: int | None = None, sent: int = signal.SIGKILL) -> None:
    """From now on this process is killed when its parent dies, and at once if that has happened already.

    expected_parent_pid: the parent as it knows itself (its `os.getpid()`).  Without it multiprocessing is asked; where
    that knows no parent either, whoever is the parent now is taken for it: it may well be process 1, an init.
    sent: another signal than SIGKILL, where the system lets one choose.
    """
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, sent, 0, 0, 0)
    parent = os.getppid()
    expected = expected_parent_pid or _multiprocessing_parent()
    if expected is not None and parent != expected:
        os.kill(os.getpid(), signal.SIGKILL)
    if _libc is None:
        threading.Thread(target=_watch, args=(parent,), name="parent-death", daemon=True).start()


def _multiprocessing_parent() -> int | None:
    """The pid of the process that forked this one, if multiprocessing (dramatiq's way) did it."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    parent = multiprocessing.parent_process() if multiprocessing else None
    return parent.pid if parent else None


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
