"""Clients that ask for the state of a task again and again, as SDKs do, and the last answer to each.

A hint in the memory of one process: where it is missing, a question is merely held for a shorter time.  What one poller
was told says nothing of another one, who may have seen less; so each has its own.  A poller is known by its address and
its program; two that are equal in both are taken for one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

AGAIN_SECONDS = 1.5  # a client that asks again so soon asks in a loop
MOST_TASKS = 10_000
MOST_NAME_CHARACTERS = 200

Poller = tuple[str, str]


def poller_of(address: str, user_agent: str) -> Poller:
    """The poller behind a request.  address: of the client, behind known proxies."""
    return address, user_agent[:MOST_NAME_CHARACTERS]


class LastTold:
    """Of at most MOST_TASKS tasks and pollers, the newest."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[str, Poller], tuple[float, Any]] = OrderedDict()

    def note(self, task_id: str, poller: Poller, state: Any) -> None:
        """This was answered just now."""
        self._told[task_id, poller] = (time.monotonic(), state)
        self._told.move_to_end((task_id, poller))
        if len(self._told) > MOST_TASKS:
            self._told.popitem(last=False)

    def by_loop(self, task_id: str, poller: Poller) -> Any:
        """What this poller was answered last, if that was a moment ago; None otherwise."""
        told_at, state = self._told.get((task_id, poller), (0.0, None))
        return state if time.monotonic() - told_at < AGAIN_SECONDS else None
