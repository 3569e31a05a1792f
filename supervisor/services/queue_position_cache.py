"""The waiting order in memory: read at most once a second, only when it is needed, by one reader at a time.

A long queue takes long to read (0.2 s for 100,000 tasks).  A request that comes in the first moment waits for the new
reading until that moment is over, and then uses the old one, as later requests do.  So no submission waits long.  After
a slow reading the next one is postponed, so that readings never take more than a fifth of the time, with any database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from config.settings import Settings
from supervisor.core.queue_position import NOBODY_WAITS, WaitingOrder
from supervisor.database.interface.database import Database
from supervisor.store.queue import queue_snapshot

log = logging.getLogger("darkroom.order")

AT_MOST_EVERY_SECONDS = 1.0
PAUSES = 5  # from the beginning of a reading to the next, as a multiple of its duration
PATIENCE_SECONDS = 0.02  # the first moment of a reading


class _Step(NamedTuple):
    """A task has joined the line, or left it."""

    type: str
    place: str
    joined: bool


class WaitingOrderCache:
    """One process's reading of the waiting order.  Lives on one event loop."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._order: WaitingOrder | None = None
        self._begun_at = self._took = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._moment = asyncio.Event()  # set when a reading has ended, or taken longer than PATIENCE_SECONDS
        self._since: list[_Step] = []  # while a reading is under way

    async def latest(self) -> WaitingOrder:
        """The newest reading.  Raises the database's exceptions."""
        if (order := self.fresh()) is None:
            reading = self._reading or self._begin()
            if self._order is None:
                await asyncio.wait({reading})
            else:
                await self._moment.wait()  # one timer for all requests, as there may be hundreds
            if reading.done():
                reading.result()
            order = self._order
        assert order is not None
        return order

    def _begin(self) -> asyncio.Task[None]:
        self._begun_at = time.monotonic()
        self._since.clear()
        moment = self._moment = asyncio.Event()
        asyncio.get_running_loop().call_later(PATIENCE_SECONDS, moment.set)
        reading = self._reading = asyncio.create_task(self._read(), name="waiting order")
        reading.add_done_callback(lambda _: moment.set())
        reading.add_done_callback(_note_failure)  # the waiting request may have gone on
        return reading

    def fresh(self) -> WaitingOrder | None:
        """The newest reading; None if there is none, or if it is time for another."""
        old = time.monotonic() - self._begun_at
        return self._order if old < max(AT_MOST_EVERY_SECONDS, PAUSES * self._took) else None

    async def placed(self, view: Mapping[str, Any]) -> dict[str, Any]:
        """The view with its position and ETA; the order is read only for open tasks."""
        is_open = view["status"] in ("pending", "processing", "ai_processing")
        return (await self.latest() if is_open else NOBODY_WAITS).placed(view)

    def note_joined(self, view: Mapping[str, Any]) -> None:
        """Add a task that this process has admitted."""
        if view["is_in_line"]:
            self._note(_Step(view["type"], view["place"], joined=True))

    def note_left(self, view: Mapping[str, Any]) -> None:
        """Remove a task that this process has cancelled.  view: with the place that it had."""
        if view["place"] is not None:
            self._note(_Step(view["type"], view["place"], joined=False))

    def _note(self, step: _Step) -> None:
        if self._order is not None:
            _apply(self._order, step)
        if self._reading is not None:  # it may have begun before this was committed
            self._since.append(step)

    async def _read(self) -> None:
        try:
            order = await self._database.read_async(lambda tx: queue_snapshot.read_order(tx, self._settings))
            for step in self._since:
                _apply(order, step)
            self._order, self._took = order, time.monotonic() - self._begun_at
        finally:
            self._reading = None


def _note_failure(reading: asyncio.Task[None]) -> None:
    if not reading.cancelled() and reading.exception() is not None:
        log.warning("the waiting order can't be read: %s", reading.exception())


def _apply(order: WaitingOrder, step: _Step) -> None:
    if step.joined:
        order.add(step.type, step.place)
    else:
        order.remove(step.type, step.place)
