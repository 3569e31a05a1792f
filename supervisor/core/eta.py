"""When a task will be finished, by guess.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def eta_seconds(
    *,
    ahead: int,
    slots: int,
    recent_run_seconds: Sequence[float],
    free_slots: int = 0,
    running_for_seconds: float | None = None,
) -> int | None:
    """Seconds until the task is likely to be finished; None where nothing is known yet.

    ahead: tasks that run first.  slots: tasks that run at once, free_slots of which are idle; 0 while nobody works.
    recent_run_seconds: of finished tasks of the type.  running_for_seconds: None while the task waits.
    The median run is taken, so that one task that hung does not spoil everybody's guess.  Of `slots` busy ones one
    ends every run/slots; a task starts with the end after those that let the ones ahead of it start.  A task that runs
    has what is left of the median of the runs that took longer; of one that runs longer than all of them, nothing is
    known.
    """
    if not recent_run_seconds or slots <= 0:
        return None
    if running_for_seconds is not None:
        longer = [seconds for seconds in recent_run_seconds if seconds > running_for_seconds]
        return round(statistics.median(longer) - running_for_seconds) if longer else None
    run = statistics.median(recent_run_seconds)
    ends_to_wait_for = max(0, ahead + 1 - free_slots)
    return round(ends_to_wait_for / slots * run + run)
