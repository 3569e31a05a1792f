"""What of the change log this process has read: one place for everybody, or one seq for each user who listens.

On SQLite the log's own order is the order of commits, so one cursor is enough.  On PostgreSQL it is not: a later id
may be visible before an earlier one, and whoever had moved on would lose it.  There only a user's seq follows the
commits, so a cursor is kept for each user.  A cursor may be too low (what is read twice, the streams leave out), but
never too high: so it is moved only past what was read, and one that is not known yet begins with the user's newest
change, by which a stream that has missed earlier ones sees the hole and reads them from the log.

A change may be pruned before it was read: the clock was set forward, or this process stood still for longer than the
log is kept.  The readers see that something is missing, and let all whom it concerns look for themselves.
"""

from __future__ import annotations

import abc
import sys
from collections.abc import AsyncIterator

from supervisor.database.interface.database import Database
from supervisor.database.interface.wakeups import Heard
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.store.feed import changes
from supervisor.store.feed.changes import Change, Lost
from web.feed.hub import Hub
from web.feed.resume import is_whole

CHANGES_A_READ = 1000


class ChangeReader(abc.ABC):
    """Reads what is new.  Lives on one event loop."""

    @abc.abstractmethod
    async def start(self) -> None:
        """Whoever connects from now on may miss nothing."""

    @abc.abstractmethod
    def pages(self, heard: Heard) -> AsyncIterator[list[Change]]:
        """What is new since the last call, in order for each user; a change counts as read when it is `passed`."""

    @abc.abstractmethod
    def passed(self, change: Change) -> None:
        """The change has been published."""


class WholeLog(ChangeReader):
    """One cursor: the log's own id.  If reading fails it stays, and nothing is lost but time."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._database, self._hub = database, hub
        self._cursor = 0

    async def start(self) -> None:
        self._cursor = await self._database.read_async(changes.end_of_log)

    async def pages(self, heard: Heard) -> AsyncIterator[list[Change]]:
        if self._hub.is_idle:
            end = await self._database.read_async(changes.end_of_log)
            if self._hub.is_idle:  # who came in the meantime may have read less than this end
                self._cursor = end
                return
        while True:
            page, end = await self._page(self._cursor)
            read_to = min(self._cursor + CHANGES_A_READ, end)
            if not is_whole((change.log_id for change in page), after=self._cursor, until=read_to):
                for user in self._hub.listeners():  # whose they were is not known any more
                    self._hub.missed(user, sys.maxsize)
            if not page:
                self._cursor = end
                return
            yield page
            if len(page) < CHANGES_A_READ:
                return

    def passed(self, change: Change) -> None:
        self._cursor = change.log_id

    async def _page(self, cursor: int) -> tuple[list[Change], int]:
        """The next changes, and where the log ends; without pruning its ids have no hole."""
        return await self._database.read_async(
            lambda tx: (changes.tail(tx, cursor, CHANGES_A_READ), changes.end_of_log(tx))
        )


class EachUser(ChangeReader):
    """A cursor for each user who listens, all read in one query.

    One who has just left is remembered until the second rescan: a poll that comes back finds its cursor.
    """

    def __init__(self, database: Database, hub: Hub) -> None:
        self._database, self._hub = database, hub
        self._seqs: dict[str, int] = {}
        self._listened: set[str] = set()

    async def start(self) -> None:
        pass

    async def pages(self, heard: Heard) -> AsyncIterator[list[Change]]:
        if heard.users is None:
            listening = self._hub.listeners()
            kept = listening | self._listened
            self._seqs = {user: seq for user, seq in self._seqs.items() if user in kept}
            self._listened = listening
        else:
            listening = {user for user in heard.users if self._hub.listens(user)}
        while listening:
            found = await self._page({user: self._seqs.get(user) for user in listening})
            page = [each for each in found if isinstance(each, Change)]
            for lost in found:
                if isinstance(lost, Lost):
                    self._hub.missed(lost.user, lost.seq)
                    self._seqs[lost.user] = lost.seq
            for user, seq in {change.user: change.seq for change in reversed(page)}.items():
                if self._seqs.get(user) != seq - 1:
                    self._hub.wake_waiters(user)  # which of the earlier changes were news to it is not known
            yield page
            if len(found) < CHANGES_A_READ:
                return

    def passed(self, change: Change) -> None:
        self._seqs[change.user] = change.seq

    async def _page(self, places: dict[str, int | None]) -> list[Change | Lost]:
        return await self._database.read_async(lambda tx: changes.after_each(tx, places, CHANGES_A_READ))


def change_reader(database: Database, hub: Hub) -> ChangeReader:
    """The one that fits the database."""
    return WholeLog(database, hub) if isinstance(database, SqliteDatabase) else EachUser(database, hub)
