"""Beats of a part for its supervisor.

`darkroom up` gets them through an inherited pipe, systemd through its socket, and a container's health check
(`supervisor.processes.beat_check`) through a file.

The loop that does the part's work sends the beats, so a blocked loop is silent.  They do not depend on the database, so
an outage does not cause silence.  `supervisor.health.frozen_children` judges the beats.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Mapping

VARIABLE = "SUPERVISOR_BEAT_FD"  # names the pipe's descriptor; not a setting
FILE_VARIABLE = "SUPERVISOR_BEAT_FILE"  # names a file of this process alone, best in memory; not a setting
# sd_notify(3); they are for this process, not for its children.
SYSTEMD = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
BEAT_SECONDS = 2.5  # a sixth of the silence that is death (`supervisor.health.life_signs`)

log = logging.getLogger(__name__)


class Beats:
    """The receiver of this process's beats, or none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._pipe = _pipe(environ.get(VARIABLE, ""))
        self._systemd = environ.get("NOTIFY_SOCKET", "") if environ.get("WATCHDOG_USEC") else ""
        self._file = _file(environ.get(FILE_VARIABLE, ""))

    @property
    def are_wanted(self) -> bool:
        """Whether there is a receiver."""
        return self._pipe is not None or bool(self._systemd) or self._file is not None

    def beat(self) -> None:
        """Send a beat.  Never waits: a frozen supervisor leaves the pipe full."""
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe, b".")
        if self._systemd:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
                to.setblocking(False)
                to.sendto(b"WATCHDOG=1", _address(self._systemd))
        if self._file is not None:
            with contextlib.suppress(OSError):
                # Of one width, so that a reader never finds half a number.  The monotonic clock can't be set.
                os.pwrite(self._file, b"%020d\n" % int(time.monotonic()), 0)


def beat_from_loop(
    loop: asyncio.AbstractEventLoop, beats: Beats, also: Callable[[], None] = lambda: None
) -> None:
    """Send beats from now on for as long as this event loop runs.  May be called from another thread.

    also: called on the loop with each beat.
    """

    def beat() -> None:
        beats.beat()
        also()
        loop.call_later(BEAT_SECONDS, beat)

    if beats.are_wanted:
        loop.call_soon_threadsafe(beat)


def beat_from_thread(beats: Beats) -> None:
    """Send beats from now on for as long as this process runs, in a process without an event loop of ours."""

    def beat() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for the main thread
        while True:
            beats.beat()
            threading.Event().wait(BEAT_SECONDS)

    if beats.are_wanted:
        threading.Thread(target=beat, name="beats", daemon=True).start()


def _pipe(number: str) -> int | None:
    """A duplicate of the pipe's descriptor, if that number is a pipe.

    If other code closes the number, another file may get it, and our beats must not be written to that file.
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


def _file(path: str) -> int | None:
    """The descriptor of the file, which is made; None for no path, or one that can't be written."""
    if not path:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("%s is %r, and can't be written: %s.", FILE_VARIABLE, path, error.strerror)
        return None


def _address(path: str) -> str:
    """systemd writes @ for the zero at the beginning of an abstract address."""
    return "\0" + path[1:] if path.startswith("@") else path
