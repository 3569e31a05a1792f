"""The circuit breaker of one AI service.  Pure: its next state; `supervisor.store.limits.providers` stores it.

A closed breaker lets every request pass.  It opens when the service says that every job would fail (wrong key, empty
account), or after TROUBLES failed requests in a row, of any task and host.  While it is open, no request is sent and no
task is picked for the service, so an outage costs time but no attempts.  After its waiting time it is half open: one
request may pass, the *probe*.  A successful probe closes it; a failed one opens it again, for twice as long.  An
unreachable service may be starting: it is tried every few seconds, without a limit.

A probe has a number that only grows, like a claim's lease: only the newest probe decides.  If its worker died, another
probe follows when its time is over.  Requests that were sent before the breaker opened decide nothing.
"""

from __future__ import annotations

import dataclasses
import enum

TROUBLES = 10
MOST_SECONDS = 600.0
MOST_AWAY_SECONDS = 5.0  # if no server listens, or the service says that it is starting: a try costs nothing
TROUBLE_SECONDS = 15.0  # the first opening after failures, which do not show how long the outage lasts


class Sign(enum.Enum):
    """The service's state, as the end of a request shows it."""

    WELL = "well"  # it answers, and accepts jobs
    TROUBLE = "trouble"  # it did not answer, or it failed
    DOWN = "down"  # it says that every job would fail, or it is unreachable


@dataclasses.dataclass(frozen=True)
class Breaker:
    """openings: the number since it was last closed.  troubles: failures in a row, while it is closed."""

    is_open: bool = False
    openings: int = 0
    troubles: int = 0


def after(breaker: Breaker, sign: Sign, *, is_probe: bool) -> Breaker:
    """The breaker after a request's end.  is_probe: of the newest probe."""
    if breaker.is_open and not is_probe:
        return breaker
    match sign:
        case Sign.WELL:
            return Breaker()
        case Sign.TROUBLE if not breaker.is_open and breaker.troubles + 1 < TROUBLES:
            return dataclasses.replace(breaker, troubles=breaker.troubles + 1)
        case _:
            return Breaker(is_open=True, openings=breaker.openings + 1)


def open_seconds(openings: int, wait_seconds: float, most_seconds: float = MOST_SECONDS) -> float:
    """How long it stays open.  openings: at least 1.  wait_seconds: the wish of the service or its adapter."""
    return max(wait_seconds, min(most_seconds, wait_seconds * 2.0 ** min(openings - 1, 20)))
