"""When a standby takes over from the working dispatcher.  Pure.

A dead dispatcher and a late one look the same: the beat does not change.  So the patience of a standby depends on the
delays that it has seen: short at first, much longer on a machine with late beats, and never longer than MOST_SECONDS.
An observed delay counts half as much after HALF_LIFE_SECONDS.

A slow beat means that the dispatcher holds the lock, which ends with its process.  While the standby can't
have that lock, the process exists, and is frozen if its next beat is LATE_SECONDS late.  Once the standby has the lock,
the process has ended; or its connection broke, and then it writes a beat within HUSH_TICKS.

Silence counts only while the standby itself reads the beat: between two readings no more than a few ticks count, since
a delayed standby cannot know which side was silent.  The working dispatcher measures its own ticks in the same way, for
the time when it stands by again.
"""

from __future__ import annotations

from collections.abc import Hashable

LATE_FACTOR = 4.0  # the next tick may be later than the latest one by this factor
MOST_SECONDS = 10.0
LATE_SECONDS = 9.0  # a slow beat may be late by this; with the slowest beat of 5 s that is 14 s
HUSH_TICKS = 2  # for a beat that says that the lock was lost
HALF_LIFE_SECONDS = 300.0
TICKS_A_LOOK = 2  # between two readings, no more ticks than this count as silence


def patience_seconds(late_seconds: float, least_seconds: float) -> float:
    """The patience after a tick with this delay, in seconds."""
    return min(MOST_SECONDS, least_seconds + LATE_FACTOR * late_seconds)


class Succession:
    """A dispatcher's knowledge of the working one, which may be itself.

    tick_seconds: the interval of the ticks of a working one that beats fast, and of a standby's readings.
    least_seconds: the least patience with that one.
    """

    def __init__(self, tick_seconds: float, least_seconds: float) -> None:
        self._tick_seconds, self._least_seconds = tick_seconds, least_seconds
        self._most_late = max(0.0, (MOST_SECONDS - least_seconds) / LATE_FACTOR)
        self._shown: Hashable = None
        self._silent_seconds = 0.0
        self._looked_at: float | None = None
        self._ticked_at: float | None = None
        self._next_seconds = tick_seconds
        self._is_fast, self._had_lock = True, False
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

    def ticked(self, now: float, next_seconds: float = 0.0) -> None:
        """Record a tick of this dispatcher as the working one.  next_seconds: until its next tick is due."""
        self.was_deposed(now)
        self._ticked_at = now
        self._next_seconds = max(self._tick_seconds, next_seconds)

    def was_deposed(self, now: float) -> None:
        """Record that another dispatcher took over from this one, so this one's tick was late by at least this much."""
        if self._ticked_at is not None:
            self._note_late(now - self._ticked_at - self._next_seconds, now)
        self.start_anew()

    def has_fallen_silent(
        self, shown: Hashable, now: float, beat_seconds: float = 0.0, *, has_lock: bool = False
    ) -> bool:
        """Whether to take over from the working one.  shown: a value that changes with each tick; now: the time of this
        reading.

        beat_seconds: until the working one's next tick, by its own row. has_lock: this dispatcher has the lock, which a
        slow working one should have.
        """
        looked_for = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        self._silent_seconds += min(looked_for, TICKS_A_LOOK * self._tick_seconds)
        was_fast, self._is_fast = self._is_fast, beat_seconds <= self._tick_seconds
        if has_lock and not self._had_lock:
            self._silent_seconds = 0.0  # the working one may not have noticed yet
        self._had_lock = has_lock
        if shown == self._shown:
            return self._silent_seconds >= self._borne_seconds(beat_seconds, now, has_lock=has_lock)
        if self._shown is not None:
            self._ticked_at = now
            if was_fast and self._is_fast:  # at most the interval of readings
                self._note_late(self._silent_seconds - 2 * self._tick_seconds, now)
        self._shown, self._silent_seconds = shown, 0.0
        return False

    def _borne_seconds(self, beat_seconds: float, now: float, *, has_lock: bool) -> float:
        if self._is_fast:
            return self.patience(now)
        return HUSH_TICKS * self._tick_seconds if has_lock else beat_seconds + LATE_SECONDS

    def _note_late(self, late_seconds: float, now: float) -> None:
        known = self._late(now)
        if late_seconds > known:
            self._late_seconds, self._late_at = min(late_seconds, self._most_late), now

    def _late(self, now: float) -> float:
        """The largest delay seen, weighted less with its age."""
        return float(self._late_seconds * 0.5 ** ((now - self._late_at) / HALF_LIFE_SECONDS))
