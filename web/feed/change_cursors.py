"""This process's position in the change log: one place for all users, or one seq for each listening user.

On SQLite the log's own order is the order of commits, so one cursor is enough.  On PostgreSQL it is not: a later id may
be visible before an earlier one, and a cursor that had moved on would miss the earlier one.  There only a user's seq
follows the commits, so each user has a cursor.  A cursor may be too low (streams drop changes that are read twice), but
never too high.  So it moves only past changes that were read.  A new cursor begins with the user's newest change: a
stream that missed earlier changes sees the gap and reads them from the log.

A change may be deleted before it was read: the clock was set forward, or this process stood still for longer than the
log is kept.  The cursors notice the gap, and let all affected streams read the log themselves.
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
        """Begin: streams that connect from now on miss nothing."""

    @abc.abstractmethod
    def pages(self, heard: Heard) -> AsyncIterator[list[Change]]:
        """The changes since the last call, in order for each user; a change counts as read after `passed`."""

    @abc.abstractmethod
    def passed(self, change: Change) -> None:
        """Record that the change was published."""


class WholeLog(ChangeReader):
    """One cursor: the log's own id.  If reading fails, the cursor stays, and only time is lost."""

    def __init__(self, database: Database, hub: Hub) -> None:
        self._database, self._hub = database, hub
        self._cursor = 0

    async def start(self) -> None:
        self._cursor = await self._database.read_async(changes.end_of_log)

    async def pages(self, heard: Heard) -> AsyncIterator[list[Change]]:
        if self._hub.is_idle:
            end = await self._database.read_async(changes.end_of_log)
            if self._hub.is_idle:  # a stream that came meanwhile may have read less than this end
                self._cursor = end
                return
        while True:
            page, end = await self._page(self._cursor)
            read_to = min(self._cursor + CHANGES_A_READ, end)
            if not is_whole((change.log_id for change in page), after=self._cursor, until=read_to):
                for user in self._hub.listeners():  # their users are unknown
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
        """The next changes, and the end of the log; without deletions its ids have no gap."""
        return await self._database.read_async(
            lambda tx: (changes.tail(tx, cursor, CHANGES_A_READ), changes.end_of_log(tx))
        )


class EachUser(ChangeReader):
    """A cursor for each listening user, all read in one query.

    A user who has just left is kept until the second rescan, so that a returning poll finds its cursor.
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
                    self._hub.wake_waiters(user)  # it is unknown which of the earlier changes were new to it
            yield page
            if len(found) < CHANGES_A_READ:
                return

    def passed(self, change: Change) -> None:
        self._seqs[change.user] = change.seq

    async def _page(self, places: dict[str, int | None]) -> list[Change | Lost]:
        return await self._database.read_async(lambda tx: changes.after_each(tx, places, CHANGES_A_READ))


def change_reader(database: Database, hub: Hub) -> ChangeReader:
    """The cursors for this database."""
    return WholeLog(database, hub) if isinstance(database, SqliteDatabase) else EachUser(database, hub)
