"""Wake-ups of a SQLite file: every commit of any program changes its `-wal` file.

On Linux inotify watches that file (0.23 ms from a commit to the wake-up); elsewhere `PRAGMA data_version` is read
every few milliseconds.  An event may come a moment before the commit is visible.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from supervisor.database.interface.wakeups import SOMETHING, Heard, Wakeups, readable
from supervisor.database.sqlite.sqlite_database import SqliteDatabase

SAFETY_SECONDS = 0.25
POLL_SECONDS = 0.02
HAS_INOTIFY = sys.platform.startswith("linux")
LOOK_AGAIN_SECONDS = (0.0002, 0.0003, 0.0004, 0.0006, 0.001, 0.002, 0.005)
# The same for a thread that does nothing else.  The first bytes of a commit cause the event.  Its end comes when they
# are on the disk: after 2 to 12 ms, on a slow disk later.
VISIBLE_SECONDS = (0.0002, 0.0003, 0.0005, *[0.001] * 15, *[0.002] * 10, 0.01, 0.02, 0.04)
SHORTEST_WAIT_SECONDS = 0.001  # shorter pauses need no end before their time


class SqliteWakeups(Wakeups):
    """Wake-ups of one SQLite database."""

    safety_seconds = SAFETY_SECONDS
    look_again_seconds = LOOK_AGAIN_SECONDS
    is_listening = True

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__()
        self._database = database
        self._inotify: _WalWatch | None = None
        self._version = -1
        self._commit_began = False

    def hear(self, timeout_seconds: float) -> Heard | None:
        woken = self._wait_for_event(timeout_seconds) if HAS_INOTIFY else self._poll(timeout_seconds)
        return SOMETHING if woken else None

    def hear_visible(self, timeout_seconds: float) -> Heard | None:
        self._commit_began = False
        heard = self.hear(timeout_seconds)
        if self._commit_began:
            self._wait_for_its_end()
        return heard

    def version(self) -> int:
        return self._database.data_version()

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        super().close()

    def _wait_for_event(self, timeout_seconds: float) -> bool:
        if self._inotify is None:
            self._version = self._database.data_version()  # a reader held open keeps the -wal file there
            self._inotify = _WalWatch(self._database.path)
        commits = (self._inotify.fileno(),) if self.heeds_commits else ()  # they stay for the next wait
        ready = readable((*commits, self._stop_read), timeout_seconds)
        if self._stop_read in ready:
            os.read(self._stop_read, 4096)
        if self._inotify.fileno() in ready:
            self._commit_began = True
            self._take_events()
        return bool(ready)

    def _take_events(self) -> None:
        assert self._inotify is not None
        if not self._inotify.drain():
            self._inotify.close()  # the -wal file was replaced: watch the new one
            self._inotify = None

    def _wait_for_its_end(self) -> None:
        """Until a commit is visible that was not visible at the last call.  A commit that was may have caused an event
        since."""
        pauses, end = iter(VISIBLE_SECONDS), time.monotonic() + self.safety_seconds
        while (version := self.version()) == self._version and self._inotify is not None:
            pause = next(pauses, None)
            if pause is None or time.monotonic() > end:
                return
            if pause < SHORTEST_WAIT_SECONDS:
                time.sleep(pause)
                continue
            ready = readable((self._inotify.fileno(), self._stop_read), pause)
            if self._stop_read in ready:
                return
            if ready:
                self._take_events()
                pauses = iter(VISIBLE_SECONDS)
        self._version = version

    def _poll(self, timeout_seconds: float) -> bool:
        end = time.monotonic() + timeout_seconds
        while True:
            version = self._database.data_version() if self.heeds_commits else self._version
            if version != self._version:
                self._version = version
                return True
            remaining = end - time.monotonic()
            if readable(
                (self._stop_read,), min(POLL_SECONDS, remaining) if self.heeds_commits else remaining
            ):
                os.read(self._stop_read, 4096)
                return True
            if remaining <= 0:
                return False


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
