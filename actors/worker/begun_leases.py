"""The leases that this process has begun, so that none is begun twice.

A claim comes from the list and, if its message was late, also from a heartbeat that found its row.  Both check here, on
the event loop, in one step.  Ended leases are remembered too, because their message may still come.  A lease that was
dropped from this memory costs only time: it has ended, so an attempt that begins it again can store nothing and send no
paid request.
"""

from __future__ import annotations

MOST_REMEMBERED = 50_000


class Begun:
    """The newest begun lease of each task, of so many tasks."""

    def __init__(self, *, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._leases: dict[str, int] = {}  # in the order of insertion

    def enter(self, task_id: str, lease: int) -> bool:
        """Whether this lease begins now; it counts as begun from then on."""
        if self.has(task_id, lease):
            return False
        self._leases.pop(task_id, None)
        self._leases[task_id] = lease
        if len(self._leases) > self._most:
            del self._leases[next(iter(self._leases))]
        return True

    def has(self, task_id: str, lease: int) -> bool:
        """Whether it was begun, or a newer one of its task."""
        return self._leases.get(task_id, 0) >= lease
