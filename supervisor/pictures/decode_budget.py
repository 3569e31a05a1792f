"""The limit of pixels that are decoded at once, since pixels need the memory.  It belongs to one event loop."""

from __future__ import annotations

import asyncio
from collections import deque


class DecodeBudget:
    """Pixels that are being decoded.  A picture above the limit is decoded when it is alone."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, pixels: int) -> int:
        """Wait for room; the number of pixels that was taken."""
        pixels = min(pixels, self._most)
        if not pixels:
            return 0
        if not self._waiting and self._taken + pixels <= self._most:
            self._taken += pixels
            return pixels
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (pixels, waiter)
        self._waiting.append(entry)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self.give_back(pixels)
            else:
                self._waiting.remove(entry)
                self._serve()
            raise
        return pixels

    def give_back(self, pixels: int) -> None:
        self._taken -= pixels
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._taken + self._waiting[0][0] <= self._most:
            pixels, waiter = self._waiting.popleft()
            if not waiter.done():
                self._taken += pixels
                waiter.set_result(None)
