"""Rows that the database refused: each is left alone for a while, and logged once, and then at intervals with a count.

A refused row would probably be refused again a quarter of a second later, and would fill the log and the batches.  Each
process keeps this in its own memory: another process, or the next start, finds the same row again.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable
from typing import Any

from supervisor.store.sql.row_isolation import Refused

AGAIN_SECONDS = 60.0
AGAIN_IF_LOCKED_SECONDS = 5.0
TELL_AGAIN_SECONDS = 600.0


@dataclasses.dataclass
class _Memory:
    left_until: float
    told_at: float
    times: int


class Refusals:
    """The refused rows that this process knows; usable from all threads.  Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[tuple[str, str], _Memory] = {}

    def passing(self, what: str, now: float) -> list[str]:
        """Ids of the rows of this kind to leave alone for now."""
        return [
            row_id for (kind, row_id), each in self._known.items() if kind == what and now < each.left_until
        ]

    def note(self, refused: Iterable[Refused], now: float) -> list[tuple[Refused, int]]:
        """Add new refusals; those to be logged, each with the number of its refusals so far."""
        with self._guard:
            self._forget(now)
            return [(each, times) for each in refused if (times := self._times_to_tell(each, now))]

    def _times_to_tell(self, refused: Refused, now: float) -> int:
        """0 if it was logged recently."""
        key = (refused.what, refused.row_id)
        memory = self._known.setdefault(key, _Memory(now, now - TELL_AGAIN_SECONDS, 0))
        seconds = AGAIN_IF_LOCKED_SECONDS if refused.is_locked else AGAIN_SECONDS
        memory.left_until, memory.times = now + seconds, memory.times + 1
        if now - memory.told_at < TELL_AGAIN_SECONDS:
            return 0
        memory.told_at = now
        return memory.times

    def tell(self, log: Any, refused: Iterable[Refused], now: float) -> None:
        """Add new refusals, and write a line for each that is to be logged.  log: a structlog logger."""
        for each, times in self.note(refused, now):
            tell = log.warning if each.is_locked else log.error
            tell("row_refused", kind=each.what, id=each.row_id, reason=each.reason, times=times)

    def _forget(self, now: float) -> None:
        """A row that was not refused for so long was changed or deleted meanwhile."""
        self._known = {
            key: each for key, each in self._known.items() if now - each.left_until < TELL_AGAIN_SECONDS
        }
