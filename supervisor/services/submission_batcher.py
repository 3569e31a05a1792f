"""Submissions of one process, handed to the writer together.

While one crowd is being committed the next one gathers; a step takes all that wait at the moment it runs, so the
crowd is as large as the load makes it, and a single submission waits for nobody.  The answers of a crowd come back to
the event loop in one call.  What was handed in is stored whether its caller still listens or not.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib

from config.settings import Settings
from supervisor.database.interface.database import Database, Transaction
from supervisor.services.queue_position_cache import FreshOrder
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.tasks.submit import Outcome, Submitted, submit_many

MOST_STEPS_UNDER_WAY = 2  # one at work and one that gathers
MOST_IN_A_CROWD = 256  # others write too

_Waiting = tuple[NewTask, "asyncio.Future[Submitted]"]


class Submissions:
    """The way of a process's submissions into its database.  Lives on one event loop."""

    def __init__(self, settings: Settings, database: Database, order: FreshOrder) -> None:
        self._settings, self._database, self._order = settings, database, order
        self._waiting: collections.deque[_Waiting] = collections.deque()  # taken from by the writer's thread
        self._steps = self._pending = 0
        self._is_planned = False

    async def submit(self, new: NewTask) -> Submitted:
        """The task once it is stored, or the one that its key stands for.  Raises the outcome of a refusal."""
        self._pending = (await self._order.latest()).pending
        answer: asyncio.Future[Submitted] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, answer))
        self._plan_step()
        return await answer

    def _plan_step(self) -> None:
        """A step soon: whoever came with the same turn of the event loop goes along."""
        if not self._is_planned and self._steps < MOST_STEPS_UNDER_WAY:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._start_step)

    def _start_step(self) -> None:
        self._is_planned = False
        loop, pending = asyncio.get_running_loop(), self._pending
        crowd: list[_Waiting] = []

        def store(tx: Transaction) -> list[Outcome]:
            self._take_into(crowd)
            orders = [new for new, _ in crowd]
            return submit_many(tx, self._settings, orders, pending=pending) if orders else []

        def settle(done: concurrent.futures.Future[list[Outcome]]) -> None:
            self._steps -= 1
            failure = done.exception()
            if failure is not None and not crowd:
                self._take_into(crowd)  # the transaction could not even begin: whoever waits must hear of it
            outcomes = [failure] * len(crowd) if failure is not None else done.result()
            for (_, answer), outcome in zip(crowd, outcomes, strict=True):
                self._answer(answer, outcome)
            if self._waiting:
                self._plan_step()

        self._steps += 1
        self._database.write(store).add_done_callback(lambda done: loop.call_soon_threadsafe(settle, done))

    def _take_into(self, crowd: list[_Waiting]) -> None:
        """Move what waits into the crowd; called by the writer's thread or by the event loop."""
        with contextlib.suppress(IndexError):
            while len(crowd) < MOST_IN_A_CROWD:
                crowd.append(self._waiting.popleft())

    def _answer(self, answer: asyncio.Future[Submitted], outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, Submitted) and not outcome.is_replay:
            self._order.note_joined(outcome.view)
        if answer.done():  # its caller has gone away
            return
        if isinstance(outcome, Submitted):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)
