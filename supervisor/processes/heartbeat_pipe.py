"""A part shows its supervisor that it lives: to `darkroom up` by a pipe it was born with, to systemd by its socket.

A beat comes from the loop that does the part's work, so a loop that is held is silent, and never from a write to the
database, so an outage is no silence.  What the supervisor makes of it says `supervisor.health.life_signs`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import threading
from collections.abc import Mapping

VARIABLE = "SUPERVISOR_BEAT_FD"  # names the pipe's descriptor; it is no setting
SYSTEMD = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)  # sd_notify(3); they are of one process, not of its children
BEAT_SECONDS = 2.0


class Beats:
    """Where this process's beats go; to nobody where nobody waits for them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._pipe = _pipe(environ.get(VARIABLE, ""))
        self._systemd = environ.get("NOTIFY_SOCKET", "") if environ.get("WATCHDOG_USEC") else ""

    @property
    def are_wanted(self) -> bool:
        """Whether somebody waits for them."""
        return self._pipe is not None or bool(self._systemd)

    def beat(self) -> None:
        """Show life.  Never waits: a supervisor that is frozen itself leaves the pipe full."""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe, b".")
        if self._systemd:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto(b"WATCHDOG=1", _address(self._systemd))


def beat_from_loop(loop: asyncio.AbstractEventLoop, beats: Beats) -> None:
    """Show life from now on for as long as this loop turns.  May be called from another thread."""

    def beat() -> None:
        beats.beat()
        loop.call_later(BEAT_SECONDS, beat)

    if beats.are_wanted:
        loop.call_soon_threadsafe(beat)


def beat_from_thread(beats: Beats) -> None:
    """Show life from now on for as long as this process runs at all, where no loop of ours turns."""

    def beat() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while True:
            beats.beat()
            threading.Event().wait(BEAT_SECONDS)

    if beats.are_wanted:
        threading.Thread(target=beat, name="beats", daemon=True).start()


def _pipe(number: str) -> int | None:
    """A descriptor of our own of the pipe of that number, if it is one.

    Whoever closes the number gives it to another file, which must not hear our beats.
    """
    if not number.isdecimal():
        return None
    try:
        if not stat.S_ISFIFO(os.fstat(int(number)).st_mode):
            return None
    except OSError:
        return None
    os.set_inheritable(int(number), False)
    os.set_blocking(int(number), False)
    return os.dup(int(number))


def _address(path: str) -> str:
    """systemd writes the zero that an abstract address begins with as @."""
    return "\0" + path[1:] if path.startswith("@") else path
