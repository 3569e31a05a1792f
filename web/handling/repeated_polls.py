"""Clients that ask for the state of a task again and again, as SDKs do, and the last answer to each.

It is only a hint in the memory of one process: without it, a request is held for a shorter time.  Each poller has its
own last answer, since one may have seen less than another.  A poller is known by its address and its program; two that
are equal in both count as one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

AGAIN_SECONDS = 1.5  # a client that asks again so soon polls in a loop
MOST_TASKS = 10_000
MOST_NAME_CHARACTERS = 200

Poller = tuple[str, str]


def poller_of(address: str, user_agent: str) -> Poller:
    """The poller behind a request.  address: of the client, behind known proxies."""
    return address, user_agent[:MOST_NAME_CHARACTERS]


class RepeatedPolls:
    """The last answer to each poller about each task; at most MOST_TASKS of them, the newest."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, Poller], tuple[float, Any]] = OrderedDict()

    def note(self, task_id: str, poller: Poller, state: Any) -> None:
        """Record the state that was answered just now."""
        self._answers[task_id, poller] = (time.monotonic(), state)
        self._answers.move_to_end((task_id, poller))
        if len(self._answers) > MOST_TASKS:
            self._answers.popitem(last=False)

    def last_answer(self, task_id: str, poller: Poller) -> Any:
        """The state in this poller's last answer, if it was given within AGAIN_SECONDS; None otherwise."""
        answered_at, state = self._answers.get((task_id, poller), (0.0, None))
        return state if time.monotonic() - answered_at < AGAIN_SECONDS else None
