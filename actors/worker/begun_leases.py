"""The leases that this process has begun, so that none is begun twice.

A claim comes from the list and, if its message was late, also from a heartbeat that found its row.  Both check here, on
the event loop, in one step.  A lease is remembered as long as its attempt runs, and the newest that have ended are
remembered too, because their message may still come.  An ended lease that was dropped from this memory costs only time:
an attempt that begins it again can store nothing and send no paid request.
"""

from __future__ import annotations

import collections

MOST_ENDED = (
    1_000  # a message is taken back after a second in a list: seconds of the fastest worker, in 0.2 MB
)


class Begun:
    """The newest begun lease of each task that runs here, and of so many that have ended."""

    def __init__(self, *, most_ended: int = MOST_ENDED) -> None:
        self._most_ended = most_ended
        self._running: dict[str, int] = {}
        self._ended: collections.OrderedDict[str, int] = collections.OrderedDict()

    def enter(self, task_id: str, lease: int) -> bool:
        """Whether this lease begins now; it counts as begun from then on."""
        if self.has(task_id, lease):
            return False
        self._running[task_id] = lease
        return True

    def end(self, task_id: str, lease: int) -> None:
        """The attempt has ended; a newer one of its task, if it runs, goes on."""
        if self._running.get(task_id) == lease:
            del self._running[task_id]
            self._ended[task_id] = lease
            self._ended.move_to_end(task_id)
            if len(self._ended) > self._most_ended:
                self._ended.popitem(last=False)

    def has(self, task_id: str, lease: int) -> bool:
        """Whether it was begun, or a newer one of its task."""
        return max(self._running.get(task_id, 0), self._ended.get(task_id, 0)) >= lease
