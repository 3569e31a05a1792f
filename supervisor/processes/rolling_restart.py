"""Replacing running parts by those of a new program, one after the other.  Pure.

A *successor* is started beside the part that it replaces.  When it is up, the old part is asked to stop, and when that
has ended, the next part is replaced.  So each part is running at each moment.  If a successor ends, or is not up in
time, the renewal ends: the old part goes on, and so do all parts after it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from supervisor.health.frozen_children import START_SECONDS


class Step(StrEnum):
    """The next act."""

    START = "start"  # the successor of `name`
    RELIEVE = "relieve"  # the old part of `name`: its successor is up
    ABANDON = "abandon"  # the successor
    WAIT = "wait"
    NONE = "none"  # the renewal is over


@dataclass(frozen=True)
class Renewal:
    """id: of the request.  waiting: the next parts, in order; name: the part that is being replaced."""

    id: str
    waiting: tuple[str, ...]
    name: str = ""
    since: float = 0.0
    is_relieving: bool = False  # the successor works; the old part has not ended yet
    done: tuple[str, ...] = ()
    failed: str = ""

    @property
    def is_over(self) -> bool:
        return bool(self.failed) or not (self.name or self.waiting)


def decide(
    renewal: Renewal, now: float, *, is_up: bool, ended: str, old_is_gone: bool
) -> tuple[Renewal, Step]:
    """The next step, and the renewal in which it is done.

    is_up: the successor works.  ended: how it ended, empty while it lives.  old_is_gone: the replaced part has ended.
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
    """End the renewal; parts that were not replaced yet go on."""
    return replace(renewal, name="", failed=why)
