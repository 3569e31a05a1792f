"""A task's trace context: written when the trace begins, read by the processes that go on with the task.

Only a process that traces writes or reads here.  A task has one trace from its submission to its end, over all
attempts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from supervisor.database.interface.database import Transaction
from supervisor.schema.statements import Built, each_of
from supervisor.schema.tables import TaskTrace
from supervisor.store.sql.rows import encoded

_MADE_DUE = "('admitted','retried','postponed','released','resubmitted')"


_CONTEXTS = Built(TaskTrace.select().where(TaskTrace.task_id.in_(each_of("task_ids"))))


class Traced(NamedTuple):
    """The data for the span of an attempt.

    context: the task's `traceparent`, empty if its trace has not begun.  waited_seconds: from when the task was
    due for this attempt to the claim.  claimed_ago_seconds: since the claim.
    """

    context: str
    waited_seconds: float
    claimed_ago_seconds: float


def begin(tx: Transaction, begun: Iterable[tuple[str, str]]) -> None:
    """Store these traces for these tasks, unless they have one.  begun: (task id, traceparent)."""
    tx.send(
        f"""INSERT INTO task_trace (task_id, context)
            SELECT value ->> 0, value ->> 1 FROM {tx.rows(":begun")} AS begun WHERE 1 = 1
            ON CONFLICT (task_id) DO NOTHING""",
        begun=encoded(list(begun)),
    )


def contexts_of(tx: Transaction, task_ids: Sequence[str]) -> dict[str, str]:
    """{task's id: its `traceparent`} of those that have a trace."""
    rows = tx.all(_CONTEXTS, task_ids=encoded(list(task_ids)))
    return {row["task_id"]: row["context"] for row in rows}


def of_attempt(tx: Transaction, task_id: str, lease: int) -> Traced:
    """The task's trace, and its waiting time before the attempt with this lease."""
    row = tx.one(
        f"""SELECT {tx.seconds_between("coalesce(due.run_after, due.at)", "claimed.at")} AS waited,
            {tx.seconds_since("claimed.at")} AS ago
        FROM task_event AS claimed JOIN task_event AS due ON due.task_id = claimed.task_id AND due.id < claimed.id
        WHERE claimed.task_id = :task_id AND claimed.event = 'claimed' AND claimed.lease = :lease AND due.event
        IN {_MADE_DUE}
        ORDER BY due.id DESC LIMIT 1""",
        task_id=task_id, lease=lease,
    )  # fmt: skip
    waited, ago = (row["waited"], row["ago"]) if row else (0.0, 0.0)
    context = contexts_of(tx, [task_id]).get(task_id, "")
    return Traced(context, max(0.0, waited), max(0.0, ago))
