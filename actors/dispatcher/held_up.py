"""What could not be changed because another transaction held it: it is left alone for a while, so that others go on.

Most transactions end within milliseconds, as those of a busy user's own tasks, so the first try comes soon.  A
transaction of a producer may be open for hours.  A task that it has locked would be picked again and again, and keep
its slot from others; each further try in vain comes after twice the time.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST_SECONDS, LONGEST_SECONDS = 0.004, 1.0


class HeldUp:
    """The ids that are left alone.  Times are monotonic seconds, passed in.

    forget_seconds: after this time without a try in vain, the next one counts as the first.  A task is told as held up
    until it is claimed.  A busy user meets locks of a moment all the time, so any try that is not in vain, 0, counts.
    """

    def __init__(self, forget_seconds: float) -> None:
        self._forget_seconds = forget_seconds
        self._known: dict[str, tuple[float, float]] = {}  # {id: (left alone until, for so many seconds)}

    def passing(self, now: float) -> list[str]:
        """The ids to leave alone now."""
        return [each for each, (until, _) in self._known.items() if now < until]

    def note(self, held_up: Iterable[str], tried_at: float, now: float) -> None:
        """Add those that were tried in vain, of those that `passing` did not name at tried_at."""
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
        """Until the next one may be tried again, after the round that began at tried_at; None if none waits for that.

        0 if the time of one that this round left alone came before its end: nothing else tells of it.
        """
        waiting = [until - now for until, _ in self._known.values() if tried_at < until]
        return max(0.0, min(waiting)) if waiting else None
