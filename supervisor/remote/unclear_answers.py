"""Answers about a remote job that say nothing of it, and when they are believed.  Pure.

A service that does not know a job may know it a moment later: its database lags, a proxy answered in its place, it was
just started anew.  So one such answer ends nothing.  What counts are answers of one kind in a row; any answer that
speaks of the job begins anew, and no answer at all changes nothing.  The count stands in the job's row, since the next
question may be asked by another process.
"""

from __future__ import annotations

import dataclasses
import enum

TIMES = 3
UNKNOWN_SECONDS = 10.0  # at least, from the first "unknown" to the one that is believed


class Doubt(enum.StrEnum):
    """What kind of answer it was; the word in `remote_job.doubt`."""

    NONE = ""
    UNKNOWN = "unknown"  # the service does not know the job
    GONE = "gone"  # it knows the job, but not its result
    UNREADABLE = "unreadable"  # the answer is good, but nobody can tell what it says


@dataclasses.dataclass(frozen=True)
class Doubts:
    """So many answers of a kind, one after the other.  seconds: since the first of them."""

    kind: Doubt = Doubt.NONE
    times: int = 0
    seconds: float = 0.0

    def are_believed(self, at_least_seconds: float) -> bool:
        """Whether they came often enough, over so long a time."""
        return self.times >= TIMES and self.seconds >= at_least_seconds


def after(before: Doubts, kind: Doubt) -> Doubts:
    """The count with one more answer of this kind; NONE for one that speaks of the job."""
    if kind is Doubt.NONE:
        return Doubts()
    if kind is before.kind:
        return dataclasses.replace(before, times=before.times + 1)
    return Doubts(kind, 1)
