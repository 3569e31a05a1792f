"""The first content of a stream, read at one moment (CORRECTNESS 29 and 30).

Without an event id: all works (`init`).  With a valid one: the changes after it.  With any other: all works, marked as
`reset`.  Listeners subscribe before this is read, and then pass on only changes above `seq`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from supervisor.database.interface.database import Transaction
from supervisor.store.feed import changes
from web.feed.feed_event import EventId, parse_event_id

CHANGES_A_READ = 256


@dataclass(frozen=True)
class Everything:
    """The newest works and their place."""

    kind: Literal["init", "reset"]
    place: EventId
    snapshot: changes.Snapshot


@dataclass(frozen=True)
class Continuation:
    """The changes after a place, in order.  has_more: there may be more after these."""

    place: EventId  # of the last change here, or, without changes, the requested one
    changes: list[changes.Change]
    has_more: bool


def read_opening(tx: Transaction, user: str, given: str | None) -> Everything | Continuation:
    """The start of a stream.  given: the client's event id, any text; None without one."""
    if given is None:
        return _everything(tx, user, "init")
    place = parse_event_id(given)
    return _everything(tx, user, "reset") if place is None else read_on(tx, user, place)


def read_on(tx: Transaction, user: str, place: EventId) -> Everything | Continuation:
    """The changes after a place, or all works if the log does not hold them all."""
    state = changes.feed_state(tx, user)
    if state is None or state.epoch != place.epoch or not is_resumable(place.seq, state.seq, state.oldest):
        return _everything(tx, user, "reset")
    found = changes.after(tx, user, place.seq, CHANGES_A_READ)
    until = min(place.seq + CHANGES_A_READ, state.seq)
    if not is_whole((change.seq for change in found), after=place.seq, until=until):
        return _everything(tx, user, "reset")
    last = EventId(place.epoch, found[-1].seq) if found else place
    return Continuation(last, found, has_more=len(found) == CHANGES_A_READ)


def is_resumable(seq: int, newest: int, oldest_kept: int | None) -> bool:
    """Whether every change above seq is still kept.  With an empty log, only the present end can be resumed."""
    if oldest_kept is None:
        return seq == newest
    return oldest_kept - 1 <= seq <= newest


def is_whole(numbers: Iterable[int], *, after: int, until: int) -> bool:
    """Whether these are all the numbers from one to another, in order and each once."""
    return list(numbers) == list(range(after + 1, until + 1))


def _everything(tx: Transaction, user: str, kind: Literal["init", "reset"]) -> Everything:
    snapshot = changes.snapshot(tx, user)
    return Everything(kind, EventId(snapshot.epoch, snapshot.seq), snapshot)
