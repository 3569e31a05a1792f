"""Answers to a poll that do not describe the job, and when they count.  Pure.

A service that does not know a job may know it a moment later: its database lags, a proxy answered in its place, or it
was just restarted.  So one such answer decides nothing.  Only several answers of one kind in a row count; an answer
that describes the job starts the count anew, and a missing answer changes nothing.  The count is stored in the job's
row, since another process may make the next poll.
"""

from __future__ import annotations

import dataclasses
import enum

TIMES = 3
UNKNOWN_SECONDS = 10.0  # at least, from the first "unknown" to the one that counts


class Doubt(enum.StrEnum):
    """The kind of the answer; the word in `remote_job.doubt`."""

    NONE = ""
    UNKNOWN = "unknown"  # the service does not know the job
    GONE = "gone"  # it knows the job, but not its result
    UNREADABLE = "unreadable"  # the answer is good, but it can't be interpreted


@dataclasses.dataclass(frozen=True)
class Doubts:
    """The number of answers of one kind in a row.  seconds: since the first of them."""

    kind: Doubt = Doubt.NONE
    times: int = 0
    seconds: float = 0.0

    def are_believed(self, at_least_seconds: float) -> bool:
        """Whether they came often enough, over a long enough time."""
        return self.times >= TIMES and self.seconds >= at_least_seconds


def after(before: Doubts, kind: Doubt) -> Doubts:
    """The count with one more answer of this kind; NONE for one that describes the job."""
    if kind is Doubt.NONE:
        return Doubts()
    if kind is before.kind:
        return dataclasses.replace(before, times=before.times + 1)
    return Doubts(kind, 1)
