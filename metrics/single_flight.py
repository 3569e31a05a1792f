"""One reading at a time for any number of callers.

A reading runs in its own thread, so a caller may give up on a hanging database, and a hundred scrapes cost such a
database only one query and this process only one thread.  Callers during a reading share it; a finished reading, good
or bad, is used for `fresh_seconds` from its beginning.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Calls `read`, which may block, only once at a time."""

    def __init__(
        self, read: Callable[[], T], *, fresh_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._fresh_seconds, self._clock = read, fresh_seconds, clock
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[concurrent.futures.Future[T] | None] = queue.SimpleQueue()
        self._reading: concurrent.futures.Future[T] | None = None
        self._begun_at = 0.0
        self._thread: threading.Thread | None = None

    def latest(self, timeout_seconds: float) -> T:
        """A fresh reading.  Raises the exception of `read`, or TimeoutError while the reading goes on."""
        return self._current().result(timeout_seconds)

    def _current(self) -> concurrent.futures.Future[T]:
        with self._lock:
            now = self._clock()
            reading = self._reading
            if reading is None or (reading.done() and now - self._begun_at >= self._fresh_seconds):
                reading = self._reading = concurrent.futures.Future()
                self._begun_at = now
                self._start_thread()
                self._asked.put(reading)
            return reading

    def _start_thread(self) -> None:
        if self._thread is not None:
            return
        # A daemon: a database that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=_serve, args=(self._asked, self._read), name="metrics", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, self._asked.put, None)  # the thread has no reference to us and may outlive us


def _serve(asked: queue.SimpleQueue[concurrent.futures.Future[T] | None], read: Callable[[], T]) -> None:
    while (future := asked.get()) is not None:
        try:
            future.set_result(read())
        except BaseException as error:  # noqa: BLE001 - it is raised to the caller
            future.set_exception(error)
        del future  # do not keep a reading while there are no callers
