"""The record of operators' actions, with the state before and after, written in the same transaction as the action."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.store.sql.row_isolation import Aside, delete_apart
from supervisor.store.sql.rows import decoded, encoded


def record(
    tx: Transaction,
    operator: str,
    action: str,
    kind: str,
    target: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Record an action.  kind: 'task', 'worker', 'type', 'provider' or 'sweep'."""
    tx.execute(
        f"""INSERT INTO audit (operator, action, kind, target, before, after, at)
            VALUES (:operator, :action, :kind, :target, :before, :after, {tx.now})""",
        operator=operator, action=action, kind=kind, target=target, before=_json(before), after=_json(after),
    )  # fmt: skip


def newest(tx: Transaction, most: int) -> list[Row]:
    """The latest actions, newest first."""
    return [_shown(row) for row in tx.all("SELECT * FROM audit ORDER BY id DESC LIMIT :most", most=most)]


def of_task(tx: Transaction, task_id: str) -> list[Row]:
    """Operators' actions on one task, oldest first."""
    rows = tx.all(
        "SELECT * FROM audit WHERE kind = 'task' AND target = :task_id ORDER BY id", task_id=task_id
    )
    return [_shown(row) for row in rows]


def prune(tx: Transaction, older_than_seconds: float, most: int, aside: Aside | None = None) -> int:
    """Delete the oldest actions; how many.  Ids follow time, so only the first rows are read."""
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    found = tx.all(
        f"""SELECT id FROM (SELECT id, at FROM audit WHERE {others} ORDER BY id LIMIT :most) AS oldest
             WHERE oldest.at < {tx.ago(":older_than_seconds")}""",
        **left_alone, most=most, older_than_seconds=older_than_seconds,
    )  # fmt: skip
    return delete_apart(tx, "audit", found, aside)


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else encoded(value)


def _shown(row: Row) -> Row:
    return {**row, "before": decoded(row["before"]), "after": decoded(row["after"])}
