"""The one statement that ends a task without a result: failed or cancelled, refunded by its trigger."""

from __future__ import annotations

from typing import Any, Literal

from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Row, Transaction
from supervisor.store.counters import counters
from supervisor.store.remote import remote_cancels
from supervisor.store.sql.rows import encoded


def end_task(
    tx: Transaction,
    outcome: Literal["failed", "cancelled"],
    where: str,
    *,
    error: tuple[str, str] | None = None,
    counts: str = "",
    given_back: int = 0,
    counted_as: str | None = None,
    **named: Any,
) -> Row | None:
    """End the one task whose row meets a condition, have its remote jobs cancelled, and count it; its changed row.

    None, and nothing is done, if no row meets the condition.  where: SQL; named: its parameters.
    error: (code, message).  counts: 'failures' or 'deaths' adds one of these.  given_back: credits that finished steps
    were to keep.
    counted_as: the type it counts as, where its own may be no type of the settings.
    """
    row = tx.one(
        f"""UPDATE task_queue SET status = '{outcome}', stage = '{outcome}', error = :error,
            work_id = coalesce(work_id, :new_work_id), failures = failures + :one_failure, deaths = deaths + :one_death,
            kept = kept - :given_back,
            deadline_at = NULL, next_poll_at = NULL, finished_at = {tx.now}, updated_at = {tx.now}
        WHERE {where} RETURNING id, type, charge, {ran(tx)}, {name_of_step()}""",
        error=None if error is None else encoded({"code": error[0], "message": error[1]}),
        new_work_id=new_ulid(), one_failure=int(counts == "failures"), one_death=int(counts == "deaths"),
        given_back=given_back, **named,
    )  # fmt: skip
    if row is not None:
        remote_cancels.want_cancel(tx, row["id"], row["charge"])
        added = counters.Tally()
        count_end(added, {**row, "type": counted_as or row["type"]}, outcome)
        added.store(tx)
    return row


def count_end(added: counters.Tally, row: Row, outcome: str) -> None:
    """Count a task that is over, and how long its last attempt ran.  row: `type`, and `ran` as `ran` says."""
    added.count("darkroom_tasks_finished_total", type=row["type"], outcome=outcome)
    if row["ran"] is not None:
        added.observe("darkroom_task_run_seconds", row["ran"], type=row["type"], outcome=outcome)
        if row["step_name"]:
            count_step(added, row, row["step_name"], outcome)


def count_step(added: counters.Tally, row: Row, name: str, outcome: str) -> None:
    """Count a step that is over, and how long its last attempt ran.  row: `type`, and `ran` as `ran` says."""
    if row["ran"] is not None:
        added.observe("darkroom_step_run_seconds", row["ran"], type=row["type"], step=name, outcome=outcome)


def counted_ends(ended: str, outcome: str) -> str:
    """What `count_end` counts, as parts of a query.  ended: its table of ended tasks, with type, ran and step_name."""
    of_task = f"""format('{{"outcome":"{outcome}","type":%s}}', to_json(type))"""
    of_step = (
        f"""format('{{"outcome":"{outcome}","step":%s,"type":%s}}', to_json(step_name), to_json(type))"""
    )
    return f"""observed (name, labels, seconds) AS (
            SELECT 'darkroom_task_run_seconds', {of_task}, ran FROM {ended} WHERE ran IS NOT NULL
            UNION ALL SELECT 'darkroom_step_run_seconds', {of_step}, ran FROM {ended}
                WHERE ran IS NOT NULL AND step_name <> ''),
        counted AS ({counters.append_observed("observed")}
            UNION ALL SELECT 'darkroom_tasks_finished_total', {of_task}, '', count(*) FROM {ended} GROUP BY type)"""


def name_of_step() -> str:
    """SQL for the name of the step that a row is at; NULL for a type without steps."""
    return "CASE WHEN steps IS NOT NULL THEN steps -> step ->> 'name' END AS step_name"


def ran(tx: Transaction) -> str:
    """SQL for how long the attempt of a row has run, in seconds; NULL when none runs."""
    return f"{tx.seconds_since('processing_started_at')} AS ran"
