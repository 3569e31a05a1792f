"""What could not be changed because another transaction held it: it is left alone for a while, so that others go on.

A transaction of a producer may be open for hours.  A task that it has locked would be picked again and again, and keep
its slot from others; each further try comes after twice the time.
"""

from __future__ import annotations

from collections.abc import Iterable

FIRST_SECONDS, LONGEST_SECONDS = 0.05, 1.0
FORGET_SECONDS = 10.0


class HeldUp:
    """The ids that are left alone.  Times are monotonic seconds, passed in."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}  # {id: (left alone until, for so many seconds)}

    def passing(self, now: float) -> list[str]:
        """The ids to leave alone now."""
        return [each for each, (until, _) in self._known.items() if now < until]

    def note(self, held_up: Iterable[str], now: float) -> None:
        """Add those that were tried now, in vain."""
        self._known = {each: known for each, known in self._known.items() if now - known[0] < FORGET_SECONDS}
        for each in held_up:
            _, before = self._known.get(each, (0.0, 0.0))
            seconds = min(2 * before, LONGEST_SECONDS) or FIRST_SECONDS
            self._known[each] = (now + seconds, seconds)

    def seconds_to_next(self, now: float) -> float | None:
        """Until the next one may be tried again; None if none waits for that."""
        return min((until - now for until, _ in self._known.values() if now < until), default=None)
