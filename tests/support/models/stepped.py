"""Types with steps, and tasks of theirs that are moved on without a worker."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Transaction
from supervisor.steps.lanes import lane_of
from supervisor.steps.step_orders import hash_of_step, progress_of
from supervisor.store.sql.rows import decoded
from supervisor.store.tasks import claims
from supervisor.store.tasks.steps import Finished

NAMES = ("cut_out", "paint", "enlarge")


def portrait(*, kept_credits: int = 0, **more: Any) -> dict[str, Any]:
    """A type with three steps, as settings declare it.  more: {name of a step: its own keys}, and keys of the type."""
    steps = [
        {"name": name, "provider": "studio", "kept_credits": kept_credits, **more.pop(name, {})}
        for name in NAMES
    ]
    return {"steps": steps, **more}


def advance_now(
    tx: Transaction, task_id: str, lease: int, images: list[dict[str, Any]] | None = None, missing: int = 0
) -> None:
    """Finish the step that a held task is at.  Raises LeaseLost."""
    row = tx.one(
        "SELECT charge, step, steps, last_step, CAST(params AS TEXT) AS params FROM task_queue WHERE id = :id",
        id=task_id,
    )
    assert row is not None
    steps = decoded(row["steps"]) or [{"name": "none", "weight": 1, "kept_credits": 0}]
    at = min(row["step"], max(0, row["last_step"] - 1))
    finished = Finished(
        task_id,
        row["charge"],
        at,
        steps[at]["name"],
        hash_of_step(steps, at, decoded(row["params"])) if row["steps"] else "",
        [{"key": f"results/{task_id}/{at}.png", "width": 4, "height": 3}] if images is None else images,
        None,
        missing,
        steps[at]["kept_credits"],
    )
    following = min(at + 1, len(steps) - 1)
    (lost,) = claims.advance_all(
        tx,
        [
            claims.Advance(
                task_id,
                lease,
                finished,
                progress_of(steps, at, 100),
                lane_of(steps, following) if row["steps"] else "",
                steps[following].get("max_attempts", 3),
                f"{steps[following]['name']}: queued",
            )
        ],
    )
    if lost is not None:
        raise lost
