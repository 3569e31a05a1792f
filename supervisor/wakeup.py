"""How a process learns that another one has committed: no polling where the kernel can tell.

On Linux inotify watches the database's `-wal` file (0.23 ms from a commit to the wake-up); elsewhere, and as a
safety net, `PRAGMA data_version` is read every few milliseconds or every `SAFETY_SECONDS`.  An event may come
a moment before the commit is visible, so whoever finds nothing looks again after each of `LOOK_AGAIN_SECONDS`.
A wake-up is a hint: it may come for nothing, and a lost one costs SAFETY_SECONDS at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import select
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from supervisor.sqlite_database import SqliteDatabase

SAFETY_SECONDS = 0.25
POLL_SECONDS = 0.02
HAS_INOTIFY = sys.platform.startswith("linux")
LOOK_AGAIN_SECONDS = (0.0002, 0.0003, 0.0004, 0.0006, 0.001, 0.002, 0.005)


class Wakeups:
    """Wake-ups of one SQLite database for one process.  Opened on first use, in the thread that waits."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._inotify: _WalWatch | None = None
        self._version = -1
        self._stop_read, self._stop_write = os.pipe()
        os.set_blocking(self._stop_write, False)

    def interrupt(self) -> None:
        """End a `wait` from another thread or a signal handler."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full: the waiter has enough to wake up for
            os.write(self._stop_write, b"x")

    def wait(self, timeout_seconds: float) -> bool:
        """Block until something was committed, `interrupt` was called, or the time is over.

        True when there may be something new.
        """
        return self._wait_for_event(timeout_seconds) if HAS_INOTIFY else self._poll(timeout_seconds)

    def close(self) -> None:
        """Give the descriptors back."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        os.close(self._stop_read)
        os.close(self._stop_write)

    async def listen(self) -> AsyncIterator[None]:
        """A wake-up for every batch of commits, and one at least every SAFETY_SECONDS; waits in a thread of its own."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        stopped = threading.Event()

        def watch() -> None:
            while not stopped.is_set():
                self.wait(SAFETY_SECONDS)
                loop.call_soon_threadsafe(woken.set)

        thread = threading.Thread(target=watch, name="wakeups", daemon=True)
        thread.start()
        try:
            while True:
                await woken.wait()
                woken.clear()
                yield
        finally:
            stopped.set()
            self.interrupt()
            await asyncio.to_thread(thread.join)

    def _wait_for_event(self, timeout_seconds: float) -> bool:
        if self._inotify is None:
            self._database.data_version()  # a reader held open keeps the -wal file there
            self._inotify = _WalWatch(self._database.path)
        readable = _readable((self._inotify.fileno(), self._stop_read), timeout_seconds)
        if self._stop_read in readable:
            os.read(self._stop_read, 4096)
        if self._inotify.fileno() in readable and not self._inotify.drain():
            self._inotify.close()  # the -wal file was replaced: watch the new one
            self._inotify = None
        return bool(readable)

    def _poll(self, timeout_seconds: float) -> bool:
        end = time.monotonic() + timeout_seconds
        while True:
            version = self._database.data_version()
            if version != self._version:
                self._version = version
                return True
            remaining = end - time.monotonic()
            if _readable((self._stop_read,), min(POLL_SECONDS, remaining)):
                os.read(self._stop_read, 4096)
                return True
            if remaining <= 0:
                return False


def _readable(descriptors: tuple[int, ...], timeout_seconds: float) -> set[int]:
    """Which can be read within the time.  By poll: select can't take a web's thousandth descriptor."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    # Rounded up to a millisecond only when there is time to wait: 0 must stay "look, don't wait".
    return {descriptor for descriptor, _ in poll.poll(math.ceil(max(0.0, timeout_seconds) * 1000))}


class _WalWatch:
    """An inotify watch on a database's -wal file."""

    def __init__(self, database_path: Path) -> None:
        from asyncinotify import Inotify, Mask

        self._gone = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.IGNORED | Mask.Q_OVERFLOW
        self._inotify = Inotify(sync_timeout=0)
        wal = database_path.with_name(database_path.name + "-wal")
        self._inotify.add_watch(wal, Mask.MODIFY | Mask.DELETE_SELF | Mask.MOVE_SELF)

    def fileno(self) -> int:
        return self._inotify.fd

    def drain(self) -> bool:
        """Read every waiting event; False when the file is gone and the watch with it."""
        alive = True
        for event in self._inotify:  # ends when nothing more waits: sync_timeout is 0
            if event.mask & self._gone:
                alive = False
        return alive

    def close(self) -> None:
        self._inotify.close()
