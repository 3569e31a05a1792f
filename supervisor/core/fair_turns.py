"""Turns at a limited number of places: next is the name with the fewest places, then the one served longest ago.

A user with a hundred jobs is served as often as one with a single job, and a new user waits for at most one turn of
each other user.  It belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_Waiter = asyncio.Future[None]


class Turns:
    """places: how many jobs run at once.  most_each: how many of them one name may have; None: only `places` limits
    it."""

    def __init__(self, places: int, most_each: int | None = None) -> None:
        if places < 1:
            raise ValueError("places must be at least 1.")
        self._free, self._most_each = places, most_each or places
        self._working: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._served: dict[str, int] = {}  # the number of the last turn of each name that works or waits
        self._turn = 0

    @property
    def waiting(self) -> int:
        """How many jobs wait for a place."""
        return sum(len(line) for line in self._waiting.values())

    @contextlib.asynccontextmanager
    async def place(self, whose: str = "") -> AsyncIterator[None]:
        """A place, for as long as the block runs.  whose: jobs with the same name share their turns."""
        await self.take(whose)
        try:
            yield
        finally:
            self.give_back(whose)

    async def held_through(self, work: Callable[[], Awaitable[T]], whose: str = "") -> T:
        """The result of the work.  Its place is held until the work has ended, also after the caller was cancelled,
        because work in a thread can't be interrupted."""
        await self.take(whose)
        try:
            running = asyncio.ensure_future(work())
        except BaseException:
            self.give_back(whose)
            raise
        running.add_done_callback(lambda _: self.give_back(whose))
        return await asyncio.shield(running)

    async def take(self, whose: str = "") -> None:
        """Wait for a place.  A caller that is cancelled meanwhile gets none."""
        if self._free and self._working[whose] < self._most_each and not self._waiting:
            self._seat(whose)
            return
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(waiter)
        self._serve()  # those that wait may already have their share
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give_back(whose)  # the place was given to us just before the cancel
            else:
                self._forget(whose, waiter)
            raise

    def give_back(self, whose: str = "") -> None:
        """Free a place."""
        self._free += 1
        self._working[whose] -= 1
        if not self._working[whose]:
            del self._working[whose]
            if whose not in self._waiting:
                self._served.pop(whose, None)
        self._serve()

    def cancel_waiting(self) -> None:
        """Waiting jobs get no place any more."""
        for line in self._waiting.values():
            for waiter in line:
                waiter.cancel()

    def _serve(self) -> None:
        while self._free and (whose := self._next()) is not None:
            line = self._waiting[whose]
            waiter = line.popleft()
            if not line:
                del self._waiting[whose]
            if not waiter.done():
                self._seat(whose)
                waiter.set_result(None)

    def _next(self) -> str | None:
        allowed = (name for name in self._waiting if self._working[name] < self._most_each)
        return min(allowed, key=lambda name: (self._working[name], self._served.get(name, 0)), default=None)

    def _seat(self, whose: str) -> None:
        self._free -= 1
        self._working[whose] += 1
        self._turn += 1
        self._served[whose] = self._turn

    def _forget(self, whose: str, waiter: _Waiter) -> None:
        line = self._waiting.get(whose)
        if line is not None:
            with contextlib.suppress(ValueError):
                line.remove(waiter)
            if not line:
                del self._waiting[whose]
        if whose not in self._waiting and not self._working[whose]:
            self._served.pop(whose, None)
