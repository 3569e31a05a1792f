"""Batches of submissions of one process.

While one batch is being committed, the next one collects submissions.  A step takes all that wait when it runs, so the
size of a batch follows the load, and a single submission does not wait for others.  The answers of a batch return to
the event loop in one call.  A submission is stored even if its caller has disconnected.

Where steps run side by side, a second one would only make both batches smaller, at twice the cost, and would often wait
for the accounts that the first has locked.  So it begins only if the first one takes long: perhaps it waits for an
account that another process has locked, and that concerns no order of the second.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib

from config.settings import Settings
from supervisor.core.queue_position import WaitingOrder
from supervisor.database.interface.database import Database, Transaction
from supervisor.services.queue_position_cache import FreshOrder
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.tasks.submit import Outcome, Submitted, submit_many

MOST_STEPS_UNDER_WAY = 2  # one that is committed and one that collects
MOST_IN_A_CROWD = 256  # others write too
LONG_SECONDS = 0.05  # some ten times an ordinary transaction

_Waiting = tuple[NewTask, "asyncio.Future[Submitted]"]


class Submissions:
    """Stores a process's submissions in batches.  Lives on one event loop."""

    def __init__(self, settings: Settings, database: Database, order: FreshOrder) -> None:
        self._settings, self._database, self._order = settings, database, order
        self._waiting: collections.deque[_Waiting] = collections.deque()  # emptied by the writer's thread
        self._pending = 0
        self._began: list[float] = []  # when each step under way began, by the loop's clock
        self._planned: asyncio.Handle | None = None

    async def submit(self, new: NewTask) -> Submitted:
        """The stored task, or the one with the same key.  Raises the outcome of a refusal."""
        return await self.begin(new)

    def begin(self, new: NewTask) -> asyncio.Future[Submitted]:
        """The result of `submit`, which is under way: shield it where the caller may go."""
        order = self._order.fresh()
        return (
            asyncio.ensure_future(self._begin_after_reading(new)) if order is None else self._add(new, order)
        )

    async def _begin_after_reading(self, new: NewTask) -> Submitted:
        return await self._add(new, await self._order.latest())

    def _add(self, new: NewTask, order: WaitingOrder) -> asyncio.Future[Submitted]:
        self._pending = order.pending
        answer: asyncio.Future[Submitted] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, answer))
        self._plan_step()
        return answer

    def _plan_step(self) -> None:
        """Schedule a step; it also takes submissions of the same turn of the event loop."""
        if self._planned is not None or len(self._began) == MOST_STEPS_UNDER_WAY:
            return
        loop = asyncio.get_running_loop()
        if self._began and self._database.runs_side_by_side:
            self._planned = loop.call_at(min(self._began) + LONG_SECONDS, self._start_step)
        else:
            self._planned = loop.call_soon(self._start_step)

    def _start_step(self) -> None:
        self._planned = None
        loop, pending = asyncio.get_running_loop(), self._pending
        began = loop.time()
        crowd: list[_Waiting] = []

        def store(tx: Transaction) -> list[Outcome]:
            self._take_into(crowd)
            orders = [new for new, _ in crowd]
            return submit_many(tx, self._settings, orders, pending=pending) if orders else []

        def settle(done: concurrent.futures.Future[list[Outcome]]) -> None:
            self._began.remove(began)
            failure = done.exception()
            if failure is not None and not crowd:
                # the transaction could not even begin: the waiting callers must get the error
                self._take_into(crowd)
            outcomes = [failure] * len(crowd) if failure is not None else done.result()
            for (_, answer), outcome in zip(crowd, outcomes, strict=True):
                self._answer(answer, outcome)
            if self._planned is not None and not self._began:
                self._planned.cancel()  # it may have waited for this end
                self._planned = None
            if self._waiting:
                self._plan_step()

        self._began.append(began)
        self._database.write(store).add_done_callback(lambda done: loop.call_soon_threadsafe(settle, done))

    def _take_into(self, crowd: list[_Waiting]) -> None:
        """Move waiting submissions into the batch; called by the writer's thread or by the event loop."""
        with contextlib.suppress(IndexError):
            while len(crowd) < MOST_IN_A_CROWD:
                crowd.append(self._waiting.popleft())

    def _answer(self, answer: asyncio.Future[Submitted], outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, Submitted) and not outcome.is_replay:
            self._order.note_joined(outcome.view)
        if answer.done():  # its caller has disconnected
            return
        if isinstance(outcome, Submitted):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)
