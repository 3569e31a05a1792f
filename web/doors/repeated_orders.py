"""Orders that were cut off, and their repeats: an SDK that repeats its order gets the task that the first sending made.

Whether a request repeats another is decided in the transaction that stores it (`cut_orders`).  Here each order notes
that its answer was fully written, or that its connection ended before; a repeat waits until that is noted.  An order of
a process that was killed has noted neither.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from supervisor.database.interface.database import Database
from supervisor.database.interface.life_lock import LifeLock
from supervisor.store.tasks import cut_orders
from supervisor.store.tasks.new_task import NewTask, Repeatable
from supervisor.store.tasks.submit import Submitted
from supervisor.store.tasks.unanswered_orders import Unanswered
from web.api.tasks import stored
from web.handling.context import CONTEXT, context_of
from web.http.detached_work import finished
from web.http.problems import problem_of

log = logging.getLogger("darkroom.web")

Place = tuple[str, str, str]


class CutOrders:
    """Which orders of this process were cut off a moment ago, and are being noted."""

    def __init__(self, database: Database, life: LifeLock) -> None:
        self._database, self._life = database, life
        self._noting: dict[Place, set[asyncio.Task[None]]] = {}

    def note(self, order: Repeatable, submission: asyncio.Future[Submitted]) -> None:
        """The order's connection has ended just now.  submission: perhaps still under way."""
        task = asyncio.create_task(self._note(order, submission, time.monotonic()))
        mine = self._noting.setdefault(order.place, set())
        mine.add(task)
        task.add_done_callback(lambda done: self._noted(order.place, done))

    async def noted(self, place: Place) -> None:
        """Return when nothing of this place is being noted."""
        while place in self._noting:
            await asyncio.wait(self._noting[place])

    async def close(self) -> None:
        """Return when all is noted."""
        while self._noting:
            await asyncio.wait([task for mine in self._noting.values() for task in mine])

    async def _note(self, order: Repeatable, submission: asyncio.Future[Submitted], ended_at: float) -> None:
        try:
            task_id = str((await submission).view["task_id"])
            await self._database.write_async(
                lambda tx: cut_orders.note(tx, task_id, order, time.monotonic() - ended_at, self._life.name)
            )
        except Exception as error:  # a refusal, of which nothing is stored; or a database that is away
            if problem_of(error) is None:
                log.exception("an order that was cut off can't be noted")

    def _noted(self, place: Place, task: asyncio.Task[None]) -> None:
        mine = self._noting[place]
        mine.discard(task)
        if not mine:
            del self._noting[place]


CUT_ORDERS = web.AppKey("CUT_ORDERS", CutOrders)
HandIn = Callable[[NewTask], Awaitable[Submitted]]


async def keep_cut_orders(app: web.Application) -> AsyncIterator[None]:
    """For as long as the application runs; so long this process lives for others."""
    context = app[CONTEXT]
    context.life.seek()
    app[CUT_ORDERS] = CutOrders(context.database, context.life)
    yield
    await app[CUT_ORDERS].close()
    await context.submissions.close()
    await asyncio.to_thread(context.life.close)


class Carried:
    """Gives the function that hands the order in.  The whole answer is to be written inside the block.

    Whatever ends the block otherwise has cut the answer off: the order may then be taken over by one repeat.
    """

    def __init__(self, request: web.Request, order: Repeatable) -> None:
        self._request, self._order = request, order
        self._under_way: list[tuple[NewTask, asyncio.Future[Submitted]]] = []

    async def __aenter__(self) -> HandIn:
        return self._hand_in

    async def __aexit__(self, _: object, reason: BaseException | None, __: object) -> None:
        keyless = [submission for new, submission in self._under_way if new.key is None]
        if reason is None:
            for submission in keyless:
                answered = Unanswered(self._order.body_hash, submission.result().view["task_id"])
                context_of(self._request).submissions.answered(answered)
            return
        for submission in keyless:  # one with a key is found by its key
            self._request.app[CUT_ORDERS].note(self._order, submission)
        if isinstance(reason, ConnectionError):
            # The caller has gone, or is to come again: nothing more is said, and no half of an answer looks like a
            # whole.
            if self._request.transport is not None:
                self._request.transport.abort()
            raise asyncio.CancelledError from None

    async def _hand_in(self, new: NewTask) -> Submitted:
        context = context_of(self._request)
        context.life.seek()  # again, where its connection has broken
        await self._request.app[CUT_ORDERS].noted(self._order.place)
        submission = context.submissions.begin(new)
        self._under_way.append((new, submission))
        return await stored(context, new, finished(submission))
