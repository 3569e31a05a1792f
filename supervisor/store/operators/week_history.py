"""A week, a row a minute: queue, waits, ends and spending, written in the commit that ends the minute's sweep.

Sums only grow in a row, so a missed minute loses nothing: two rows are subtracted, and a sum that has fallen (the
counters' table was emptied) counts from zero.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.store.counters import counters, open_task_counts
from supervisor.store.operators import waiting_counts
from supervisor.store.recovery import stuck_tasks
from supervisor.store.sql.rows import decoded, encoded

KEPT_HOURS = 168
MOST_POINTS = 336  # half an hour each, over a week
NANOS = 1e9

View = dict[str, Any]


def note(tx: Transaction, minute: str, program: str) -> None:
    """Write the row of this minute, and forget rows of more than a week ago.  program: what a deploy changes."""
    before = tx.one("SELECT entry_id, credits FROM minute_history ORDER BY minute DESC LIMIT 1")
    entry_id, credits = (before["entry_id"], before["credits"]) if before else (_newest_entry(tx), 0)
    spent = tx.one(
        """SELECT coalesce(max(id), :after) AS newest, coalesce(-sum(CASE WHEN kind IN ('debit','refund')
            THEN amount END), 0) AS spent FROM credit_entry WHERE id > :after""",
        after=entry_id,
    )
    assert spent is not None
    sums = _sums(tx)
    opened = open_task_counts.open_tasks(tx)
    due = {type_ for (type_, status), n in opened.items() if status == "pending" and n}
    tx.execute(
        """INSERT INTO minute_history (minute, pending, running, stuck, oldest_seconds, waits, wait_seconds, completed,
            failed, credits, entry_id, costs, program)
        VALUES (:minute, :pending, :running, :stuck, :oldest, :waits, :wait_seconds, :completed, :failed, :credits,
            :entry_id, :costs, :program) ON CONFLICT (minute) DO NOTHING""",
        minute=minute,
        pending=sum(n for (_, status), n in opened.items() if status == "pending"),
        running=sum(n for (_, status), n in opened.items() if status != "pending"),
        stuck=sum(stuck_tasks.count_stuck(tx).values()),
        oldest=max((waiting_counts.oldest_due_seconds(tx, type_) for type_ in due), default=0.0),
        waits=sums["waits"], wait_seconds=sums["wait_seconds"],
        completed=sums["completed"], failed=sums["failed"],
        credits=int(credits) + int(spent["spent"]), entry_id=int(spent["newest"]),
        costs=encoded(sums["costs"]), program=program,
    )  # fmt: skip
    tx.execute(
        f"DELETE FROM minute_history WHERE minute < substr({tx.as_text(tx.ago(':seconds'))}, 1, 16)",
        seconds=KEPT_HOURS * 3600,
    )


def read(tx: Transaction, hours: int = KEPT_HOURS) -> View:
    """{minutes, points, deploys} of the last so many hours.

    minutes: of each point.  points: at most MOST_POINTS, each with `at` (its first minute), the highest pending,
    running, stuck and oldest_seconds, the mean wait_seconds of what was begun (None for nothing), and what was
    completed, failed, spent in credits, and spent at services by unit.  deploys: [{at, program}] where another program
    swept.
    """
    rows = tx.all(
        f"""SELECT * FROM minute_history WHERE minute >= substr({tx.as_text(tx.ago(":seconds"))}, 1, 16)
            ORDER BY minute""",
        seconds=hours * 3600,
    )
    width = max(1, hours * 60 // MOST_POINTS)
    buckets: dict[int, list[tuple[Row, Row | None]]] = {}
    before: Row | None = None
    for row in rows:
        row["costs"] = decoded(row["costs"])
        at = int(datetime.fromisoformat(row["minute"] + "Z").timestamp()) // 60
        buckets.setdefault(at // width, []).append((row, before))
        before = row
    deploys = [
        {"at": f"{row['minute']}:00.000Z", "program": row["program"]}
        for several in buckets.values()
        for row, last in several
        if last is not None and last["program"] != row["program"]
    ]
    return {"minutes": width, "points": [_point(several) for several in buckets.values()], "deploys": deploys}


def _point(several: list[tuple[Row, Row | None]]) -> View:
    costs: dict[str, float] = {}
    for row, last in several:
        for unit, nanos in row["costs"].items():
            costs[unit] = (
                costs.get(unit, 0.0) + _risen(nanos, last["costs"].get(unit, 0.0) if last else None) / NANOS
            )
    waits = _sum(several, "waits")
    return {
        "at": f"{several[0][0]['minute']}:00.000Z",
        **{
            name: max(row[name] for row, _ in several)
            for name in ("pending", "running", "stuck", "oldest_seconds")
        },
        "wait_seconds": round(_sum(several, "wait_seconds") / waits, 3) if waits else None,
        "completed": round(_sum(several, "completed")),
        "failed": round(_sum(several, "failed")),
        "credits": round(sum(row["credits"] - last["credits"] for row, last in several if last)),
        "costs": {unit: round(cost, 9) for unit, cost in costs.items() if cost},
    }


def _sum(several: list[tuple[Row, Row | None]], name: str) -> float:
    return sum((_risen(row[name], last[name] if last else None) for row, last in several), 0.0)


def _risen(now: float, before: float | None) -> float:
    """The rise of a sum; nothing for the first row, which counts all that came before it."""
    if before is None:
        return 0.0
    return now - before if now >= before else now


def _sums(tx: Transaction) -> View:
    """All waits, ends and costs so far."""
    found: View = {"waits": 0.0, "wait_seconds": 0.0, "completed": 0.0, "failed": 0.0, "costs": {}}
    for (name, labels), values in counters.read_all(tx).items():
        of = decoded(labels)
        if name == "darkroom_task_wait_seconds":
            found["wait_seconds"] += values.get("sum", 0.0)
            found["waits"] += sum(n for bucket, n in values.items() if bucket != "sum")
        elif name == "darkroom_tasks_finished_total" and of.get("outcome") in ("completed", "failed"):
            found[of["outcome"]] += values.get("", 0.0)
        elif name == "darkroom_ai_cost_total":
            found["costs"][of["unit"]] = found["costs"].get(of["unit"], 0.0) + values.get("", 0.0)
    return found


def _newest_entry(tx: Transaction) -> int:
    return int(tx.value("SELECT coalesce(max(id), 0) FROM credit_entry"))
