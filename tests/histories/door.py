"""A process's way to the real database: each transaction waits before it runs, and its answer waits after the commit.

A process may die in either wait.  While the database is away a transaction waits for it as long as the product does,
and then raises what the product raises.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import DatabaseBusy, OutcomeUnknown
from supervisor.database.interface.database import Database, Transaction
from tests.histories.blocking import Awaited, current
from tests.histories.virtual_loop import Process

if TYPE_CHECKING:
    from tests.histories.world import World

BUSY_SECONDS, OUTCOME_SECONDS = 15.0, 60.0
NOTICED_SECONDS = 3.0  # that a worker waits for its answer: time enough for others to get in between


class Door(Database):
    """The database as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__()
        self._world, self._process = world, process
        self._queued: dict[str, collections.deque[Callable[[], None]]] = {}

    def write(
        self,
        step: Callable[[Transaction], Any],
        *,
        order_key: str | None = None,
        lock_seconds: float | None = None,
    ) -> Any:
        return self._hand_in(step, "write", order_key)

    def write_now(self, step: Callable[[Transaction], Any], *, lock_seconds: float | None = None) -> Any:
        if current() is None:
            return self._world.transact(self._process, "write", step)
        return self._hand_in(step, "write").result()

    def read(self, query: Callable[[Transaction], Any]) -> Any:
        if current() is None:  # in a worker's thread, which ends at once here
            return self._world.transact(self._process, "read", query)
        return self._hand_in(query, "read").result()

    def glance(self, query: Callable[[Transaction], Any]) -> Any:
        return self.read(query)

    async def read_async(self, query: Callable[[Transaction], Any]) -> Any:
        return await asyncio.wrap_future(self._hand_in(query, "read"))

    def close(self) -> None:
        pass

    def _hand_in(
        self, step: Callable[[Transaction], Any], kind: str, order_key: str | None = None
    ) -> Awaited:
        future = Awaited()
        if self._process.is_dead:
            return future
        queued = self._queued.get(order_key) if order_key is not None else None
        if queued is not None:  # an earlier step with this key is not stored yet
            queued.append(lambda: self._begin(step, kind, order_key, future))
            return future
        if order_key is not None:
            self._queued[order_key] = collections.deque()
        self._begin(step, kind, order_key, future)
        return future

    def _begin(
        self, step: Callable[[Transaction], Any], kind: str, order_key: str | None, future: Awaited
    ) -> None:
        self._world.loop.in_world(
            self._world.delay(), self._run, step, kind, order_key, future, self._world.loop.time()
        )

    def _run(
        self,
        step: Callable[[Transaction], Any],
        kind: str,
        order_key: str | None,
        future: Awaited,
        since: float,
    ) -> None:
        world, result, error = self._world, None, None
        if self._process.is_dead and world.draw.random() < 0.5:
            return  # it never left its process
        away = world.database_away_until - world.loop.time()
        if away > 0:
            left = since + BUSY_SECONDS - world.loop.time()
            if left > 0:
                world.loop.in_world(min(away, left) + 0.01, self._run, step, kind, order_key, future, since)
                return
            error = DatabaseBusy("The database was away for 15 s; nothing was stored.")
        if error is None and not future.set_running_or_notify_cancel():
            self._end_order_key(order_key)
            return
        if error is None:
            try:
                result = world.transact(self._process, kind, step)
            except BaseException as raised:  # noqa: BLE001  told to whoever waits
                error = raised
            else:
                if kind == "write" and world.is_postgres and world.chance(0.002):
                    error = OutcomeUnknown()  # stored, and its answer lost
        self._end_order_key(order_key)
        wait = OUTCOME_SECONDS if isinstance(error, OutcomeUnknown) else world.delay()
        if error is None and kind == "write" and world.model.changed and world.worker_of(self._process):
            if world.chance(0.03):
                wait = NOTICED_SECONDS + 40.0 * world.draw.random()
            if wait > NOTICED_SECONDS:
                world.people.make_use_of(world.model.changed)
        world.loop.in_world(wait, self._answer, future, result, error)

    def _answer(self, future: Awaited, result: Any, error: BaseException | None) -> None:
        if self._process.is_dead or future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def _end_order_key(self, order_key: str | None) -> None:
        if order_key is None:
            return
        queued = self._queued[order_key]
        if queued:
            queued.popleft()()
        else:
            del self._queued[order_key]
