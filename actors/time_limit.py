"""The time limit of messages, which can stand still: what waits for room on a disk has not taken long.

dramatiq interrupts the thread that runs a message.  The coroutine of that message runs in another thread, in a copy of
the first one's context; that is how it knows whose limit is its own.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any

from dramatiq.middleware import TimeLimit

_MINE: contextvars.ContextVar[tuple[PausableTimeLimit, int] | None] = contextvars.ContextVar(
    "time_limit", default=None
)


class PausableTimeLimit(TimeLimit):
    """dramatiq's own, as `standing_still` knows it."""

    def before_process_message(self, broker: Any, message: Any) -> None:
        super().before_process_message(broker, message)  # type: ignore[no-untyped-call]
        _MINE.set((self, threading.get_ident()))

    def take(self, thread_id: int) -> float | None:
        """Disarm the limit of a thread; the seconds that were left, None where none was armed."""
        manager: Any = self.manager
        with manager.mu:
            deadline = manager.deadlines.get(thread_id)
            manager.deadlines[thread_id] = None
        return None if deadline is None else float(deadline) - time.monotonic()

    def give_back(self, thread_id: int, left_seconds: float) -> None:
        """Arm it again."""
        manager: Any = self.manager
        manager.add_timeout(thread_id, 1000 * left_seconds)


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """The limit of the message that this is done for does not run on in the block."""
    mine = _MINE.get()
    left = None if mine is None else mine[0].take(mine[1])
    try:
        yield
    finally:
        if mine is not None and left is not None:
            mine[0].give_back(mine[1], left)
