"""Who asks for the state of a task again and again, as SDKs do, and what they were told last.

A hint in the memory of one process: where it is missing, a question is merely held for a shorter time.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

AGAIN_SECONDS = 1.5  # whoever asks again so soon asks in a loop
MOST_TASKS = 10_000


class LastTold:
    """Of at most MOST_TASKS tasks, the newest."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, tuple[float, Any]] = OrderedDict()

    def note(self, task_id: str, state: Any) -> None:
        """This was answered just now."""
        self._told[task_id] = (time.monotonic(), state)
        self._told.move_to_end(task_id)
        if len(self._told) > MOST_TASKS:
            self._told.popitem(last=False)

    def by_loop(self, task_id: str) -> Any:
        """What was answered last, if that was a moment ago; None otherwise."""
        told_at, state = self._told.get(task_id, (0.0, None))
        return state if time.monotonic() - told_at < AGAIN_SECONDS else None
