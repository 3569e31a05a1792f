"""A lock of a process's own, by which others learn at once that the process has ended.

The kernel, or the database's server, releases it however the process ends: on this host with the process, on PostgreSQL
also some seconds after its host has vanished.  A frozen process keeps it.  A process whose connection to PostgreSQL
breaks loses it for the moment until it has another one, and looks ended meanwhile.  Where no such lock can be had, as
behind a pooler, a process has no name that it could give to others.
"""

from __future__ import annotations

import abc

from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Transaction


class Lives(abc.ABC):
    """Which processes have ended, on one database."""

    @abc.abstractmethod
    def has_ended(self, tx: Transaction, name: str) -> bool:
        """Whether the process with the lock of this name has ended; False where that can't be learnt."""


class LifeLock(Lives):
    """One process's own lock, and the verdict on those of others.  Nothing here waits.

    name: of this lock, used once.
    """

    def __init__(self) -> None:
        self.name = new_ulid()

    @abc.abstractmethod
    def seek(self) -> None:
        """Have it from now on, until `close`."""

    @property
    @abc.abstractmethod
    def is_held(self) -> bool:
        """Whether others would see that this process lives."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give it up: this process has ended for others."""
