"""Steps that met a row which another transaction has locked: they are tried again beside the writer threads.

A producer's transaction, or a person's, may hold a row for hours, and that concerns no other row.  So a writer thread
waits at a lock for a moment only, and then sets the step aside: it is rolled back, and one more thread tries all such
steps by turns, for as long as callers wait.

A turn of all of them together takes TURN_SECONDS where it can.  So a single step waits at its lock nearly all the time
and goes on as soon as the lock is free.  Many steps of one locked user delay each other, and they delay a step that has
met a lock of another row.  While any step is set aside, more steps may meet the same lock; so the writer threads then
wait for a shorter time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from supervisor.core.errors import RowsLocked
from supervisor.database.postgres import transactions

S = TypeVar("S")

FIRST_SECONDS = 0.25  # a hundred times what an ordinary transaction takes
HURRIED_SECONDS = 0.025
TURN_SECONDS, LEAST_SECONDS = 0.25, 0.025


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
        self._waiting: queue.SimpleQueue[tuple[S, float] | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._number = 0
        self._thread: threading.Thread | None = None

    @property
    def wait_seconds(self) -> float:
        """For how long a writer thread may wait at a lock now."""
        return HURRIED_SECONDS if self._number else FIRST_SECONDS

    def set_aside(self, step: S) -> None:
        """Try this step again until it is done or its time is over."""
        with self._guard:
            self._number += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._try_by_turns, name="db-locked", daemon=True)
                self._thread.start()
        self._waiting.put((step, time.monotonic() + transactions.LOCKED_SECONDS))

    def close(self) -> None:
        """End the thread.  Every step has ended before."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _try_by_turns(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            step, end = waiting
            locked = self._attempt(step, max(LEAST_SECONDS, TURN_SECONDS / self._number))
            if locked is not None and time.monotonic() < end:
                self._waiting.put(waiting)
                continue
            if locked is not None:
                self._give_up(step, locked)
            with self._guard:
                self._number -= 1
            del waiting, step, locked  # otherwise these objects stay in memory while the thread waits
