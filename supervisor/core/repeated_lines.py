"""Repeated lines of a log are counted instead of written.  Pure.

The first line of a series is written at once.  Equal lines of the next seconds are counted, and then reported in one
line.  While the series goes on, each report covers twice the time of the one before, up to a minute.  So a fault that
repeats all the time costs one line a minute, and every repetition is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Generic, TypeVar

L = TypeVar("L")

FIRST_SECONDS = 10.0
LONGEST_SECONDS = 60.0
MOST_SERIES = 500  # beyond that number, lines are written as they come


@dataclasses.dataclass
class _Series(Generic[L]):
    since: float
    window_seconds: float
    count: int = 0
    last: L | None = None


@dataclasses.dataclass(frozen=True)
class Repeated(Generic[L]):
    """last: the newest of `count` lines that were counted, and not written, within `seconds` seconds."""

    last: L
    count: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.count} time{'s' if self.count > 1 else ''} in {self.seconds:.0f} s"


class RepeatedLines(Generic[L]):
    """The lines that were written lately, and how often each was repeated.  now: monotonic seconds, never less than
    before."""

    def __init__(self) -> None:
        self._series: dict[Hashable, _Series[L]] = {}

    def is_news(self, key: Hashable, line: L, now: float) -> bool:
        """Whether this line is to be written; if not, it is counted.  key: equal for equal lines."""
        series = self._series.get(key)
        if series is not None:
            series.count, series.last = series.count + 1, line
            return False
        if len(self._series) < MOST_SERIES:
            self._series[key] = _Series(now, FIRST_SECONDS)
        return True

    def due(self, now: float) -> list[Repeated[L]]:
        """The repetitions to report by now; a series without a new line is forgotten."""
        told: list[Repeated[L]] = []
        for key, series in list(self._series.items()):
            if now < series.since + series.window_seconds:
                continue
            if series.last is None:
                del self._series[key]
                continue
            told.append(Repeated(series.last, series.count, now - series.since))
            longer = min(LONGEST_SECONDS, 2 * series.window_seconds)
            self._series[key] = _Series(now, longer)
        return told

    def rest(self, now: float) -> list[Repeated[L]]:
        """The repetitions not yet reported, at the end of the process; nothing is kept afterwards."""
        series, self._series = list(self._series.values()), {}
        return [Repeated(each.last, each.count, now - each.since) for each in series if each.last is not None]

    def next_due(self) -> float | None:
        """When the next report is due; None if nothing was counted."""
        return min(
            (each.since + each.window_seconds for each in self._series.values() if each.last is not None),
            default=None,
        )
