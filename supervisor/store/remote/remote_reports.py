"""Services' reports on their remote jobs: stored unread, and read by a worker like the answer to a poll.

The web process that stores a report knows no provider, so it neither trusts nor interprets the report.  One transaction
stores the report and makes the task's poll due.  A repeated report, or one on an ended job, changes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from supervisor.database.interface.database import Transaction
from supervisor.store.sql.conditions import of_steps
from supervisor.store.sql.row_isolation import Aside, delete_apart
from supervisor.store.sql.rows import decoded, encoded

MOST_UNREAD = 32  # reports kept for one request; beyond it the oldest are dropped
FORGET_SECONDS = 86_400
TOO_LARGE = {"x-darkroom-report": "too large"}  # the headers of a report that was too large to keep


@dataclasses.dataclass(frozen=True)
class StoredReport:
    """headers: {name in small letters: value}."""

    id: int
    headers: Mapping[str, str]
    body: bytes


def store(tx: Transaction, reference: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Store a report on the request with this reference, and make its poll due; False if that changes nothing.

    The report also proves that the service has the job: an unanswered request then becomes waiting.
    """
    job = tx.one(
        "SELECT id, task_id, charge, step, lease, state FROM remote_job WHERE reference = :reference",
        reference=reference,
    )
    if job is None:
        return False
    # locked first: a hand-off or a poll that ends at the same moment sees the report, or is seen here
    task = tx.one(
        f"SELECT status, charge, step FROM task_queue WHERE id = :task_id {tx.for_update}",
        task_id=job["task_id"],
    )
    is_open = task is not None and task["status"] in ("pending", "processing", "ai_processing")
    if not is_open or task is None or (task["charge"], task["step"]) != (job["charge"], job["step"]):
        return False
    if job["state"] not in ("submitting", "unknown", "waiting"):
        return False
    stored = tx.run(
        f"""INSERT INTO remote_report (task_id, charge, step, lease, reference, headers, body, sha256, created_at)
            VALUES (:task_id, :charge, :step, :lease, :reference, :headers, :body, :sha256, {tx.now})
            ON CONFLICT (reference, sha256) DO NOTHING""",
        task_id=job["task_id"], charge=job["charge"], step=job["step"], lease=job["lease"], reference=reference,
        headers=encoded(dict(headers)), body=body, sha256=hashlib.sha256(body).hexdigest(),
    )  # fmt: skip
    if stored != 1:
        return False
    _drop_oldest(tx, job["task_id"], job["charge"], reference)
    tx.execute(
        f"""UPDATE remote_job SET state = 'waiting', updated_at = {tx.now}
            WHERE id = :id AND state IN ('submitting','unknown')""",
        id=job["id"],
    )  # fmt: skip
    tx.execute(  # if the task is just being polled, the end of that poll checks for reports
        f"""UPDATE task_queue SET next_poll_at = {tx.now}
            WHERE id = :task_id AND status = 'ai_processing' AND worker_id IS NULL""",
        task_id=job["task_id"],
    )  # fmt: skip
    return True


def unread(tx: Transaction, steps: Sequence[tuple[str, int, int]]) -> dict[str, list[int]]:
    """{reference: ids of its unread reports, oldest first} for these steps, [(task id, charge, step)]."""
    rows = tx.all(
        f"""SELECT id, reference FROM remote_report
            WHERE {of_steps(tx, "remote_report")} AND read_at IS NULL ORDER BY id""",
        steps=encoded(list(steps)),
    )
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["reference"], []).append(row["id"])
    return found


def get(tx: Transaction, report_id: int) -> StoredReport | None:
    """One complete report."""
    row = tx.one("SELECT id, headers, body FROM remote_report WHERE id = :report_id", report_id=report_id)
    return None if row is None else StoredReport(row["id"], decoded(row["headers"]), bytes(row["body"]))


def mark_read(tx: Transaction, report_ids: Iterable[int]) -> None:
    """Mark reports as read, because their content is stored."""
    for report_id in report_ids:
        tx.execute(f"UPDATE remote_report SET read_at = {tx.now} WHERE id = :report_id", report_id=report_id)


def prune(tx: Transaction, most: int, aside: Aside | None = None) -> int:
    """Delete old reports, read or not: by now their jobs are over, or no report would help them."""
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    found = tx.all(
        f"""SELECT id FROM remote_report WHERE created_at <= {tx.ago(":forget_seconds")} AND {others}
            ORDER BY created_at LIMIT :most""",
        forget_seconds=FORGET_SECONDS, **left_alone, most=most,
    )  # fmt: skip
    return delete_apart(tx, "remote_report", found, aside)


def _drop_oldest(tx: Transaction, task_id: str, charge: int, reference: str) -> None:
    tx.execute(
        """DELETE FROM remote_report WHERE task_id = :task_id AND charge = :charge AND read_at IS NULL
            AND reference = :reference AND id NOT IN (SELECT id FROM remote_report WHERE task_id = :task_id
            AND charge = :charge AND read_at IS NULL
                           AND reference = :reference ORDER BY id DESC LIMIT :most_unread)""",
        task_id=task_id, charge=charge, reference=reference, most_unread=MOST_UNREAD,
    )  # fmt: skip
