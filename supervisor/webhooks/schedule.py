"""What follows a failed webhook: it is sent again by the example schedule of Standard Webhooks, over 24 hours, or ends.
Pure."""

from __future__ import annotations

import dataclasses
import enum

_MINUTE, _HOUR = 60.0, 3600.0

# The time of each attempt, in seconds after the first.
SCHEDULE = (
    0.0, 5.0, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR
)  # fmt: skip
# the largest random part of a pause, so that messages which failed together are not sent again together
JITTER = 0.1
MOST_PAUSE_SECONDS = 24 * _HOUR


@dataclasses.dataclass(frozen=True)
class Again:
    """Send it again in so many seconds."""

    in_seconds: float


class End(enum.Enum):
    """Send it no more."""

    GIVEN_UP = "given_up"
    GONE = "gone"  # and nothing else to this address: it answered 410


def is_accepted(status: int) -> bool:
    """Whether a receiver's answer confirms the webhook; redirects are not followed, and confirm nothing."""
    return 200 <= status < 300


def after_failure(
    attempts: int, status: int | None, *, is_final: bool, chance: float, retry_after: float = 0.0
) -> Again | End:
    """What follows an attempt that failed.

    attempts: made so far, at least one.  status: of the receiver's answer, if there is one.  is_final: another attempt
    would not help.  chance: uniform in [0, 1).  retry_after: the receiver's wish in seconds.
    """
    if status == 410:
        return End.GONE
    pause = None if is_final else pause_after(attempts, chance=chance, retry_after=retry_after)
    return End.GIVEN_UP if pause is None else Again(pause)


def pause_after(attempts: int, *, chance: float, retry_after: float = 0.0) -> float | None:
    """Seconds until the next attempt; None if there is none.

    attempts: made so far, at least one.  chance: uniform in [0, 1).  retry_after: the receiver's wish in seconds.
    """
    if attempts >= len(SCHEDULE):
        return None
    pause = (SCHEDULE[attempts] - SCHEDULE[attempts - 1]) * (1 + JITTER * chance)
    return min(max(pause, retry_after), MOST_PAUSE_SECONDS)
