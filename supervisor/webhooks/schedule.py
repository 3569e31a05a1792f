"""When a failed webhook is sent again: the example schedule of Standard Webhooks, over 24 hours."""

from __future__ import annotations

_MINUTE, _HOUR = 60.0, 3600.0

# The time of each attempt, in seconds after the first.
SCHEDULE = (
    0.0, 5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR
)  # fmt: skip
# the largest random part of a pause, so that messages which failed together are not sent again together
JITTER = 0.1
MOST_PAUSE_SECONDS = 24 * _HOUR


def pause_after(attempts: int, *, chance: float, retry_after: float = 0.0) -> float | None:
    """Seconds until the next attempt; None if there is none.

    attempts: made so far, at least one.  chance: uniform in [0, 1).  retry_after: the receiver's wish in seconds.
    """
    if attempts >= len(SCHEDULE):
        return None
    pause = (SCHEDULE[attempts] - SCHEDULE[attempts - 1]) * (1 + JITTER * chance)
    return min(max(pause, retry_after), MOST_PAUSE_SECONDS)
