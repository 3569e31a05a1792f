"""Batches of submissions of one process.

While one batch is being committed, the next one collects submissions.  A step takes all that wait when it runs, so the
size of a batch follows the load, and a single submission does not wait for others.  The answers of a batch return to
the event loop in one call.  A submission is stored even if its caller has disconnected.

Where steps run side by side, a second one would only make both batches smaller, at twice the cost, and would often wait
for the accounts that the first has locked.  So it begins only if the first one takes long.

Another program may hold a user's account for as long as it likes, and that concerns no other user.  So a step leaves
the orders of such users out.  They are tried again, in the order in which they came and together with later ones of
the user, after a pause that grows with their wait.  Left out again and again, they might never meet a free moment of an
account that is in constant use, so now and then one user's orders wait for their turn at the lock: for a moment only,
since that takes a writer's thread.

That an order was answered is stored with the next batch, and by itself only while no orders come.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

from config.settings import Settings
from supervisor.core.errors import AccountLocked, DatabaseBusy, Fault
from supervisor.core.queue_position import WaitingOrder
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.interface.life_lock import LifeLock
from supervisor.services.queue_position_cache import WaitingOrderCache
from supervisor.store.tasks import cut_orders
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.tasks.submit import Outcome, Submitted, submit_many
from supervisor.store.tasks.unanswered_orders import Unanswered

MOST_STEPS_UNDER_WAY = 2  # one that is committed and one that collects
MOST_IN_A_CROWD = 256  # others write too
LONG_SECONDS = 0.05  # some ten times an ordinary transaction
MOST_HELD_SECONDS = 20.0  # callers wait for no more than 30 or 60 s
# A transaction of ours holds an account for a few milliseconds.
LEAST_PAUSE_SECONDS = 0.005
MOST_PAUSE_SECONDS = 0.25
WAIT_AT_A_LOCK_SECONDS = 0.05
BETWEEN_VAIN_WAITS_SECONDS = 0.2  # so they take a fifth of one writer thread
# A process that is killed meanwhile leaves an answered order that looks unanswered.
ANSWERED_SECONDS = 0.2

log = logging.getLogger("darkroom.web")


class _Waiting(NamedTuple):
    """An order that is not stored yet.  since: when it came, by the loop's clock."""

    new: NewTask
    answer: asyncio.Future[Submitted]
    since: float


class Submissions:
    """Stores a process's submissions in batches.  Lives on one event loop."""

    def __init__(
        self, settings: Settings, database: Database, order: WaitingOrderCache, life: LifeLock | None = None
    ) -> None:
        self._settings, self._database, self._order, self._life = settings, database, order, life
        self._answered = _Answered(database, life)
        self._waiting: collections.deque[_Waiting] = collections.deque()  # emptied by the writer's thread
        self._held: dict[str, list[_Waiting]] = {}  # by user: orders that pause, since the account is locked
        self._next_wait_at = 0.0  # when orders may wait at a lock again, by the loop's clock
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

    def answered(self, order: Unanswered) -> None:
        """Its whole answer was written: a later equal order is another one."""
        self._answered.note(order)

    async def close(self) -> None:
        """Return when it is stored which orders were answered."""
        await self._answered.store_all()

    def _add(self, new: NewTask, order: WaitingOrder) -> asyncio.Future[Submitted]:
        self._pending = order.pending
        loop = asyncio.get_running_loop()
        waiting = _Waiting(new, loop.create_future(), loop.time())
        if new.user in self._held:
            self._held[new.user].append(waiting)
        else:
            self._waiting.append(waiting)
            self._plan_step()
        return waiting.answer

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
        answered = self._answered.take()

        def store(tx: Transaction) -> list[Outcome]:
            self._take_into(crowd)
            self._answered.forget(tx, answered)
            orders = [each.new for each in crowd]
            if not orders:
                return []
            return submit_many(tx, self._settings, orders, pending=pending, waits=False, life=self._life)

        def settle(done: concurrent.futures.Future[list[Outcome]]) -> None:
            self._began.remove(began)
            failure = done.exception()
            if failure is not None:
                self._answered.put_back(answered)
            if failure is not None and not crowd:
                # the transaction could not even begin: the waiting callers must get the error
                self._take_into(crowd)
            outcomes = [failure] * len(crowd) if failure is not None else done.result()
            if held := self._answer_all(crowd, outcomes, but=AccountLocked):
                self._hold(held)
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

    def _hold(self, orders: list[_Waiting]) -> None:
        """Let these orders of locked accounts pause, and those of the same users that have come after them."""
        loop = asyncio.get_running_loop()
        for each in orders:
            if each.new.user not in self._held:
                self._held[each.new.user] = []
                pause = min(max((loop.time() - each.since) / 4, LEAST_PAUSE_SECONDS), MOST_PAUSE_SECONDS)
                loop.call_later(pause, self._try_again, each.new.user)
            self._held[each.new.user].append(each)
        with contextlib.suppress(IndexError):  # a writer's thread may take some meanwhile
            for _ in range(len(self._waiting)):
                each = self._waiting.popleft()
                self._held.get(each.new.user, self._waiting).append(each)

    def _try_again(self, user: str) -> None:
        if asyncio.get_running_loop().time() >= self._next_wait_at:
            self._wait_at_the_lock(user)
        else:
            self._put_back(user)

    def _put_back(self, user: str) -> None:
        self._waiting.extendleft(reversed(self._held.pop(user)))
        if self._waiting:
            self._plan_step()

    def _wait_at_the_lock(self, user: str) -> None:
        """Store the user's held orders in a step of their own; those that come meanwhile are held."""
        loop, pending = asyncio.get_running_loop(), self._pending
        crowd = self._held[user][:MOST_IN_A_CROWD]
        del self._held[user][:MOST_IN_A_CROWD]
        self._next_wait_at = math.inf

        def store(tx: Transaction) -> list[Outcome]:
            return submit_many(
                tx, self._settings, [each.new for each in crowd], pending=pending, life=self._life
            )

        def settle(done: concurrent.futures.Future[list[Outcome]]) -> None:
            failure = done.exception()
            is_vain = isinstance(failure, DatabaseBusy)
            self._next_wait_at = loop.time() + (BETWEEN_VAIN_WAITS_SECONDS if is_vain else 0.0)
            outcomes = [failure] * len(crowd) if failure is not None else done.result()
            if held := self._answer_all(crowd, outcomes, but=DatabaseBusy):
                self._hold([*held, *self._held.pop(user)])
            else:
                self._put_back(user)

        written = self._database.write(store, lock_seconds=WAIT_AT_A_LOCK_SECONDS)
        written.add_done_callback(lambda done: loop.call_soon_threadsafe(settle, done))

    def _answer_all(
        self, crowd: list[_Waiting], outcomes: Sequence[Outcome | BaseException], *, but: type[DatabaseBusy]
    ) -> list[_Waiting]:
        """Answer the orders, but those with this outcome that may be held longer, which are returned."""
        now = asyncio.get_running_loop().time()
        held: list[_Waiting] = []
        for each, outcome in zip(crowd, outcomes, strict=True):
            if isinstance(outcome, but) and now < each.since + MOST_HELD_SECONDS:
                held.append(each)
            else:
                self._answer(each.answer, outcome)
        return held

    def _answer(self, answer: asyncio.Future[Submitted], outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, Submitted) and not outcome.is_replay:
            self._order.note_joined(outcome.view)
        if answer.done():  # its caller has disconnected
            return
        if isinstance(outcome, Submitted):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)


class _Answered:
    """Orders whose answers were written, until that is stored.  Lives on the event loop, but for `forget`."""

    def __init__(self, database: Database, life: LifeLock | None) -> None:
        self._database, self._life = database, life
        self._orders: list[Unanswered] = []
        self._alone: asyncio.TimerHandle | None = None
        self._storing: asyncio.Task[None] | None = None

    def note(self, order: Unanswered) -> None:
        """It goes with the next batch, or alone after a moment."""
        if self._life is not None:
            self._orders.append(order)
            self._plan()

    def take(self) -> list[Unanswered]:
        """All of them, to be forgotten now or put back."""
        taken, self._orders = self._orders, []
        if self._alone is not None:
            self._alone.cancel()
            self._alone = None
        return taken

    def put_back(self, orders: list[Unanswered]) -> None:
        """Those that could not be stored."""
        self._orders = orders + self._orders
        self._plan()

    def forget(self, tx: Transaction, orders: list[Unanswered]) -> None:
        """In a writer's thread."""
        if orders and self._life is not None:
            cut_orders.note_answered(tx, orders, self._life.name)

    async def store_all(self) -> None:
        """Return when nothing more is to be stored, or can be."""
        if self._storing is not None:
            await self._storing
        await self._store()

    def _plan(self) -> None:
        if self._orders and self._alone is None:
            self._alone = asyncio.get_running_loop().call_later(ANSWERED_SECONDS, self._begin)

    def _begin(self) -> None:
        self._alone = None
        self._storing = asyncio.create_task(self._store())

    async def _store(self) -> None:
        orders = self.take()
        if not orders:
            return
        try:
            await self._database.write_async(lambda tx: self.forget(tx, orders))
        except (Fault, DatabaseError) as error:
            log.debug("that orders were answered can't be stored now: %s", error)
            self.put_back(orders)
