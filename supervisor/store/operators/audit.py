"""The record of operators' actions, with the state before and after, written in the same transaction as the action."""

from __future__ import annotations

from typing import Any, NamedTuple

from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.statements import NOW, Built, new_row, param
from supervisor.schema.tables import Audit
from supervisor.store.sql.row_isolation import Aside, delete_oldest
from supervisor.store.sql.rows import decoded, encoded

_RECORD = Built(
    new_row(Audit, "operator", "role", "action", "kind", "target", "before", "after", "bulk_id", at=NOW)
)
_NEWEST = Built(Audit.select().where(Audit.bulk_id.is_null()).order_by(Audit.id.desc()).limit(param("most")))
_OF_TASK = Built(
    Audit.select().where(Audit.kind == "task", Audit.target == param("task_id")).order_by(Audit.id)
)


class Operator(NamedTuple):
    """Who acts.  role: of their token; `command` for somebody who uses the command line on a host of the system."""

    name: str
    role: str


def record(
    tx: Transaction,
    operator: Operator,
    action: str,
    kind: str,
    target: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    bulk_id: str | None = None,
) -> None:
    """Record an action.  kind: 'task', 'worker', 'type', 'provider', 'sweep', 'user', 'token' or 'bulk'.

    bulk_id: the action on many tasks that this is a part of."""
    tx.execute(
        _RECORD,
        operator=operator.name, role=operator.role, action=action, kind=kind, target=target,
        before=_json(before), after=_json(after), bulk_id=bulk_id,
    )  # fmt: skip


def newest(tx: Transaction, most: int) -> list[Row]:
    """The latest actions, newest first, without the parts of actions on many tasks."""
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
