"""The record of operators' actions, with the state before and after, written in the same transaction as the action."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.statements import NOW, Built, new_row, param
from supervisor.schema.tables import Audit
from supervisor.store.sql.row_isolation import Aside, delete_oldest
from supervisor.store.sql.rows import decoded, encoded

_RECORD = Built(new_row(Audit, "operator", "action", "kind", "target", "before", "after", at=NOW))
_NEWEST = Built(Audit.select().order_by(Audit.id.desc()).limit(param("most")))
_OF_TASK = Built(
    Audit.select().where(Audit.kind == "task", Audit.target == param("task_id")).order_by(Audit.id)
)


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
        _RECORD,
        operator=operator, action=action, kind=kind, target=target, before=_json(before), after=_json(after),
    )  # fmt: skip


def newest(tx: Transaction, most: int) -> list[Row]:
    """The latest actions, newest first."""
    return [_shown(row) for row in tx.all(_NEWEST, most=most)]


def of_task(tx: Transaction, task_id: str) -> list[Row]:
    """Operators' actions on one task, oldest first."""
    return [_shown(row) for row in tx.all(_OF_TASK, task_id=task_id)]


def prune(tx: Transaction, older_than_seconds: float, most: int, aside: Aside | None = None) -> int:
    """Delete the oldest actions; how many.  Ids follow time, so only the first rows are read."""
    return delete_oldest(tx, "audit", "at", older_than_seconds, most, aside)


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else encoded(value)


def _shown(row: Row) -> Row:
    return {**row, "before": decoded(row["before"]), "after": decoded(row["after"])}
