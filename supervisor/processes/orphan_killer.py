"""A helper for the case that the supervisor itself is killed: it ends every process group that the supervisor has
started.

Children ask the kernel to die with their parent (`parent_death`), but each can do so only when it runs our code.
Dramatiq's worker imports other code in its first second; if it is frozen just then, it would survive (dramatiq 2.2.1,
without this helper: 3 of 3).  So a shell waits at a pipe, and only the supervisor holds the other end.  The end of the
pipe means that the supervisor has ended; the shell then kills the last groups that it was given.  It also works where
the kernel has no parent-death signal.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterable

GOODBYE_SECONDS = 1.0

_SCRIPT = """
groups=
while read -r told; do groups=$told; done
for group in $groups; do kill -KILL "-$group" 2>/dev/null; done
"""


class OrphanKiller:
    """Call it from one thread only."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._told = b""

    def name(self, groups: Iterable[int]) -> None:
        """Set the process groups that end with us.  Never waits: if the pipe is full, the next call repeats them."""
        line = b"%s\n" % " ".join(str(group) for group in sorted(groups)).encode()
        if line == self._told or (self._shell is None and line == b"\n"):
            return
        try:
            os.write(self._pipe(), line)  # shorter than PIPE_BUF: written as a whole or not at all
            self._told = line
        except BlockingIOError:  # the shell is frozen
            pass
        except OSError:  # the shell was killed: the next call starts another
            self._forget()

    def close(self) -> None:
        """End the shell, because no process group is left."""
        self.name(())
        if (shell := self._shell) is not None:
            assert shell.stdin is not None
            with contextlib.suppress(OSError):
                shell.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                shell.wait(GOODBYE_SECONDS)

    def _pipe(self) -> int:
        if self._shell is None:
            # A session of its own: neither a terminal's Ctrl-C nor our children's signals reach it.
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._shell.stdin is not None
            os.set_blocking(self._shell.stdin.fileno(), False)
        assert self._shell.stdin is not None
        return self._shell.stdin.fileno()

    def _forget(self) -> None:
        assert self._shell is not None and self._shell.stdin is not None
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        self._shell.returncode = 0  # the code that reaps all children reaps it
        self._shell, self._told = None, b""
