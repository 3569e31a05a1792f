"""Whether the minute sweep runs, judged by its last run and by how long the system has worked.  Pure.

A sweep comes with each full minute.  After a start, the first one is due at the next minute, however long ago the last
one was: until MOST_SECONDS have passed since then, its absence says nothing about the scheduler.
"""

from __future__ import annotations

import enum

MOST_SECONDS = 150.0  # between two sweeps; two ticks were missed


class Sweeps(enum.Enum):
    """RUN: as they should.  DUE: none since the start, which was a moment ago.  SILENT: none for too long.  NEVER: none
    at all, and the system has worked for long enough."""

    RUN = enum.auto()
    DUE = enum.auto()
    SILENT = enum.auto()
    NEVER = enum.auto()


def sweeps_judged(since_last_seconds: float | None, working_seconds: float | None) -> Sweeps:
    """The verdict.

    since_last_seconds: None for no run at all.  working_seconds: for how long the dispatcher has worked without a
    break; None if it does not.
    """
    if since_last_seconds is not None and since_last_seconds <= MOST_SECONDS:
        return Sweeps.RUN
    if working_seconds is not None and working_seconds <= MOST_SECONDS:
        return Sweeps.DUE
    return Sweeps.NEVER if since_last_seconds is None else Sweeps.SILENT
