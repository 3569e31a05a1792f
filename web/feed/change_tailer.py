"""The one reader of the change log in this process: every change is read once and encoded once.

Whoever connects reads what is older by itself; streams are subscribed before they read (CORRECTNESS 29), so what they
did not read, the tailer brings.  How far it has read is kept by `change_cursors`, one for each kind of database.
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

OFFERS_BETWEEN_BREATHS = 500  # then the loop may serve others, and streams may empty their queues
RETRY_SECONDS = 1.0
DEAF_SECONDS = 5.0  # many times what passes between two wake-ups of an idle database


class Tailer:
    """Brings the change log to the hub."""

    def __init__(self, database: Database, hub: Hub, link: Link, metrics: WebMetrics) -> None:
        self._hub, self._link, self._metrics = hub, link, metrics
        self._reader = change_reader(database, hub)
        self._has_started = False

    async def start(self) -> None:
        """Take the log's present end as the place to go on from."""
        await self._reader.start()
        self._has_started = True

    async def run(self, wakeups: Wakeups) -> None:
        """Follow the log until cancelled."""
        while True:
            try:
                if not self._has_started:
                    await self.start()
                await self._follow(wakeups)
            except TimeoutError:
                log.error("no wake-up for %g s; listening anew", DEAF_SECONDS)
            except (Fault, DatabaseError) as error:
                log.error("the change log can't be read (%s); trying again", error)
            except Exception:
                log.exception("the change log can't be followed; trying again")
            self._metrics.tell_listening(False)
            await asyncio.sleep(RETRY_SECONDS)

    async def run_once(self, heard: Heard = SOMETHING) -> int:
        """Publish what is in the log by now; how many changes there were."""
        count = 0
        async with _closing(self._reader.pages(heard)) as pages:
            async for page in pages:
                await self._publish(page)
                count += len(page)
        return count

    async def _follow(self, wakeups: Wakeups) -> None:
        """Raises TimeoutError when no wake-up comes, though one is due even where nothing happens."""
        clock = asyncio.get_running_loop().time
        last = looked = clock()
        async with _closing(wakeups.listen()) as wake:
            while True:
                async with asyncio.timeout(DEAF_SECONDS):
                    heard = await anext(wake)
                self._metrics.tell_listening(wakeups.is_listening)
                # A wake-up after so long is the one that always comes; an earlier one means a commit.
                is_commit, last = clock() - last < wakeups.safety_seconds, clock()
                if self._hub.is_idle and last - looked < wakeups.safety_seconds:
                    continue  # nobody listens: that the cursor is a little old costs nobody anything
                looked = last
                if not await self.run_once(heard) and is_commit and not self._hub.is_idle:
                    await self._look_again(wakeups.look_again_seconds)

    async def _look_again(self, pauses: tuple[float, ...]) -> None:
        """The event may have come a moment before the commit could be seen."""
        for seconds in pauses:
            await asyncio.sleep(seconds)
            if await self.run_once():
                return

    async def _publish(self, page: list[Change]) -> None:
        offered = 0
        for change in page:
            if self._hub.listens(change.user):
                offered += 1 + self._hub.publish(change.user, _encoder(change, self._link))
            if change.data_type == "remove" or change.doc["status"] in FINAL:
                self._hub.task_ended(change.doc["task_id"])
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
