"""Tasks and users whose rows another transaction has locked: they are left alone for a while, so that others go on.

Most transactions end within milliseconds, as those of a busy user's own tasks do, so the next try comes soon.  A
producer's transaction may be open for hours.  A task that it has locked would be picked again and again, and would keep
its slot from other tasks.  So after each failed try the wait doubles.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST_SECONDS, LONGEST_SECONDS = 0.004, 1.0


class LockedRows:
    """The ids that are left alone.  Times are monotonic seconds, passed in.

    forget_seconds: after this time without a failed try, the next failed try counts as the first.  0: one successful
    try is enough, for a busy user whose rows are locked for a moment again and again.
    """

    def __init__(self, forget_seconds: float) -> None:
        self._forget_seconds = forget_seconds
        self._known: dict[str, tuple[float, float]] = {}  # {id: (left alone until, for so many seconds)}

    def passing(self, now: float) -> list[str]:
        """The ids to leave alone now."""
        return [each for each, (until, _) in self._known.items() if now < until]

    def note(self, held_up: Iterable[str], tried_at: float, now: float) -> None:
        """Add the ids that were found locked, of those that `passing` did not name at tried_at."""
        before = {each: self._known.get(each, (0.0, 0.0))[1] for each in held_up}
        self._known = {
            each: (until, seconds)
            for each, (until, seconds) in self._known.items()
            if tried_at - until < self._forget_seconds or tried_at < until
        }
        for each, seconds in before.items():
            seconds = min(2 * seconds, LONGEST_SECONDS) or FIRST_SECONDS
            self._known[each] = (now + seconds, seconds)

    def seconds_to_next(self, tried_at: float, now: float) -> float | None:
        """Until the next id may be tried again, after the round that began at tried_at; None if no id is left alone.

        0 if an id that this round left alone became due before the round ended: only this number tells of it.
        """
        waiting = [until - now for until, _ in self._known.values() if tried_at < until]
        return max(0.0, min(waiting)) if waiting else None
