"""The one reader of the change log in this process: every change is read once and encoded once.

A new stream reads older changes itself.  It subscribes before it reads (CORRECTNESS 29), so the tailer brings all later
changes.  `change_cursors` keeps the tailer's position, with one class for each kind of database.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from typing import TypeVar

from metrics.web_metrics import WebMetrics
from supervisor.core.errors import Fault
from supervisor.core.lifecycle import FINAL
from supervisor.database.interface.database import Database
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.interface.wakeups import SOMETHING, Heard, Wakeups
from supervisor.store.feed.changes import Change
from web.feed.change_cursors import change_reader
from web.feed.feed_event import Link, change_frame
from web.feed.hub import Hub
from web.feed.stream import Event

T = TypeVar("T")

log = logging.getLogger("darkroom.web")

OFFERS_BETWEEN_BREATHS = 500  # then the loop serves other work, and streams empty their queues
RETRY_SECONDS = 1.0
IDLE_SECONDS = 15.0  # between wake-ups while no feed is open: no commit causes one
DEAF_SECONDS = 5.0  # in which a wake-up must come after it was due


class Tailer:
    """Publishes the change log to the hub."""

    def __init__(self, database: Database, hub: Hub, link: Link, metrics: WebMetrics) -> None:
        self._hub, self._link, self._metrics = hub, link, metrics
        self._reader = change_reader(database, hub)
        self._has_started = False

    async def start(self) -> None:
        """Begin at the present end of the log."""
        await self._reader.start()
        self._has_started = True

    async def run(self, wakeups: Wakeups) -> None:
        """Follow the log until cancelled."""
        usual_seconds = wakeups.safety_seconds

        def wait_as_usual() -> None:
            wakeups.safety_seconds, wakeups.heeds_commits = usual_seconds, True
            wakeups.interrupt()

        self._hub.when_listened = wait_as_usual
        while True:
            try:
                if not self._has_started:
                    await self.start()
                await self._follow(wakeups, usual_seconds)
            except TimeoutError:
                log.error("a wake-up is %g s overdue; listening anew", DEAF_SECONDS)
            except (Fault, DatabaseError) as error:
                log.error("the change log can't be read (%s); trying again", error)
            except Exception:
                log.exception("the change log can't be followed; trying again")
            self._metrics.tell_listening(False)
            await asyncio.sleep(RETRY_SECONDS)

    async def run_once(self, heard: Heard = SOMETHING) -> int:
        """Publish the new changes of the log; how many."""
        count = 0
        async with _closing(self._reader.pages(heard)) as pages:
            async for page in pages:
                await self._publish(page)
                count += len(page)
        return count

    async def _follow(self, wakeups: Wakeups, usual_seconds: float) -> None:
        """usual_seconds: between wake-ups without a commit, while somebody listens.

        Raises TimeoutError if no wake-up comes, though an idle database causes one too."""
        clock = asyncio.get_running_loop().time
        looked = clock()
        async with _closing(wakeups.listen()) as wake:
            while True:
                async with asyncio.timeout(wakeups.safety_seconds + DEAF_SECONDS):
                    heard = await anext(wake)
                self._metrics.tell_listening(wakeups.is_listening)
                last = clock()
                wakeups.safety_seconds = (
                    max(usual_seconds, IDLE_SECONDS) if self._hub.is_idle else usual_seconds
                )
                wakeups.heeds_commits = not self._hub.is_idle
                if self._hub.is_idle and last - looked < usual_seconds:
                    continue  # no feed is open, so an old cursor does no harm
                looked = last
                await self.run_once(heard)

    async def _publish(self, page: list[Change]) -> None:
        offered = 0
        for change in page:
            if self._hub.listens(change.user):
                offered += 1 + self._hub.publish(change.user, _encoder(change, self._link))
            is_end = change.data_type == "remove" or change.doc["status"] in FINAL
            self._hub.task_changed(change.doc["task_id"], is_end=is_end)
            self._reader.passed(change)
            if offered >= OFFERS_BETWEEN_BREATHS:
                offered = 0
                await self._hub.delivered()


@contextlib.asynccontextmanager
async def _closing(generator: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close an async generator when the block ends, so that its thread ends with it."""
    try:
        yield generator
    finally:
        if isinstance(generator, AsyncGenerator):
            await generator.aclose()


def _encoder(change: Change, link: Link) -> Callable[[], Event]:
    def encode() -> Event:
        return Event(change.seq, change_frame(change, link), seconds_since_1970(change.created_at))

    return encode


def seconds_since_1970(time: str) -> float:
    """A time of the database, RFC 3339 in UTC, as a number."""
    return datetime.fromisoformat(time).timestamp()
