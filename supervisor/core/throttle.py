"""Batches with rests between them, so that housekeeping never blocks the database for long.  Pure."""

from __future__ import annotations

import time
from collections.abc import Callable

REST = 4  # times as long as the batch took: housekeeping takes at most a fifth of the time
SHORTEST_REST_SECONDS = 0.002


def next_size(size: int, seconds: float, *, within_seconds: float, most: int) -> int:
    """The size of the next batch, from the size and the time of the last one: half of one that took too long, one more
    than one that took less than half of what it may."""
    if seconds > within_seconds:
        return max(1, size // 2)
    return min(most, size + 1) if seconds < within_seconds / 2 else size


class Throttle:
    """Housekeeping for at most `seconds` seconds.  monotonic, sleep: the clock, for tests."""

    def __init__(
        self,
        seconds: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic, self._sleep = monotonic, sleep
        self._until = monotonic() + seconds

    def has_time(self) -> bool:
        return self._monotonic() < self._until

    def repeat(self, batch: Callable[[], int]) -> int:
        """Run batches until one finds nothing or the time is used up; the sum of their results."""
        total = 0
        while self.has_time():
            started = self._monotonic()
            done = batch()
            if not done:
                break
            total += done
            self._sleep(max(SHORTEST_REST_SECONDS, REST * (self._monotonic() - started)))
        return total
