"""When a standby takes over from the working dispatcher.  Pure.

A dead dispatcher and a slow one look alike: their beat stands still.  So a standby is as patient as what it has seen
asks for: at first for a moment only, on a machine on which beats come late for much longer, never for longer than
MOST_SECONDS.  What it has seen counts half as much after HALF_LIFE_SECONDS.

Silence is counted in time in which the standby itself looked: of the time between two looks no more counts than a few
ticks, since who was kept from looking can't tell who was silent.  The working dispatcher learns the same from its own
ticks, for the day on which it stands by.
"""

from __future__ import annotations

from collections.abc import Hashable

LATE_FACTOR = 4.0  # so many times as late as was seen may be the next one
MOST_SECONDS = 10.0
HALF_LIFE_SECONDS = 300.0
TICKS_A_LOOK = 2  # of the time between two looks no more ticks count


def patience_seconds(late_seconds: float, least_seconds: float) -> float:
    """How long silence is borne where a tick has been so late."""
    return min(MOST_SECONDS, least_seconds + LATE_FACTOR * late_seconds)


class Succession:
    """What one dispatcher knows of the working one, which may be itself.

    tick_seconds: how often the working one shows life, and a standby looks.  least_seconds: the least patience.
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
        """Count silence from zero, and know of no tick: nothing could be seen for a while."""
        self._shown, self._silent_seconds, self._looked_at, self._ticked_at = None, 0.0, None, None

    def since_tick(self, now: float) -> float | None:
        """Seconds since the working one was seen to tick; None when it never was.  now: monotonic seconds."""
        return None if self._ticked_at is None else now - self._ticked_at

    def patience(self, now: float) -> float:
        """How long silence is borne now."""
        return patience_seconds(self._late(now), self._least_seconds)

    def ticked(self, now: float) -> None:
        """This dispatcher is the working one, and has shown life."""
        self.was_deposed(now)
        self._ticked_at = now

    def was_deposed(self, now: float) -> None:
        """This dispatcher was the working one until another took it for dead: its tick is late, and no end yet."""
        if self._ticked_at is not None:
            self._note_late(now - self._ticked_at - self._tick_seconds, now)
        self.start_anew()

    def has_fallen_silent(self, shown: Hashable, now: float) -> bool:
        """Whether the working one's place is to be taken.  shown: what changes with each tick; now: of this look."""
        looked_for = 0.0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        self._silent_seconds += min(looked_for, TICKS_A_LOOK * self._tick_seconds)
        if shown == self._shown:
            return self._silent_seconds >= self.patience(now)
        if self._shown is not None:
            self._ticked_at = now
            self._note_late(self._silent_seconds - 2 * self._tick_seconds, now)  # as much as looks are apart
        self._shown, self._silent_seconds = shown, 0.0
        return False

    def _note_late(self, late_seconds: float, now: float) -> None:
        known = self._late(now)
        if late_seconds > known:
            self._late_seconds, self._late_at = min(late_seconds, self._most_late), now

    def _late(self, now: float) -> float:
        """The latest tick of those that were seen, the older the less it counts."""
        return float(self._late_seconds * 0.5 ** ((now - self._late_at) / HALF_LIFE_SECONDS))
