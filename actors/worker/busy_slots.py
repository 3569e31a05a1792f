"""The number of a worker's busy slots in the database, corrected as soon as fewer are busy than the heartbeat reported.

A heartbeat reports the number, and the dispatcher uses it until the next one (CORRECTNESS 9).  Without a correction,
slots that become free in between would stay empty for seconds while tasks wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from supervisor.core.errors import Fault

log = structlog.get_logger(__name__)

GATHER_SECONDS = 0.02  # attempts that end together are reported together


class BusySlots:
    """Used on the event loop alone. count: slots that are busy now; tell: stores a lower number.

    A late store, after a heartbeat with a higher number, does no harm: slots that hold a row are counted anyway.
    """

    def __init__(self, count: Callable[[], int], tell: Callable[[int], Awaitable[object]]) -> None:
        self._count, self._tell = count, tell
        self._told = 0
        self._telling: asyncio.Task[None] | None = None

    def were_told(self, number: int) -> None:
        """Record that a heartbeat with this number was stored; some attempts may have ended meanwhile."""
        self._told = number
        self.may_have_fallen()

    def may_have_fallen(self) -> None:
        """Record the end of an attempt."""
        if self._telling is None and self._count() < self._told:
            self._telling = asyncio.get_running_loop().create_task(self._tell_lower())

    def close(self) -> None:
        """Store nothing more."""
        if self._telling is not None:
            self._telling.cancel()

    async def _tell_lower(self) -> None:
        try:
            while self._count() < self._told:
                await asyncio.sleep(GATHER_SECONDS)
                number = self._count()
                await self._tell(number)
                self._told = min(self._told, number)
        except Fault as fault:
            log.warning("busy_slots_not_told", reason=str(fault))  # the next heartbeat stores it
        finally:
            self._telling = None
