"""The life of a paid request, as one table.  Pure.

Each row of `remote_job` is evidence: it is written *before* the request is sent, so that a crash between the service's
answer and our commit leaves a trace.  Writes to the row need no lease: every process records what it learns, at any
time, and recorded knowledge is never removed.

A request is *unanswered* while it is `submitting` (being sent, or its worker died) or `unknown` (its answer can't
arrive any more).  It may have been carried out and billed, so its pictures are ordered again only if the provider's
`may_bill_twice` allows it.
"""

from __future__ import annotations

import enum


class RemoteState(enum.StrEnum):
    """The known state of a request; the word in `remote_job.state`."""

    SUBMITTING = "submitting"  # recorded; it may have been sent
    WAITING = "waiting"  # the service has given it an id
    DONE = "done"  # its pictures are in our store
    FAILED = "failed"  # the service has refused, or the request was never sent
    LOST = "lost"  # the service no longer knows it
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # no answer arrived


class Word(enum.Enum):
    """The source of the knowledge, at the end of a poll, that a job goes on."""

    SAID = "the service"
    SILENT = "none: the service was asked and has not answered"
    UNASKABLE = "none: the service reports by itself, and can't be asked"


UNANSWERED = frozenset({RemoteState.SUBMITTING, RemoteState.UNKNOWN})

_KNOWN = frozenset({RemoteState.DONE, RemoteState.FAILED, RemoteState.LOST, RemoteState.CANCELLED})

MOVES: dict[RemoteState, frozenset[RemoteState]] = {
    RemoteState.SUBMITTING: _KNOWN | {RemoteState.WAITING, RemoteState.UNKNOWN},
    RemoteState.UNKNOWN: _KNOWN | {RemoteState.WAITING},  # late knowledge counts too
    RemoteState.WAITING: _KNOWN,
}


def sources(target: RemoteState) -> list[RemoteState]:
    """The states from which a request may move to this one, sorted."""
    return sorted(source for source, targets in MOVES.items() if target in targets)
