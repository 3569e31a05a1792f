"""The finished steps of a task, and from which step it goes on after a retry.

A finished step of a charge has a row in `task_step`, written by the transaction that advances the task.  So each step
of a charge is finished once, and its results are there for the steps that follow.  A resubmitted task goes on at
the first step without results of the same params: the rows of the steps before are copied to the new charge.

Files may be lost, as on a disk that broke.  The step that needs them ends its task, and the rows of the step that made
them, and of those after it, are *lost*: a retry makes these steps again, and what they were paid with counts for it and
is not kept a second time.
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
            WHERE task_id = :task_id AND charge = :charge AND step < :step AND lost = 0 ORDER BY step""",
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


def kept_for(tx: Transaction, task_id: str, charge: int, step: int, *, since: int) -> int:
    """The credits that this charge keeps for its own finished steps from this one on."""
    return int(
        tx.value(
            """SELECT coalesce(sum(kept_credits), 0) FROM task_step
                WHERE task_id = :task_id AND charge = :charge AND step BETWEEN :since AND :step AND resumed = 0""",
            task_id=task_id, charge=charge, step=step, since=since,
        )
    )  # fmt: skip


def lose(tx: Transaction, task_id: str, charge: int, step: int, *, since: int) -> None:
    """Record that the results of this charge's finished steps from this one on can't be used any more.

    Equal steps of earlier charges are lost too, since their files may be the same.  What this charge kept for its own
    ones was given back.
    """
    tx.execute(
        """UPDATE task_step SET lost = 1, kept_credits = CASE WHEN charge = :charge AND resumed = 0 THEN 0
                ELSE kept_credits END
            WHERE task_id = :task_id AND step BETWEEN :since AND :step AND EXISTS
                (SELECT 1 FROM task_step AS own WHERE own.task_id = :task_id AND own.charge = :charge
                 AND own.step = task_step.step AND own.params_hash = task_step.params_hash)""",
        task_id=task_id, charge=charge, step=step, since=since,
    )  # fmt: skip


class Resumed(NamedTuple):
    """From which step a resubmitted task goes on.  kept_credits: by earlier charges for the steps before.

    lost_credits: {step: what they kept for it}, of steps whose results are lost and that are made again.
    """

    step: int
    kept_credits: int
    lost_credits: dict[int, int]

    @property
    def paid_credits(self) -> int:
        """What earlier charges have paid of this one."""
        return self.kept_credits + sum(self.lost_credits.values())

    def kept_again(self, step: int, kept_credits: int, paid_credits: int) -> int:
        """What this charge keeps for a step: less if earlier ones have paid for it, as it would be paid twice if the
        task failed.  kept_credits: for a step that is new.  paid_credits: what was paid of this charge in fact."""
        lost_before = sum(credits for lost, credits in self.lost_credits.items() if lost < step)
        left = max(0, paid_credits - self.kept_credits - lost_before)
        return max(0, kept_credits - min(left, self.lost_credits.get(step, 0)))


def resumed_at(tx: Transaction, task_id: str, charge: int, hashes: Sequence[str]) -> Resumed:
    """The first step that has no results in any earlier charge.  hashes: of the params of each step.

    The last step is never left out: the charge is to end with it.
    """
    rows = tx.all(
        """SELECT step, params_hash, lost, max(kept_credits) AS kept,
                sum(CASE WHEN resumed = 0 THEN kept_credits ELSE 0 END) AS all_kept FROM task_step
            WHERE task_id = :task_id AND charge < :charge GROUP BY step, params_hash, lost""",
        task_id=task_id, charge=charge,
    )  # fmt: skip
    wanted = set(enumerate(hashes[:-1]))
    known = {(row["step"], row["params_hash"]): row["kept"] for row in rows if not row["lost"]}
    lost = {
        row["step"]: row["all_kept"]
        for row in rows
        if row["lost"] and (row["step"], row["params_hash"]) in wanted
    }
    first = next(
        (step for step in range(len(hashes) - 1) if (step, hashes[step]) not in known), len(hashes) - 1
    )
    return Resumed(first, sum(known[step, hashes[step]] for step in range(first)), lost)


def take_over(tx: Transaction, task_id: str, charge: int, hashes: Sequence[str]) -> None:
    """Copy the newest results of these first steps from earlier charges to this one.  hashes: of those steps alone."""
    for step, params_hash in enumerate(hashes):
        tx.send(
            f"""INSERT INTO task_step (task_id, charge, step, {_COPIED}, resumed, finished_at)
                SELECT task_id, :charge, step, {_COPIED}, 1, {tx.now} FROM task_step
                WHERE task_id = :task_id AND charge < :charge AND step = :step AND params_hash = :params_hash
                    AND lost = 0
                ORDER BY charge DESC LIMIT 1""",
            task_id=task_id, charge=charge, step=step, params_hash=params_hash,
        )  # fmt: skip
