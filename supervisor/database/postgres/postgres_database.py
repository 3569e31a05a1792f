"""PostgreSQL for many processes on many hosts: short transactions in parallel, each run until its outcome is known.

A few writer threads take steps in the order of the calls.

- A step that names its task (`order_key`) may share a transaction with other waiting steps that name theirs.  All their
  rows are locked at the beginning, in the one order of locks (CORRECTNESS 27), so that transactions never wait
  in a circle.
- Steps of one kind are merged into one statement, because the locks are held until the commit.
- A step that names no task has a transaction of its own.  Its statements take their locks in the same order.
- If one step of a shared transaction fails, nothing is stored, and each step is run again by itself.
- A step that meets a row which another program has locked is set aside and tried again (`locked_steps`), so that it
  keeps no writer thread from the others.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import os
import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from supervisor.core.errors import DatabaseBusy, OutcomeUnknown, RowsLocked
from supervisor.database.interface.database import BatchedStep, Database, Pending, Transaction, read_answers
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.postgres import transactions
from supervisor.database.postgres.locked_steps import LockedSteps
from supervisor.database.postgres.pool import Pool
from supervisor.store.sql.locks import lock_tasks, lock_tasks_and_accounts

T = TypeVar("T")

CONNECTIONS = 8
WRITER_THREADS = 2
MOST_STEPS_TOGETHER = 100


class _Step(NamedTuple):
    """A queued step.  order_key: steps with the same one keep their order.  lock_seconds: as in `Database.write`."""

    step: Callable[[Transaction], Any]
    future: concurrent.futures.Future[Any]
    order_key: str | None
    lock_seconds: float | None


class _Refused(NamedTuple):
    """The answer of a step that changed nothing; other steps of its transaction are stored."""

    error: Exception


class PostgresDatabase(Database):
    """A PostgreSQL database.

    url: `postgresql://user:password@host/name?option=…`, as libpq reads it.  connections: at most, in this process.
    pooled: the address leads to a pooler in transaction mode.
    """

    runs_side_by_side = True

    def __init__(self, url: str, *, connections: int = CONNECTIONS, pooled: bool = False) -> None:
        super().__init__()
        self.url, self.pooled, self._connections = url, pooled, connections
        self._threads: list[threading.Thread] = []
        self._begin_afresh()
        os.register_at_fork(after_in_child=functools.partial(_forget_the_parents, weakref.ref(self)))

    def write(
        self,
        step: Callable[[Transaction], T],
        *,
        order_key: str | None = None,
        lock_seconds: float | None = None,
    ) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        if not self._threads:
            self._start_writers()
        handed_in = _Step(step, future, order_key, lock_seconds)
        with self._guard:
            self._unfinished += 1
            queued = self._queued.get(order_key) if order_key is not None else None
            if queued is not None:  # an earlier step with this key is not committed yet
                queued.append(handed_in)
                return future
            if order_key is not None:
                self._queued[order_key] = collections.deque()
        self._steps.put(handed_in)
        return future

    def write_now(self, step: Callable[[Transaction], T], *, lock_seconds: float | None = None) -> T:
        return transactions.write(self._pool, step, lock_seconds)

    def read(self, query: Callable[[Transaction], T]) -> T:
        return transactions.read(self._pool, query, one_moment=True)

    def glance(self, query: Callable[[Transaction], T]) -> T:
        return transactions.read(self._pool, query, one_moment=False)

    def close(self) -> None:
        with self._guard:
            self._guard.wait_for(lambda: self._unfinished == 0)
        for _ in self._threads:
            self._steps.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._locked.close()
        self._stop_readers()
        self._pool.drop_idle()

    def _begin_afresh(self) -> None:
        """Reset to the state without connections.  A child must not inherit them: it would write into the parent's
        connections."""
        self._pool = Pool(self.url, size=self._connections, pooled=self.pooled)
        self._steps: queue.SimpleQueue[_Step | None] = queue.SimpleQueue()
        self._guard = threading.Condition()
        self._unfinished = 0
        self._queued: dict[str, collections.deque[_Step]] = {}
        self._threads = []
        self._locked = LockedSteps(self._attempt, self._give_up)
        self._readers = None

    def _start_writers(self) -> None:
        with self._guard:
            if self._threads:
                return
            count = max(1, min(WRITER_THREADS, self._connections - 1))
            threads = [
                threading.Thread(target=self._write_steps, name=f"db-writer-{n}", daemon=True)
                for n in range(count)
            ]
            for thread in threads:
                thread.start()
            self._threads = threads

    def _write_steps(self) -> None:
        """A writer thread."""
        while (taken := self._steps.get()) is not None:
            several, following = [taken], None
            while following is None and taken.order_key is not None and len(several) < MOST_STEPS_TOGETHER:
                try:
                    another = self._steps.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    self._steps.put(None)  # the request to end is for the next turn
                    break
                if another.order_key is None:
                    following = another
                else:
                    several.append(another)
            self._settle(several)
            if following is not None:
                self._settle([following])

    def _settle(self, several: list[_Step]) -> None:
        """Run steps and set their futures."""
        wanted = []
        for each in several:
            if each.future.set_running_or_notify_cancel():
                wanted.append(each)
            else:
                self._note_end(each)
        if len(wanted) <= 1 or not self._have_run_together(wanted):
            for each in wanted:
                self._run_alone(each)

    def _have_run_together(self, several: list[_Step]) -> bool:
        """Run steps in one transaction; False if one of them failed, so that nothing is stored."""
        try:
            results = self._stored(several, self._locked.wait_seconds)
        except RowsLocked:
            return False
        except (DatabaseBusy, OutcomeUnknown) as fault:
            for each in several:
                self._tell(each, None, fault)
        except BaseException:  # noqa: BLE001  whose it is will be seen when each runs by itself
            return False
        else:
            for each, result in zip(several, results, strict=True):
                self._tell_result(each, result)
        return True

    def _stored(self, several: list[_Step], lock_seconds: float) -> list[Any]:
        """The results of steps, each perhaps a _Refused, after the commit of all.  Raises what a step raises,
        DatabaseBusy, RowsLocked or OutcomeUnknown."""
        return transactions.write(self._pool, lambda tx: _run_together(tx, several), lock_seconds).get()

    def _run_alone(self, one: _Step) -> None:
        waits = self._locked.wait_seconds if one.lock_seconds is None else one.lock_seconds
        locked = self._attempt(one, waits)
        if locked is None:
            return
        if one.lock_seconds is None:
            self._locked.set_aside(one, locked)
        else:
            self._give_up(one, locked)

    def _attempt(self, one: _Step, lock_seconds: float) -> RowsLocked | None:
        """Run a step and tell its caller; if another transaction has locked a row that it needs, only that error."""
        try:
            (result,) = self._stored([one], lock_seconds)
        except RowsLocked as locked:
            return locked
        except BaseException as error:  # noqa: BLE001  the waiting caller must get every error of its step
            self._tell(one, None, error)
        else:
            self._tell_result(one, result)
        return None

    def _give_up(self, one: _Step, locked: RowsLocked) -> None:
        self._tell(one, None, locked)

    def _tell_result(self, ended: _Step, result: Any) -> None:
        if isinstance(result, _Refused):
            self._tell(ended, None, result.error)
        else:
            self._tell(ended, result, None)

    def _tell(self, ended: _Step, result: Any, error: BaseException | None) -> None:
        self._note_end(ended)
        if error is None:
            ended.future.set_result(result)
        else:
            ended.future.set_exception(error)

    def _note_end(self, ended: _Step) -> None:
        """Let the next step with its key run."""
        with self._guard:
            self._unfinished -= 1
            if self._unfinished == 0:
                self._guard.notify_all()
            if ended.order_key is None:
                return
            queued = self._queued[ended.order_key]
            if queued:
                self._steps.put(queued.popleft())
            else:
                del self._queued[ended.order_key]


def _run_together(tx: Transaction, several: list[_Step]) -> Pending[list[Any]]:
    """The results, in the order of the steps, to be read after the commit."""
    alike: dict[Any, list[int]] = {}
    for place, each in enumerate(several):
        kind = each.step.together if isinstance(each.step, BatchedStep) else place
        alike.setdefault(kind, []).append(place)
    tasks = [each.order_key for each in several if each.order_key is not None]
    is_one_statement = len(alike) == 1 and isinstance(several[0].step, BatchedStep)
    if is_one_statement:
        # Also for a single step: what its statement reads, it reads after the wait for the lock.
        lock_tasks(tx, tasks)
    elif len(several) > 1:
        lock_tasks_and_accounts(tx, tasks)
    pending = [(places, _answers(tx, [several[place].step for place in places])) for places in alike.values()]

    def results() -> list[Any]:
        found = {
            place: each
            for places, answers in pending
            for place, each in zip(places, _read(answers, len(places)), strict=True)
        }
        return [found[place] for place in range(len(several))]

    return Pending(results)


def _read(answers: Pending[list[Any]], count: int) -> list[Any]:
    """The results of so many steps of one kind, after the commit.

    They may have been lost with its answer; the results that were read before it were not.
    """
    try:
        return answers.get()
    except DatabaseError as error:
        unknown = OutcomeUnknown()
        unknown.__cause__ = error
        return [_Refused(unknown)] * count


def _answers(tx: Transaction, steps: Sequence[Callable[[Transaction], Any]]) -> Pending[list[Any]]:
    """The results of steps of one kind, in one statement.  A single step may be of any kind."""
    first = steps[0]
    if not isinstance(first, BatchedStep):
        result = first(tx)
        return Pending(lambda: [result])
    asked = first.together(tx, [step.item for step in steps if isinstance(step, BatchedStep)])
    return Pending(
        lambda: [
            _Refused(answer) if isinstance(answer, Exception) else answer for answer in read_answers(asked)
        ]
    )


def _forget_the_parents(database: weakref.ref[PostgresDatabase]) -> None:
    opened = database()
    if opened is not None:
        opened._begin_afresh()
