"""When a standby takes over from the working dispatcher.  Pure.

A dead dispatcher and a slow one look the same: the beat does not change.  So the patience of a standby depends on the
delays that it has seen: short at first, much longer on a machine with late beats, and never longer than MOST_SECONDS.
An observed delay counts half as much after HALF_LIFE_SECONDS.

Silence counts only while the standby itself reads the beat: between two readings no more than a few ticks count, since
a standby that was held up can't know who was silent.  The working dispatcher measures its own ticks in the same way,
for the time when it stands by again.
"""

from __future__ import annotations

from collections.abc import Hashable

LATE_FACTOR = 4.0  # the next tick may be later than the latest one by this factor
MOST_SECONDS = 10.0
HALF_LIFE_SECONDS = 300.0
TICKS_A_LOOK = 2  # between two readings, no more ticks than this count as silence


def patience_seconds(late_seconds: float, least_seconds: float) -> float:
    """The patience after a tick with this delay, in seconds."""
    return min(MOST_SECONDS, least_seconds + LATE_FACTOR * late_seconds)


class Succession:
    """What a dispatcher knows about the working one, which may be itself.

    tick_seconds: the interval of the working one's ticks and of a standby's readings.  least_seconds: the least
    patience.
    """

    def __init__(self, tick_seconds: float, least_seconds: float) -> None:
        self._tick_seconds, self._least_seconds = tick_seconds, least_seconds
        self._most_late = max(0.0, (MOST_SECONDS - least_seconds) / LATE_FACTOR)
        self._shown: Hashable = None
        self._silent_seconds = 0.0
        self._looked_at: float | None = None
        self._ticked_at: float | None = None
        self._late_seconds, self._late_at = 0.0, 0.0

    def start_anew(self) -> None:
        """Count silence from zero and forget the last tick, because nothing could be read for a while."""
        self._shown, self._silent_seconds, self._looked_at, self._ticked_at = None, 0.0, None, None

    def since_tick(self, now: float) -> float | None:
        """Seconds since the last tick that was seen; None if none was.  now: monotonic seconds."""
        return None if self._ticked_at is None else now - self._ticked_at

    def patience(self, now: float) -> float:
        """The present patience, in seconds."""
        return patience_seconds(self._late(now), self._least_seconds)

    def ticked(self, now: float) -> None:
        """Record a tick of this dispatcher as the working one."""
        self.was_deposed(now)
        self._ticked_at = now

    def was_deposed(self, now: float) -> None:
        """Record that another dispatcher took over from this one, so this one's tick was late by at least this much."""
        if self._ticked_at is not None:
            self._note_late(now - self._ticked_at - self._tick_seconds, now)
        self.start_anew()

    def has_fallen_silent(self, shown: Hashable, now: float) -> bool:
        """Whether to take over from the working one.  shown: a value that changes with each tick; now: the time of this
        reading."""
        looked_for = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        self._silent_seconds += min(looked_for, TICKS_A_LOOK * self._tick_seconds)
        if shown == self._shown:
            return self._silent_seconds >= self.patience(now)
        if self._shown is not None:
            self._ticked_at = now
            # at most the interval of readings
            self._note_late(self._silent_seconds - 2 * self._tick_seconds, now)
        self._shown, self._silent_seconds = shown, 0.0
        return False

    def _note_late(self, late_seconds: float, now: float) -> None:
        known = self._late(now)
        if late_seconds > known:
            self._late_seconds, self._late_at = min(late_seconds, self._most_late), now

    def _late(self, now: float) -> float:
        """The largest delay seen, weighted less with its age."""
        return float(self._late_seconds * 0.5 ** ((now - self._late_at) / HALF_LIFE_SECONDS))
