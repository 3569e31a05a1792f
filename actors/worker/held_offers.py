"""The offers of this process, held by its running attempts: a second lock behind the dispatcher's count of rows.

The dispatcher counts rows. An attempt that lost its row (cancelled, released, past its deadline) runs here until the
next heartbeat cancels it. By then the dispatcher may have given us another task. That task waits here, in the order of
arrival, until the first has really ended. So two tasks never share an offer.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Mapping

from supervisor.core.placement import Amounts
from supervisor.steps.lanes import read_lane


class HeldOffers:
    """Used on the event loop alone."""

    def __init__(self, offers: Amounts, needs: Mapping[str, Amounts]) -> None:
        self._free = dict(offers)
        self._offers, self._needs = offers, needs
        self._waiting: collections.deque[tuple[Amounts, asyncio.Future[None]]] = collections.deque()

    def could_hold(self, type_: str, lane: str = "") -> bool:
        """Whether we offer enough for a task of this type, at this step; false where our settings differ from the
        dispatcher's."""
        return all(self._offers.get(name, 0) >= amount for name, amount in self._need(type_, lane).items())

    def _need(self, type_: str, lane: str) -> Amounts:
        return read_lane(lane).needs if lane else self._needs.get(type_, {})

    @contextlib.asynccontextmanager
    async def held(self, type_: str, lane: str = "") -> AsyncIterator[None]:
        """What the type, or its step, needs is ours in the block; waited for where another has it."""
        need = self._need(type_, lane)
        if not need:
            yield
            return
        await self._take(need)
        try:
            yield
        finally:
            self._give_back(need)

    async def _take(self, need: Amounts) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((need, turn))
        self._let_next_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._let_next_in()  # the attempts behind it
            else:
                self._give_back(need)
            raise

    def _give_back(self, need: Amounts) -> None:
        for name, amount in need.items():
            self._free[name] += amount
        self._let_next_in()

    def _let_next_in(self) -> None:
        while self._waiting:
            need, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
                continue
            if any(self._free.get(name, 0) < amount for name, amount in need.items()):
                return
            self._waiting.popleft()
            for name, amount in need.items():
                self._free[name] -= amount
            turn.set_result(None)
