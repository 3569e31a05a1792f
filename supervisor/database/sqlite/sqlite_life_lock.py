"""Locks of processes beside a SQLite file: each a file of its own with `flock`, which is deleted with its holder's end.

A process that starts deletes the files of those that have been killed, so a file that is not there belongs to a process
that has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
from pathlib import Path

from supervisor.database.interface.database import Transaction
from supervisor.database.interface.life_lock import LifeLock, Lives

_BEFORE_THE_NAME = ".alive-"


class SqliteLives(Lives):
    """database_path: the locks' files lie beside it."""

    def __init__(self, database_path: Path) -> None:
        self._database_path = database_path

    def has_ended(self, tx: Transaction, name: str) -> bool:
        return _is_free(_path(self._database_path, name))


class SqliteLifeLock(SqliteLives, LifeLock):
    """The same, with a lock of its own."""

    def __init__(self, database_path: Path) -> None:
        LifeLock.__init__(self)
        SqliteLives.__init__(self, database_path)
        self._path = _path(database_path, self.name)
        self._file: int | None = None

    def seek(self) -> None:
        if self._file is None:
            _delete_free(self._database_path)
            self._file = _locked(self._path)

    @property
    def is_held(self) -> bool:
        return self._file is not None

    def close(self) -> None:
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _path(database_path: Path, name: str) -> Path:
    return database_path.with_name(f"{database_path.name}{_BEFORE_THE_NAME}{name}")


def _locked(path: Path) -> int | None:
    """The descriptor of a new file that is locked; None where that can't be, or another process took it for free."""
    try:
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(opened), path.stat()):
            return opened
    os.close(opened)
    return None


def _is_free(path: Path, *, then_delete: bool = False) -> bool:
    try:
        opened = os.open(path, os.O_RDWR)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, for several may ask at once
        if (
            then_delete
        ):  # as long as this is locked, a process that has just made it can't take it to be its own
            path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(opened)
    return True


def _delete_free(database_path: Path) -> None:
    for path in database_path.parent.glob(f"{glob.escape(database_path.name)}{_BEFORE_THE_NAME}*"):
        _is_free(path, then_delete=True)
