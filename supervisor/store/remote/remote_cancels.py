"""Remote jobs of ended tasks: which are to be cancelled at their service, and when the cancel is repeated.

The transaction that ends a task sets `cancel_wanted` in the job's row.  The dispatcher sends the cancel to workers
until the service confirms it or the job is over; a worker that dies meanwhile only delays it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from supervisor.database.interface.database import Pending, Transaction
from supervisor.schema.tables import UNSETTLED
from supervisor.store.sql.row_isolation import Aside, done_apart
from supervisor.store.sql.rows import encoded

CANCELS_A_ROUND = 200
MOST_CANCELS = 20  # with the pauses below, more than an hour
FIRST_SECONDS, MOST_SECONDS = 2.0, 300.0
SETTLED_SECONDS = 7200.0  # after this time a job that can't be cancelled counts as ended by its service


@dataclasses.dataclass(frozen=True)
class Cancel:
    """The message in the broker: the remote job's row."""

    id: int


def want_cancel(tx: Transaction, task_id: str, charge: int) -> None:
    """Mark all open remote jobs of this charge for a cancel, because the task is over."""
    want_cancels(tx, [(task_id, charge)])


def want_cancels(tx: Transaction, ended: Sequence[tuple[str, int]]) -> None:
    """The same for many tasks.  ended: [(task id, charge)]."""
    tx.send(
        f"""UPDATE remote_job SET cancel_wanted = 1, updated_at = {tx.now}
            WHERE (task_id, charge) IN (SELECT value ->> 0, CAST(value ->> 1 AS INTEGER)
                FROM {tx.rows(":charges")} AS of_charges) AND {UNSETTLED} AND cancel_wanted = 0""",
        charges=encoded(ended),
    )


def wanted_by(ended: str, tx: Transaction) -> str:
    """The same as SQL within a query.  ended: its table of ended tasks, with id and charge."""
    return f"""UPDATE remote_job SET cancel_wanted = 1, updated_at = {tx.now} FROM {ended}
        WHERE remote_job.task_id = {ended}.id AND remote_job.charge = {ended}.charge
          AND {UNSETTLED} AND cancel_wanted = 0 RETURNING 1"""


def due_cancels(tx: Transaction, aside: Aside | None = None) -> Pending[list[Cancel]]:
    """Jobs whose cancel is due; each becomes due again later, in case it is not confirmed.  aside: jobs to leave
    alone."""
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    asked = tx.ask(
        f"""SELECT id, cancels FROM remote_job WHERE cancel_wanted = 1 AND state = 'waiting' AND {others}
            AND (cancel_due_at IS NULL OR cancel_due_at <= {tx.now}) AND remote_id IS NOT NULL
            AND cancels < :most_cancels
            ORDER BY id LIMIT :cancels_a_round{tx.for_update_of_free("remote_job")}""",
        **left_alone, most_cancels=MOST_CANCELS, cancels_a_round=CANCELS_A_ROUND,
    )  # fmt: skip

    def answer() -> list[Cancel]:
        cancels = {str(row["id"]): row["cancels"] for row in asked.all()}

        def put_off(ids: Sequence[str]) -> list[Cancel]:
            pauses = [(int(id_), pause_seconds(cancels[id_])) for id_ in ids]
            in_seconds = tx.shifted(tx.now, "CAST(pause.value ->> 1 AS DOUBLE PRECISION)")
            tx.send(
                f"""UPDATE remote_job SET cancels = cancels + 1, cancel_due_at = {in_seconds}
                    FROM {tx.rows(":pauses")} AS pause WHERE remote_job.id = CAST(pause.value ->> 0 AS BIGINT)""",
                pauses=encoded(pauses),
            )
            return [Cancel(id_) for id_, _ in pauses]

        return done_apart(tx, "remote_job", list(cancels), put_off, aside)

    return Pending(answer)


def pause_seconds(cancels: int) -> float:
    """Seconds until an unconfirmed cancel is repeated.  cancels: the number sent before this one."""
    return float(min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(cancels, 20)))


def give_up_cancels(tx: Transaction) -> int:
    """Set jobs that could not be cancelled for hours to lost; otherwise they would hold the provider's places for
    ever.  How many there were, without those that other transactions have locked."""
    return tx.run(
        f"""UPDATE remote_job SET state = 'lost', updated_at = {tx.now} WHERE id IN (SELECT id FROM remote_job
            WHERE cancel_wanted = 1 AND state = 'waiting' AND (cancels >= :most_cancels OR remote_id IS NULL)
              AND created_at <= {tx.ago(":settled_seconds")}{tx.for_update_of_free("remote_job")})""",
        most_cancels=MOST_CANCELS, settled_seconds=SETTLED_SECONDS,
    )  # fmt: skip
