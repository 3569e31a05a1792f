"""What the working dispatcher looks at every few seconds while nothing happens, without writing anything."""

from __future__ import annotations

import dataclasses

from supervisor.database.interface.database import Transaction
from supervisor.schema.tables import OWED, READY, REMOTE, UNADMITTED, UNRIPE
from supervisor.store.queue import wake_counters

# Whatever a round may have to do now.  Each is answered by the first entry of a partial index.
_DUE = f"""EXISTS (SELECT 1 FROM task_queue WHERE {UNADMITTED})
    OR EXISTS (SELECT 1 FROM task_queue WHERE {READY})
    OR EXISTS (SELECT 1 FROM task_queue WHERE {UNRIPE} AND (run_after IS NULL OR run_after <= {{now}}))
    OR EXISTS (SELECT 1 FROM task_queue WHERE {REMOTE} AND next_poll_at <= {{now}})
    OR EXISTS (SELECT 1 FROM webhook_delivery WHERE {OWED} AND due_at <= {{now}})
    OR EXISTS (SELECT 1 FROM remote_job WHERE cancel_wanted = 1 AND state = 'waiting'
        AND (cancel_due_at IS NULL OR cancel_due_at <= {{now}}))
    OR EXISTS (SELECT 1 FROM worker WHERE state = 'dead')"""


@dataclasses.dataclass(frozen=True)
class IdleCheck:
    """beats: {worker: its beat}, of those that live or drain.  wake: the dispatch counter, which stands still on
    PostgreSQL.

    is_due: there may be something to do: a round says what.
    """

    beats: dict[str, int]
    wake: int
    is_due: bool


def look(tx: Transaction) -> IdleCheck:
    """A read of one moment."""
    beats = tx.ask("SELECT id, beat FROM worker WHERE state IN ('live','draining')")
    due = tx.ask(f"SELECT {_DUE.format(now=tx.now)}")
    wake = wake_counters.read(tx).dispatch
    return IdleCheck({row["id"]: row["beat"] for row in beats.all()}, wake, bool(due.value()))
