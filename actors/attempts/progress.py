"""Progress of an attempt: written after FIRST_SECONDS, then at most once a second, and only if it changed.

The first write waits FIRST_SECONDS: the user has just seen the claim, and the start of the attempt must not wait for
another commit.
"""

from __future__ import annotations

import asyncio

from supervisor.database.interface.database import BatchedStep, Database
from supervisor.media.plain_data import plain_text
from supervisor.store.tasks import claims

FIRST_SECONDS = 0.25
SECONDS_BETWEEN_WRITES = 1.0


class ProgressReport:
    """Collects a provider's progress and writes the newest.  Lives on the event loop."""

    def __init__(self, database: Database, task_id: str, lease: int) -> None:
        self._database = database
        self._task_id, self._lease = task_id, lease
        self._percent, self._stage = 0, ""
        self._written: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def report(self, percent: int, stage: str) -> None:
        """Set the progress; percent 0-99, never falling.  Cheap: call it as often as you like."""
        if self._closed:
            return
        self._percent, self._stage = max(self._percent, min(99, int(percent))), plain_text(stage[:100])
        if self._timer is None:
            wait = FIRST_SECONDS if self._written is None else 0
            self._timer = asyncio.get_running_loop().call_later(wait, self._write)

    def waits(self, stage: str) -> None:
        """The attempt waits, and another statement writes that stage; `_write` must not replace it by an older one."""
        self._stage = stage[:100]

    def close(self) -> None:
        """Write nothing more, because the attempt's end follows."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _write(self) -> None:
        self._timer = None
        now = (self._percent, self._stage)
        if self._closed or now == self._written:
            return
        self._written = now
        percent, stage = now
        # Not awaited: another report follows a failed one, and the heartbeat notices a lost lease.
        said = claims.Report(self._task_id, self._lease, percent, stage)
        self._database.write(BatchedStep("reported", claims.report_all, said), order_key=self._task_id)
        self._timer = asyncio.get_running_loop().call_later(SECONDS_BETWEEN_WRITES, self._write)
