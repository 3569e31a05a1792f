"""The life of a paid request, as one table.  Pure.

Each row of `remote_job` is evidence: it is written *before* the request leaves, so that a crash between the service's
yes and our commit is known for what it is.  The row is not fenced by the lease: whoever learns something writes it
down, however late, and nothing that is known is ever taken back.

A request is *unanswered* while it is `submitting` (on its way, or its worker died) or `unknown` (nobody will hear its
answer any more).  It may have been carried out and billed, so what it was for is run again only where the provider's
`may_bill_twice` allows it.
"""

from __future__ import annotations

import enum


class RemoteState(enum.StrEnum):
    """What is known of a request; the word in `remote_job.state`."""

    SUBMITTING = "submitting"  # written down; it may have left
    WAITING = "waiting"  # the service has given it an id
    DONE = "done"  # its pictures are stored with us
    FAILED = "failed"  # the service has said no, or the request never left
    LOST = "lost"  # the service does not know it any more
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # no answer was heard


class Word(enum.Enum):
    """Who says, at the end of a poll, that a job goes on."""

    SAID = "the service"
    SILENT = "nobody: the service was asked and has not answered"
    UNASKABLE = "nobody: the service tells by itself, and can't be asked"


UNANSWERED = frozenset({RemoteState.SUBMITTING, RemoteState.UNKNOWN})
OPEN = frozenset(
    {RemoteState.SUBMITTING, RemoteState.WAITING}
)  # they count against the provider's concurrency

_KNOWN = frozenset({RemoteState.DONE, RemoteState.FAILED, RemoteState.LOST, RemoteState.CANCELLED})

MOVES: dict[RemoteState, frozenset[RemoteState]] = {
    RemoteState.SUBMITTING: _KNOWN | {RemoteState.WAITING, RemoteState.UNKNOWN},
    RemoteState.UNKNOWN: _KNOWN | {RemoteState.WAITING},  # late news is news
    RemoteState.WAITING: _KNOWN,
}


def sources(target: RemoteState) -> list[RemoteState]:
    """The states from which a request may come to this one, sorted."""
    return sorted(source for source, targets in MOVES.items() if target in targets)
