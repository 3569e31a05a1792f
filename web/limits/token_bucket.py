"""A rate limit: a bucket of tokens for each name, filled evenly.  In the memory of one process, bounded."""

from __future__ import annotations

from collections import OrderedDict

MOST_REMEMBERED = 100_000


class RateLimit:
    """At most `per_minute` at once, and as many a minute; 0 = no limit."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        # Tokens, and when they were counted.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, *, now: float) -> float:
        """0 if `who` may go on, else the seconds to wait.  now: a monotonic clock, seconds."""
        if not self._per_minute:
            return 0.0
        a_second = self._per_minute / 60
        tokens, counted_at = self._buckets.pop(who, (float(self._per_minute), now))
        tokens = min(float(self._per_minute), tokens + (now - counted_at) * a_second)
        allowed = tokens >= 1
        self._buckets[who] = (tokens - allowed, now)
        if len(self._buckets) > MOST_REMEMBERED:
            self._buckets.popitem(last=False)  # the least recently used: the fullest bucket
        return 0.0 if allowed else (1 - tokens) / a_second
