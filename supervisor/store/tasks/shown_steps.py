"""The steps of a task as its user sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.remote.amounts import plain, plus
from supervisor.store.sql.rows import decoded

View = dict[str, Any]


def shown(tx: Transaction, task_id: str) -> list[View]:
    """[{name, status, progress, run_seconds, cost, images}] of the present charge; empty for a type without steps.

    status: waiting, running, done, resumed (done by an earlier charge), failed, cancelled.  run_seconds: of the attempt
    that ended it, None before.  cost: {unit: amount} that services reported.  images: as stored, with keys, of a
    finished step with `keep`; else None.
    """
    task = tx.one(
        f"""SELECT charge, status, step, steps, progress, {tx.seconds_since("processing_started_at")} AS since_start,
            {tx.seconds_since("finished_at")} AS since_end
            FROM task_queue WHERE id = :task_id AND steps IS NOT NULL""",
        task_id=task_id,
    )
    if task is None:
        return []
    finished = tx.all(
        """SELECT step, images, run_seconds, resumed FROM task_step
            WHERE task_id = :task_id AND charge = :charge AND lost = 0""",
        task_id=task_id,
        charge=task["charge"],
    )
    costs = tx.all(
        "SELECT step, amount, unit FROM provider_cost WHERE task_id = :task_id AND charge = :charge ORDER BY id",
        task_id=task_id,
        charge=task["charge"],
    )
    fixed = decoded(task["steps"])
    of_step = {row["step"]: row for row in finished}
    return [
        {
            "name": step["name"],
            **_state(task, fixed, n, of_step.get(n)),
            "cost": _sums([row for row in costs if row["step"] == n]),
            "images": decoded(of_step[n]["images"]) if step["keep"] and n in of_step else None,
        }
        for n, step in enumerate(fixed)
    ]


def _state(task: Row, fixed: Sequence[Mapping[str, Any]], n: int, finished: Row | None) -> View:
    """Status, progress and run time of step n."""
    if finished is not None:
        status = "resumed" if finished["resumed"] else "done"
        return {"status": status, "progress": 100, "run_seconds": finished["run_seconds"]}
    if n != task["step"]:
        return {"status": "waiting", "progress": 0, "run_seconds": None}
    if task["status"] == "completed":
        return {"status": "done", "progress": 100, "run_seconds": _ran(task)}
    progress = percent_of_step(fixed, n, task["progress"])
    match task["status"]:
        case "pending":
            return {"status": "waiting", "progress": 0, "run_seconds": None}
        case "processing" | "ai_processing":
            return {"status": "running", "progress": progress, "run_seconds": None}
        case _:
            return {"status": task["status"], "progress": progress, "run_seconds": _ran(task)}


def _ran(task: Row) -> float | None:
    if task["since_start"] is None or task["since_end"] is None:
        return None
    return max(0.0, float(task["since_start"] - task["since_end"]))


def _sums(costs: Sequence[Row]) -> dict[str, str]:
    sums: dict[str, Decimal] = {}
    for row in costs:
        sums[row["unit"]] = plus(sums.get(row["unit"], Decimal(0)), row["amount"])
    return {unit: plain(total) for unit, total in sums.items()}


def percent_of_step(fixed: Sequence[Mapping[str, Any]], n: int, percent: int) -> int:
    """Percent of a step that is not done, from that of its task: `step_orders.progress_of` turned round."""
    weights = [float(step["weight"]) for step in fixed]
    done = percent * sum(weights) - 100 * sum(weights[:n])
    return min(99, max(0, round(done / weights[n])))
