"""An estimate of when a task will be finished.  Pure."""

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
    spent_seconds: float = 0.0,
    due_in_seconds: float = 0.0,
) -> int | None:
    """Estimated seconds until the task is finished; None while nothing is known.

    ahead: tasks that run first.  slots: tasks that can run at once, free_slots of which are idle; 0 while no worker
    works.  recent_run_seconds: of finished tasks of the type, all their steps together.  running_for_seconds: of this
    attempt, None while the task waits.  spent_seconds: run times of its finished steps.
    due_in_seconds: until it may run, as before a second attempt.
    The median run time is used, so that one hung task does not spoil every estimate.  With `slots` busy slots, a task
    ends every run/slots seconds; each end starts the next task of the queue.  A running task needs the rest of the
    median of those runs that took longer than it has run.  If it runs longer than all of them, nothing is known.
    """
    if not recent_run_seconds or slots <= 0:
        return None
    so_far = spent_seconds + (running_for_seconds or 0.0)
    longer = [seconds for seconds in recent_run_seconds if seconds > so_far]
    if running_for_seconds is not None:
        return round(statistics.median(longer) - so_far) if longer else None
    run = statistics.median(recent_run_seconds)
    left = run
    if spent_seconds:
        if not longer:
            return None
        left = statistics.median(longer) - spent_seconds
    ends_to_wait_for = max(0, ahead + 1 - free_slots)
    return round(max(due_in_seconds, ends_to_wait_for / slots * run) + left)
