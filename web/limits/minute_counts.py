"""Counters per name for the present minute: in memory, and in the broker if several web processes share one.

A minute is a window of the wall clock, so that all hosts use the same one.  The broker is called in one round trip.
While it does not answer, this process counts alone: an absent broker is never a reason to refuse a request.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger("darkroom.web")

WINDOW_SECONDS = 60
MOST_NAMES = 200_000  # in memory; each request of a further name counts as its first
PATIENCE_SECONDS = 0.25
PAUSE_SECONDS = 5.0  # before a broker that did not answer is called again
KEY = "darkroom:quota:"


class MinuteCounts:
    """Counters of one web process."""

    def __init__(self) -> None:
        self._window = -1
        self._counts: dict[str, int] = {}

    async def add(self, names: Sequence[str], *, window: int) -> list[int]:
        """Count each name once; the counts of this minute."""
        if window != self._window:
            self._window, self._counts = window, {}
        return [self._add_one(name) for name in names]

    async def look(self, names: Sequence[str], *, window: int) -> list[int]:
        """The counts of this minute, without counting."""
        return [self._counts.get(name, 0) if window == self._window else 0 for name in names]

    def _add_one(self, name: str) -> int:
        count = self._counts.get(name, 0) + 1
        if count > 1 or len(self._counts) < MOST_NAMES:
            self._counts[name] = count
        return count

    async def close(self) -> None:
        """Nothing to close."""


class SharedCounts(MinuteCounts):
    """The same, added up over all web processes with this broker."""

    def __init__(self, broker_url: str) -> None:
        super().__init__()
        self._client = redis.asyncio.Redis.from_url(
            broker_url,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._away_until = 0.0

    async def add(self, names: Sequence[str], *, window: int) -> list[int]:
        """As in memory; the larger of both counts, so that a restarted broker resets no count."""
        here = await super().add(names, window=window)
        if time.monotonic() < self._away_until:
            return here
        try:
            everywhere = await self._add_at_broker(names, window)
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("quotas are counted by this process alone: the broker does not answer (%s)", error)
            return here
        return [max(pair) for pair in zip(here, everywhere, strict=True)]

    async def look(self, names: Sequence[str], *, window: int) -> list[int]:
        """As in memory; the larger of both counts."""
        here = await super().look(names, window=window)
        if time.monotonic() < self._away_until:
            return here
        try:
            found = await self._client.mget([f"{KEY}{window}:{name}" for name in names])
        except (RedisError, OSError, TimeoutError):
            return here
        return [max(count, int(other or 0)) for count, other in zip(here, found, strict=True)]

    async def _add_at_broker(self, names: Sequence[str], window: int) -> list[int]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                key = f"{KEY}{window}:{name}"
                pipeline.incr(key)
                pipeline.expire(key, 2 * WINDOW_SECONDS)
            return [int(count) for count in (await pipeline.execute())[::2]]

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()
