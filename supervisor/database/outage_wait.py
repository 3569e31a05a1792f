"""Waiting without a limit for a database or a broker that is away; reported at once and then once a minute.

A part that gave up instead would have to be started again, and would count as failing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from supervisor.core.errors import BrokerAway, DatabaseBusy

T = TypeVar("T")

AGAIN_SECONDS = 1.0
TOLD_EVERY_SECONDS = 60.0


def until_it_works(
    attempt: Callable[[], T],
    *,
    say: Callable[[str], None],
    wait_seconds: float | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """The result of `attempt`, which is called again for as long as it raises DatabaseBusy or BrokerAway.

    say: is called with the reason, one sentence.  wait_seconds: after this time the fault is raised; None waits for
    ever.  Blocks.  monotonic, sleep: the clock, for tests.
    """
    began = monotonic()
    told_at: float | None = None
    while True:
        try:
            return attempt()
        except (DatabaseBusy, BrokerAway) as fault:
            now = monotonic()
            if wait_seconds is not None and now - began + AGAIN_SECONDS > wait_seconds:
                raise
            if told_at is None or now - told_at >= TOLD_EVERY_SECONDS:
                told_at = now
                say(f"{fault}  Waiting until it can be used.")
            sleep(AGAIN_SECONDS)
