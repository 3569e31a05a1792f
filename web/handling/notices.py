"""This process's notices about users, collected and stored every few seconds (`store.limits.notices`).

A flood costs a count in memory for each event, and one statement a user in FLUSH_SECONDS.  Notices that can't be stored
are kept for the next time, in bounded memory.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time

from metrics.web_metrics import WebMetrics
from supervisor.core.errors import Fault, InsufficientCredits, QueueFull, TooManyOpenTasks, UserBlocked
from supervisor.database.interface.database import Database
from supervisor.database.interface.errors import DatabaseError
from supervisor.store.limits import notices
from supervisor.store.limits.notices import EVERYBODY, Notice

FLUSH_SECONDS = 3.0
MOST_USERS = 10_000  # users that are counted at once; further ones are not noticed
MOST_STORED = 50  # users in one flush, the most affected ones
MINUTE_SECONDS = 60.0
MOST_FEEDS_A_MINUTE = 60  # opened by one user: ten streams that come back every ten seconds

log = logging.getLogger("darkroom.web")


class Notices:
    """Lives on one event loop."""

    def __init__(self, metrics: WebMetrics) -> None:
        self._metrics = metrics
        self._counted: collections.Counter[tuple[Notice, str]] = collections.Counter()
        self._opened: collections.Counter[str] = collections.Counter()
        self._minute = 0.0
        self._has_some = asyncio.Event()

    def refused(self, fault: Exception, user: str) -> None:
        """Record a refused order, if the reason is a block, a limit or missing credits."""
        match fault:
            case UserBlocked():
                notice = Notice.BLOCKED
            case InsufficientCredits():
                notice = Notice.NO_CREDITS
            case TooManyOpenTasks():
                notice = Notice.OPEN_TASKS
            case QueueFull():
                notice, user = Notice.QUEUE_FULL, EVERYBODY
            case _:
                return
        self._metrics.orders_refused.labels(notice.value).inc()
        self.note(notice, user)

    def note(self, notice: Notice, user: str) -> None:
        """Count one more event."""
        if (notice, user) in self._counted or len(self._counted) < MOST_USERS:
            self._counted[notice, user] += 1
            self._has_some.set()

    def opened_feed(self, user: str) -> None:
        """Record that the user has opened a stream; only too many are noticed."""
        self._metrics.feeds_opened.inc()
        now = time.monotonic()
        if now - self._minute >= MINUTE_SECONDS:
            self._minute = now
            self._opened.clear()
        if user in self._opened or len(self._opened) < MOST_USERS:
            self._opened[user] += 1
        if self._opened[user] > MOST_FEEDS_A_MINUTE:
            self.note(Notice.FEED_OPENED, user)

    async def flush(self, database: Database) -> None:
        """Store the counts."""
        if not self._counted:
            return
        taken, self._counted = self._counted, collections.Counter()
        self._has_some.clear()
        told = dict(taken.most_common(MOST_STORED))
        try:
            await database.write_async(lambda tx: notices.add(tx, told))
        except (Fault, DatabaseError) as error:
            log.warning("what was noticed of users could not be stored: %s", error)
            self._counted.update(told)
            self._has_some.set()

    async def store_in_time(self, database: Database) -> None:
        """Store once, a while after there was something to store.  What can't be stored for a reason that is not the
        database's is forgotten."""
        await self._has_some.wait()
        await asyncio.sleep(FLUSH_SECONDS)
        await self.flush(database)
