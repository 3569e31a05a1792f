"""Who may work next where there are few places: whoever has the fewest of them, then whoever was served longest ago.

So somebody with a hundred things to do is served as often as somebody with one, and who comes fresh waits for at most
one turn of each of the others.  It belongs to one event loop.
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
    """places: how many work at once.  most_each: how many of them one may have; None for no bound but `places`."""

    def __init__(self, places: int, most_each: int | None = None) -> None:
        if places < 1:
            raise ValueError("places must be at least 1.")
        self._free, self._most_each = places, most_each or places
        self._working: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._served: dict[str, int] = {}  # the number of the last turn, of those who work or wait
        self._turn = 0

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return sum(len(line) for line in self._waiting.values())

    @contextlib.asynccontextmanager
    async def place(self, whose: str = "") -> AsyncIterator[None]:
        """A place, for as long as the block runs.  whose: those of one name share their turns."""
        await self.take(whose)
        try:
            yield
        finally:
            self.give_back(whose)

    async def held_through(self, work: Callable[[], Awaitable[T]], whose: str = "") -> T:
        """What the work makes, in a place that is held until it has ended: also when nobody waits for it any more, as
        work in a thread can't be interrupted."""
        await self.take(whose)
        try:
            running = asyncio.ensure_future(work())
        except BaseException:
            self.give_back(whose)
            raise
        running.add_done_callback(lambda _: self.give_back(whose))
        return await asyncio.shield(running)

    async def take(self, whose: str = "") -> None:
        """Wait for a place.  Who is cancelled meanwhile has none."""
        if self._free and self._working[whose] < self._most_each and not self._waiting:
            self._seat(whose)
            return
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(waiter)
        self._serve()  # others may wait only because they have their share already
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give_back(whose)  # it was given to us in the same moment
            else:
                self._forget(whose, waiter)
            raise

    def give_back(self, whose: str = "") -> None:
        """A place is free again."""
        self._free += 1
        self._working[whose] -= 1
        if not self._working[whose]:
            del self._working[whose]
            if whose not in self._waiting:
                self._served.pop(whose, None)
        self._serve()

    def cancel_waiting(self) -> None:
        """Nobody who waits gets a place any more."""
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
