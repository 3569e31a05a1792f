"""The queue between dramatiq's consumers and its worker threads, with a wait that a stop ends.

Dramatiq's worker threads notice a stop only between two waits for a message, so stock ones wait for a second at most,
and an idle process wakes once a second for each of them.  Here they wait long, and the stop wakes them.
"""

from __future__ import annotations

from queue import PriorityQueue
from typing import Any

STOP_LOOK_SECONDS = 0.05  # between the end and the moment when dramatiq has told its threads to stop


class WorkQueue(PriorityQueue[Any]):
    """A queue whose waits end soon after `end`."""

    def __init__(self) -> None:
        super().__init__()
        self._has_ended = False

    def end(self) -> None:
        """Wake all threads that wait; from now on no wait is long."""
        with self.mutex:
            self._has_ended = True
            self.not_empty.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if block:
            with self.mutex:
                self.not_empty.wait_for(lambda: self._has_ended or self._qsize(), timeout)
            timeout = STOP_LOOK_SECONDS
        return super().get(block, timeout)
