"""The durations of providers' calls, written to the metrics a few times a second without waiting.

A write for each call would cost as much as the claim of its task.  Unwritten durations are lost with the process.
"""

from __future__ import annotations

import asyncio

from supervisor.database.interface.database import Database
from supervisor.store.counters import counters
from supervisor.store.counters.counters import Observation

GATHER_SECONDS = 0.25


class CallMetrics:
    """Collects durations.  Lives on the event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: list[Observation] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, name: str, outcome: str, seconds: float) -> None:
        """Record the end of a call of this provider."""
        labels = {"provider": name, "outcome": outcome}
        self._seen.append(Observation("darkroom_ai_call_seconds", seconds, labels))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self.write)

    def write(self) -> None:
        """Write the collected durations."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        seen, self._seen = self._seen, []
        if seen:
            self._database.write(lambda tx: counters.observe_each(tx, seen))
