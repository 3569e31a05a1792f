"""The finished steps of a task, and from which step it goes on after a retry.

A finished step of a charge has a row in `task_step`, written by the transaction that advances the task.  So each step
of a charge is finished once, and its results are there for the steps that follow.  A resubmitted task goes on at
the first step without results of the same params: the rows of the steps before are copied to the new charge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from supervisor.database.interface.database import Transaction
from supervisor.store.sql.rows import decoded, encoded

_COPIED = "name, params_hash, images, outputs, missing, kept_credits, run_seconds"


class Finished(NamedTuple):
    """A finished step.  images: [{key, width, height}]; outputs: as in `supervisor.media.shown_outputs`, or None.

    missing: pictures that it was to make and did not.  kept_credits: what a refund leaves out from now on.
    """

    task_id: str
    charge: int
    step: int
    name: str
    params_hash: str
    images: list[dict[str, Any]]
    outputs: dict[str, Any] | None
    missing: int
    kept_credits: int


class Results(NamedTuple):
    """The steps of a task, as they were fixed at its admission, and {name: its results} of those that are finished."""

    fixed: list[dict[str, Any]]
    made: dict[str, dict[str, Any]]


def add(tx: Transaction, finished: Sequence[Finished]) -> None:
    """Record finished steps, of attempts that hold their tasks."""
    tx.send(
        f"""INSERT INTO task_step (task_id, charge, step, {_COPIED}, finished_at)
            SELECT task_queue.id, task_queue.charge, task_queue.step, made.value ->> 3, made.value ->> 4,
                {tx.as_json("made.value ->> 5")}, {tx.as_json("made.value ->> 6")},
                CAST(made.value ->> 7 AS INTEGER), CAST(made.value ->> 8 AS INTEGER),
                {tx.seconds_since("processing_started_at")}, {tx.moment}
            FROM task_queue JOIN {tx.rows(":finished")} AS made ON task_queue.id = made.value ->> 0""",
        finished=encoded(finished),
    )


def results(tx: Transaction, task_id: str, charge: int, step: int) -> Results | None:
    """The steps of a task, and the results of those of this charge before this step; None if it is not there now."""
    fixed = tx.value(
        "SELECT steps FROM task_queue WHERE id = :task_id AND charge = :charge AND step = :step",
        task_id=task_id, charge=charge, step=step,
    )  # fmt: skip
    if fixed is None:
        return None
    rows = tx.all(
        """SELECT name, images, outputs, missing FROM task_step
            WHERE task_id = :task_id AND charge = :charge AND step < :step ORDER BY step""",
        task_id=task_id, charge=charge, step=step,
    )  # fmt: skip
    return Results(
        decoded(fixed),
        {
            row["name"]: {
                "images": decoded(row["images"]),
                "outputs": decoded(row["outputs"]),
                "missing": row["missing"],
            }
            for row in rows
        },
    )


class Resumed(NamedTuple):
    """From which step a resubmitted task goes on.  paid_credits: kept by earlier charges for the steps before."""

    step: int
    paid_credits: int


def resumed_at(tx: Transaction, task_id: str, charge: int, hashes: Sequence[str]) -> Resumed:
    """The first step that has no results in any earlier charge.  hashes: of the params of each step.

    The last step is never left out: the charge is to end with it.
    """
    rows = tx.all(
        """SELECT step, params_hash, max(kept_credits) AS kept FROM task_step
            WHERE task_id = :task_id AND charge < :charge GROUP BY step, params_hash""",
        task_id=task_id, charge=charge,
    )  # fmt: skip
    known = {(row["step"], row["params_hash"]): row["kept"] for row in rows}
    paid = 0
    for step, params_hash in enumerate(hashes[:-1]):
        if (step, params_hash) not in known:
            return Resumed(step, paid)
        paid += known[step, params_hash]
    return Resumed(len(hashes) - 1, paid)


def take_over(tx: Transaction, task_id: str, charge: int, hashes: Sequence[str]) -> None:
    """Copy the newest results of these first steps from earlier charges to this one.  hashes: of those steps alone."""
    for step, params_hash in enumerate(hashes):
        tx.send(
            f"""INSERT INTO task_step (task_id, charge, step, {_COPIED}, resumed, finished_at)
                SELECT task_id, :charge, step, {_COPIED}, 1, {tx.now} FROM task_step
                WHERE task_id = :task_id AND charge < :charge AND step = :step AND params_hash = :params_hash
                ORDER BY charge DESC LIMIT 1""",
            task_id=task_id, charge=charge, step=step, params_hash=params_hash,
        )  # fmt: skip
