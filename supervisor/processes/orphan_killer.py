"""What is left to do when the supervisor itself is killed: end every process group that it has started.

Its children die with their parent by themselves (`parent_death`), but each can only ask for that once it runs our code.
Dramatiq's worker spends its first second importing other people's; one that is frozen just then outlives everybody.
So a shell waits at a pipe whose other end nobody but the supervisor holds.  That the pipe ends means that the
supervisor has ended, however that came; the shell then kills the groups that it was told last.  It does so too where
the kernel knows no parent-death signal.
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


class LastWill:
    """Call it from one thread only."""

    def __init__(self) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        self._told = b""

    def name(self, groups: Iterable[int]) -> None:
        """From now on these process groups end with us.  Never waits: what could not be told is told the next time."""
        line = b"%s\n" % " ".join(str(group) for group in sorted(groups)).encode()
        if line == self._told or (self._shell is None and line == b"\n"):
            return
        try:
            os.write(self._pipe(), line)  # shorter than PIPE_BUF: all of it or nothing
            self._told = line
        except BlockingIOError:  # the shell is frozen
            pass
        except OSError:  # somebody has killed it: the next time makes another
            self._forget()

    def close(self) -> None:
        """Nobody is left; the shell ends with nothing to do."""
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
        self._shell.returncode = 0  # whoever reaps all children reaps it
        self._shell, self._told = None, b""
