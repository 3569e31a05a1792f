"""The circuit breaker of one AI service.  Pure: what it becomes; `supervisor.store.limits.providers` keeps it.

Closed, everything passes.  It opens when the service says that every job would fail (wrong key, empty account), or
after TROUBLES requests in a row, of whichever task and host, that ended in nothing but trouble.  While it is open no
request leaves and no task is picked for it, so an outage costs time and no attempts.  When its time is over it is half
open: one request may pass, the *probe*.  The probe's success closes it; its failure opens it again, for twice as long.
A service that nobody can reach may be starting: it is tried every few seconds, however long that lasts.

A probe has a number that only grows, as a claim has its lease: only the newest probe decides, and one whose worker
died is followed by another when its time is over.  Requests that left before it opened decide nothing any more.
"""

from __future__ import annotations

import dataclasses
import enum

TROUBLES = 10
MOST_SECONDS = 600.0
MOST_AWAY_SECONDS = 5.0  # where nothing listens, or it says that it is starting: a try costs nothing
TROUBLE_SECONDS = 15.0  # the first opening after mere trouble, which says nothing of how long it lasts


class Sign(enum.Enum):
    """What the end of a request says about the service."""

    WELL = "well"  # it answers, and takes jobs
    TROUBLE = "trouble"  # it did not answer, or could not
    DOWN = "down"  # it says itself that every job would fail, or nobody is there


@dataclasses.dataclass(frozen=True)
class Breaker:
    """openings: how often it has opened since it was last closed.  troubles: in a row, while it is closed."""

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
    """How long it stays open.  openings: at least 1.  wait_seconds: what the service, or its adapter, asks for."""
    return max(wait_seconds, min(most_seconds, wait_seconds * 2.0 ** min(openings - 1, 20)))
