"""The one reader of the change log in this process: every change is read once and encoded once.

It starts at the log's present end, since whoever connects reads what is older by itself; streams are subscribed
before they read (CORRECTNESS 29), so what they did not read, the tailer brings.  On SQLite the log's own order is
the order of commits, so one cursor is enough.  If reading fails the cursor stays, and nothing is lost but time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from typing import Protocol

from metrics.web_metrics import WebMetrics
from supervisor.database import Database
from supervisor.lifecycle import FINAL
from supervisor.store import changes
from supervisor.wakeup import LOOK_AGAIN_SECONDS, SAFETY_SECONDS
from web.feed_event import Link, change_frame
from web.hub import Event, Hub

log = logging.getLogger("darkroom.web")

CHANGES_A_READ = 1000
OFFERS_BETWEEN_BREATHS = 500  # then the loop may serve others, and streams may empty their queues
RETRY_SECONDS = 1.0
DEAF_SECONDS = 5.0  # many times what passes between two wake-ups of an idle database


class Wakeups(Protocol):
    """Yields when the database may have changed, soon after the commit, and every SAFETY_SECONDS anyway."""

    def listen(self) -> AsyncIterator[object]: ...


class Tailer:
    """Brings the change log to the hub."""

    def __init__(self, database: Database, hub: Hub, link: Link, metrics: WebMetrics) -> None:
        self._database, self._hub, self._link, self._metrics = database, hub, link, metrics
        self._cursor: int | None = None

    async def start(self) -> None:
        """Take the log's present end as the place to go on from."""
        self._cursor = await self._database.read_async(changes.end_of_log)

    async def run(self, wakeups: Wakeups) -> None:
        """Follow the log until cancelled."""
        while True:
            try:
                if self._cursor is None:
                    await self.start()
                await self._follow(wakeups)
            except TimeoutError:
                log.error("no wake-up for %g s; listening anew", DEAF_SECONDS)
            except Exception:
                log.exception("the change log can't be followed; trying again")
            self._metrics.listener_up.set(0)
            await asyncio.sleep(RETRY_SECONDS)

    async def run_once(self) -> int:
        """Publish all that is in the log by now; how many changes there were."""
        assert self._cursor is not None
        before = self._cursor
        if self._hub.is_idle:
            end = await self._database.read_async(changes.end_of_log)
            if self._hub.is_idle:  # who came in the meantime may have read less than this end
                self._cursor = end
                return end - before
        while await self._publish_page():
            pass
        return self._cursor - before

    async def _follow(self, wakeups: Wakeups) -> None:
        """Raises TimeoutError when no wake-up comes, though one is due even where nothing happens."""
        clock = asyncio.get_running_loop().time
        last = looked = clock()
        async with _closing(wakeups.listen()) as heard:
            while True:
                async with asyncio.timeout(DEAF_SECONDS):
                    await anext(heard)
                self._metrics.listener_up.set(1)
                # A wake-up after so long is the one that always comes; an earlier one means a commit.
                is_commit, last = clock() - last < SAFETY_SECONDS, clock()
                if self._hub.is_idle and last - looked < SAFETY_SECONDS:
                    continue  # nobody listens: that the cursor is a little old costs nobody anything
                looked = last
                if not await self.run_once() and is_commit:
                    await self._look_again()

    async def _look_again(self) -> None:
        """The event may have come a moment before the commit could be seen."""
        for seconds in LOOK_AGAIN_SECONDS:
            await asyncio.sleep(seconds)
            if await self.run_once():
                return

    async def _publish_page(self) -> bool:
        """Publish one read's worth; whether there may be more."""
        cursor = self._cursor
        assert cursor is not None
        page = await self._database.read_async(lambda tx: changes.tail(tx, cursor, CHANGES_A_READ))
        offered = 0
        for change in page:
            if self._hub.listens(change.user):
                offered += 1 + self._hub.publish(change.user, _encoder(change, self._link))
            if change.data_type == "remove" or change.doc["status"] in FINAL:
                self._hub.task_ended(change.doc["task_id"])
            self._cursor = change.log_id
            if offered >= OFFERS_BETWEEN_BREATHS:
                offered = 0
                await asyncio.sleep(0)
        return len(page) == CHANGES_A_READ


@contextlib.asynccontextmanager
async def _closing(heard: AsyncIterator[object]) -> AsyncIterator[AsyncIterator[object]]:
    """Close an async generator when the block ends, so that its thread ends with it."""
    try:
        yield heard
    finally:
        if isinstance(heard, AsyncGenerator):
            await heard.aclose()


def _encoder(change: changes.Change, link: Link) -> Callable[[], Event]:
    def encode() -> Event:
        return Event(change.seq, change_frame(change, link), seconds_since_1970(change.created_at))

    return encode


def seconds_since_1970(time: str) -> float:
    """A time of the database, RFC 3339 in UTC, as a number."""
    return datetime.fromisoformat(time).timestamp()
