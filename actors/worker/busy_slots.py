"""What the dispatcher believes of a worker's busy slots, put right as soon as fewer are busy than it was told.

A heartbeat tells how many are busy, and the dispatcher counts on that until the next one (CORRECTNESS 9).  Slots that
become free in between would stay empty for seconds while tasks wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from supervisor.core.errors import Fault

log = structlog.get_logger(__name__)

GATHER_SECONDS = 0.02  # those that end together are told together


class BusySlots:
    """Lives on the event loop.  count: slots that are busy now; tell: stores a number that is lower than before.

    One that comes late, after a heartbeat with a higher number, does no harm: what holds a row is counted anyway.
    """

    def __init__(self, count: Callable[[], int], tell: Callable[[int], Awaitable[object]]) -> None:
        self._count, self._tell = count, tell
        self._told = 0
        self._telling: asyncio.Task[None] | None = None

    def were_told(self, number: int) -> None:
        """A heartbeat with this number is stored; some may have ended meanwhile."""
        self._told = number
        self.may_have_fallen()

    def may_have_fallen(self) -> None:
        """An attempt has ended."""
        if self._telling is None and self._count() < self._told:
            self._telling = asyncio.get_running_loop().create_task(self._tell_lower())

    def close(self) -> None:
        """Tell nothing more."""
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
            log.warning("busy_slots_not_told", reason=str(fault))  # the next heartbeat does
        finally:
            self._telling = None
