"""Steps that met a row which another transaction has locked: they are tried again beside the writer threads.

A producer's transaction, or a person's, may hold a row for hours, and that concerns no other row.  So a writer thread
waits at a lock for a moment only, and then sets the step aside: it is rolled back, and one more thread tries all such
steps by turns, for as long as callers wait.

Steps that met the same locked row wait together, and only the first of them is tried: while it finds the row locked,
so would the others.  When it has gone on, they are tried one after the other at once.  A turn of all locked rows
together takes TURN_SECONDS where it can.  So a single step waits at its lock nearly all the time and goes on as soon
as the lock is free, and hundreds of steps of one locked user delay a step that has met a lock of another row no longer
than one does.  While any step is set aside, more steps may meet the same lock; so the writer threads then wait for a
shorter time, the shorter the more there are.
"""

from __future__ import annotations

import collections
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from supervisor.core.errors import RowsLocked
from supervisor.database.postgres import transactions

S = TypeVar("S")

FIRST_SECONDS = 0.25  # a hundred times what an ordinary transaction takes
HURRIED_SECONDS, LEAST_HURRIED_SECONDS = 0.025, 0.005
FEW = 8  # steps that are set aside; of more, writer threads wait the shorter
TURN_SECONDS, LEAST_SECONDS = 0.25, 0.025


class Waiting(NamedTuple, Generic[S]):
    """A step that is set aside.  end: of its patience, by the monotonic clock.  locked: what it met last."""

    step: S
    end: float
    locked: RowsLocked


class LockedSteps(Generic[S]):
    """The steps that are set aside.

    attempt: runs a step, which may wait so many seconds at a lock, and gives its result to the caller; if a row is
    locked, it returns the error instead.  give_up: gives that error to the caller, after LOCKED_SECONDS.
    """

    def __init__(
        self,
        attempt: Callable[[S, float], RowsLocked | None],
        give_up: Callable[[S, RowsLocked], None],
    ) -> None:
        self._attempt, self._give_up = attempt, give_up
        self._new: queue.SimpleQueue[Waiting[S] | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._number = 0
        self._thread: threading.Thread | None = None

    @property
    def wait_seconds(self) -> float:
        """For how long a writer thread may wait at a lock now."""
        if not self._number:
            return FIRST_SECONDS
        return max(LEAST_HURRIED_SECONDS, HURRIED_SECONDS * min(1.0, FEW / self._number))

    def set_aside(self, step: S, locked: RowsLocked) -> None:
        """Try this step again until it is done or its time is over.  locked: what it has met."""
        with self._guard:
            self._number += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._try_by_turns, name="db-locked", daemon=True)
                self._thread.start()
        self._new.put(Waiting(step, time.monotonic() + transactions.LOCKED_SECONDS, locked))

    def close(self) -> None:
        """End the thread.  Every step has ended before."""
        if self._thread is not None:
            self._new.put(None)
            self._thread.join()
            self._thread = None

    # --- the thread ---

    def _try_by_turns(self) -> None:
        rows: dict[object, collections.deque[Waiting[S]]] = {}
        while self._take_new(rows):
            row = next(iter(rows))  # the one whose turn was longest ago
            self._try_row(rows, row)

    def _take_new(self, rows: dict[object, collections.deque[Waiting[S]]]) -> bool:
        """Sort what was set aside meanwhile under its row; waits while there is nothing at all.  False to end."""
        while not (rows and self._new.empty()):
            waiting = self._new.get()
            if waiting is None:
                return False
            _sort_in(rows, waiting)
        return True

    def _try_row(self, rows: dict[object, collections.deque[Waiting[S]]], row: object) -> None:
        """Try the steps of a row until one finds a row locked."""
        turn_seconds = max(LEAST_SECONDS, TURN_SECONDS / len(rows))
        steps = rows.pop(row)
        while steps:
            first = steps.popleft()
            locked = self._attempt(first.step, turn_seconds)
            if locked is None:
                self._note_end()
                continue
            now = time.monotonic()
            _sort_in(rows, first._replace(locked=locked))  # it may have met another row this time
            for each in steps:
                _sort_in(rows, each)
            for each in [each for waiting in rows.values() for each in waiting if each.end <= now]:
                self._leave(rows, each)
            return

    def _leave(self, rows: dict[object, collections.deque[Waiting[S]]], late: Waiting[S]) -> None:
        row = _row_of(late)
        rows[row].remove(late)
        if not rows[row]:
            del rows[row]
        self._give_up(late.step, late.locked)
        self._note_end()

    def _note_end(self) -> None:
        with self._guard:
            self._number -= 1


def _row_of(waiting: Waiting[S]) -> object:
    """What a step shares with others that met the same row; alone if the server did not say which row it was."""
    return waiting.locked.row or id(waiting.step)


def _sort_in(rows: dict[object, collections.deque[Waiting[S]]], waiting: Waiting[S]) -> None:
    rows.setdefault(_row_of(waiting), collections.deque()).append(waiting)
