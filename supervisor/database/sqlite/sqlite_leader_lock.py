"""The leader's lock beside a SQLite file: `flock`, which the kernel gives back however its holder ends.

On a file system without such locks no process holds it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from supervisor.database.interface.leader_lock import LeaderLock


class SqliteLeaderLock(LeaderLock):
    """database_path: the lock's file lies beside it."""

    def __init__(self, database_path: Path) -> None:
        self._path = database_path.with_name(database_path.name + ".leader")
        self._file: int | None = None

    @property
    def is_held(self) -> bool:
        return self._file is not None

    def seek(self) -> bool:
        if self._file is not None:
            return True
        try:
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(opened)
            return False
        self._file = opened
        return True

    def give_up(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def close(self) -> None:
        self.give_up()
