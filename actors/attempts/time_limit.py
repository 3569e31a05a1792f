"""The time limit of an attempt, which can be paused: waiting for disk space does not count.

The attempt and its limit run on the event loop; when the time is over, the attempt is cancelled.  Code inside the
attempt finds the limit through its context, and can pause it.  A limit inside another, such as a request's inside its
attempt's, is paused together with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Iterator

_MINE: contextvars.ContextVar[TimeLimit | None] = contextvars.ContextVar("time_limit", default=None)


class TimeLimit:
    """strike: called when so many seconds have passed in the block, without pauses."""

    def __init__(self, seconds: float, strike: Callable[[], None]) -> None:
        self._left_seconds, self._strike = seconds, strike
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._outer: TimeLimit | None = None
        self._stops = 0
        self._is_over = False

    def __enter__(self) -> TimeLimit:
        self._outer = _MINE.get()
        _MINE.set(self)
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        _MINE.set(self._outer)
        self._unset()
        del self._strike  # it knows the attempt, whose task has a context with this limit: a cycle

    def stop(self) -> None:
        """Pause, until `go_on` was called as often as this."""
        self._stops += 1
        self._unset()
        if self._outer is not None:
            self._outer.stop()

    def go_on(self) -> None:
        """End a pause."""
        self._stops -= 1
        self._set()
        if self._outer is not None:
            self._outer.go_on()

    def _set(self) -> None:
        if self._timer is None and not self._is_over and not self._stops:
            self._timer = self._loop.call_later(max(0.0, self._left_seconds), self._strike)

    def _unset(self) -> None:
        if self._timer is not None:
            self._left_seconds = self._timer.when() - self._loop.time()
            self._timer.cancel()
            self._timer = None


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """Pause the limit of the present attempt for the block."""
    mine = _MINE.get()
    if mine is not None:
        mine.stop()
    try:
        yield
    finally:
        if mine is not None:
            mine.go_on()
