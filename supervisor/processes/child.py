"""One child process with all its descendants: a process group that has ended only when its last member has.

A child leads its own session and process group, so a signal to the group reaches all that it forked, and a terminal's
Ctrl-C does not.  It dies with its parent.  Its death is reported when the whole group is gone: dramatiq's worker is a
grandchild, and a half-dead worker that still writes must not run beside its successor (CORRECTNESS 22).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from supervisor.processes.parent_death import dying_with_us

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Child:
    """A started program.  pid is also the id of its process group."""

    def __init__(
        self, name: str, spawn_id: str, pid: int, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.name = name
        self.spawn_id = spawn_id
        self.pid = pid
        self.status: int | None = None  # once the leader is gone: exit status, or minus the signal
        self.beats = 0  # the number of its beats
        self.why_killed = ""
        self._beat_pipe: int | None = None
        self._process = process
        self._watched: dict[int, int] = {}  # pidfd -> pid

    def terminate(self) -> None:
        """Ask the leader to stop; the leader asks its children."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self, why: str = "") -> None:
        """Kill every member of the group; SIGKILL ends a stopped process too."""
        self.why_killed = self.why_killed or why
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def beats_into(self, pipe: int) -> None:
        """Read its beats from this end of a pipe, which this object closes later."""
        os.set_blocking(pipe, False)
        self._beat_pipe = pipe

    def hear_beats(self) -> None:
        """Count the beats that have arrived."""
        if self._beat_pipe is not None:
            with contextlib.suppress(BlockingIOError):
                self.beats += len(os.read(self._beat_pipe, 4096))

    def close_pipe(self) -> None:
        """Stop reading beats."""
        if self._beat_pipe is not None:
            os.close(self._beat_pipe)
            self._beat_pipe = None

    def note_end(self, status: int) -> None:
        """Record that the leader was reaped; no member of its group may outlive it."""
        self.status = status
        if self._process is not None:
            self._process.returncode = status
        self.kill()

    @property
    def is_gone(self) -> bool:
        """The leader is reaped and no member of the group is left, not even a zombie."""
        if self.status is None:
            return False
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # macOS raises this for zombies
            return True
        return False

    def watch(self, pid: int) -> int | None:
        """A descriptor that becomes readable when that member of the group dies; None if it can't be watched."""
        if not hasattr(os, "pidfd_open"):
            return None
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return None
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == self.pid:
                self._watched[pidfd] = pid
                return pidfd
        os.close(pidfd)
        return None

    def has_lost_a_member(self) -> bool:
        """Whether a watched member has died."""
        return bool(self._watched and select.select(list(self._watched), [], [], 0)[0])

    def stop_watching(self) -> list[int]:
        """Close the descriptors that were given out."""
        closed = list(self._watched)
        for pidfd in closed:
            os.close(pidfd)
        self._watched.clear()
        return closed


def start_child(
    name: str,
    spawn_id: str,
    argv: Sequence[str],
    environ: Mapping[str, str],
    cwd: Path,
    descriptors: Sequence[int] = (),
) -> Child:
    """Start a program.  Call it from the main thread: for the kernel, the death of the forking thread is the parent's
    death.  Its output goes where ours goes.  descriptors: inherited with the same numbers.  Raises OSError if no more
    processes can be made; a missing program ends with a sentence.
    """
    process = subprocess.Popen(
        dying_with_us(argv),
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=tuple(descriptors),
    )
    return Child(name, spawn_id, process.pid, process)


def adopt_orphans() -> None:
    """Make this process the new parent of descendants whose own parent dies, so that it sees the end of each."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> list[tuple[int, int]]:
    """(pid, status) of every ended child, own or adopted.  No other code in this process may wait for children."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, os.waitstatus_to_exitcode(status)))
