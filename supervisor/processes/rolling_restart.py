"""Replacing running parts by those of a new program, one after the other.  Pure.

A *successor* is started beside the part that it replaces.  When it is up, the old one is asked to stop, and when that
has gone, the next part's turn comes.  So at each moment there is one of each.  A successor that ends, or is not up in
time, ends the renewal: the old part goes on, and so do all whose turn has not come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from supervisor.health.life_signs import START_SECONDS


class Step(StrEnum):
    """What is to be done next."""

    START = "start"  # the successor of `name`
    RELIEVE = "relieve"  # the old part of `name`: its successor is up
    ABANDON = "abandon"  # the successor
    WAIT = "wait"
    NONE = "none"  # it is over


@dataclass(frozen=True)
class Renewal:
    """id: of whoever asked for it.  waiting: parts whose turn comes, in this order; name: the one whose turn it is."""

    id: str
    waiting: tuple[str, ...]
    name: str = ""
    since: float = 0.0
    is_relieving: bool = False  # the successor works; the old one has not gone yet
    done: tuple[str, ...] = ()
    failed: str = ""

    @property
    def is_over(self) -> bool:
        return bool(self.failed) or not (self.name or self.waiting)


def decide(
    renewal: Renewal, now: float, *, is_up: bool, ended: str, old_is_gone: bool
) -> tuple[Renewal, Step]:
    """The next step, and the renewal in which it is done.

    is_up: the successor works.  ended: how it has ended, empty while it lives.  old_is_gone: whom it has relieved.
    """
    if renewal.is_over:
        return renewal, Step.NONE
    if not renewal.name:
        name, *rest = renewal.waiting
        return replace(renewal, name=name, waiting=tuple(rest), since=now), Step.START
    if renewal.is_relieving:
        if not old_is_gone:
            return renewal, Step.WAIT
        done = (*renewal.done, renewal.name)
        return replace(renewal, name="", is_relieving=False, done=done), Step.WAIT
    if ended:
        return fail(renewal, f"the new {renewal.name} ended before it was up ({ended})"), Step.ABANDON
    if is_up:
        return replace(renewal, is_relieving=True), Step.RELIEVE
    if now - renewal.since > START_SECONDS:
        return fail(renewal, f"the new {renewal.name} was not up within {START_SECONDS:g} s"), Step.ABANDON
    return renewal, Step.WAIT


def fail(renewal: Renewal, why: str) -> Renewal:
    """It ends here; whoever was not replaced yet goes on."""
    return replace(renewal, name="", failed=why)
