"""Tasks and works found by a search (`supervisor/core/search_terms.py`): its SQL, on either database."""

from __future__ import annotations

from typing import Any

from supervisor.core.search_terms import FIELDS, Compare, Condition, Every, Not, OneOf, Search, Some, Value
from supervisor.database.interface.database import Row, Transaction
from supervisor.store.sql.json_sql import json_words

_NAMED_OTHERWISE = {
    "_id": "id",
    "completed_at": "(CASE WHEN status = 'completed' THEN finished_at END)",
    "failed_at": "(CASE WHEN status = 'failed' THEN finished_at END)",
    "cancelled_at": "(CASE WHEN status = 'cancelled' THEN finished_at END)",
}
_MAY_BE_NULL = frozenset({"work_id", "processing_started_at", "completed_at", "failed_at", "cancelled_at"})
_ROWS = {
    "task_queue": """SELECT task_queue.*,
        (SELECT works.images FROM works WHERE works.id = task_queue.work_id) AS work_images FROM task_queue""",
    "works": "SELECT works.* FROM works",
}


def find(tx: Transaction, search: Search) -> list[Row]:
    """The rows; a task's pictures, as its work has them, are `work_images`."""
    return tx.all(*_selected(tx, search, _ROWS[search.collection]))


def params_size(tx: Transaction, search: Search) -> int:
    """How many characters of params the tasks that `find` would find hold together."""
    found, *params = _selected(tx, search, "SELECT length(CAST(params AS TEXT)) AS size FROM task_queue")
    return int(tx.value(f"SELECT coalesce(sum(size), 0) FROM ({found}) AS found", *params))


def _selected(tx: Transaction, search: Search, rows: str) -> tuple[Any, ...]:
    """The statement, and its parameters.  rows: SELECT … FROM …"""
    where, params = _condition(tx, search.collection, search.condition)
    order = [*search.order, ("created_at", True), ("_id", True)]
    sorted_by = ", ".join(_sorted_by(field, falls) for field, falls in order)
    statement = f"{rows} WHERE {where} ORDER BY {sorted_by} LIMIT ? OFFSET ?"
    return statement, *params, search.limit, search.offset


def count(tx: Transaction, collection: str, condition: Condition) -> int:
    """How many there are."""
    where, params = _condition(tx, collection, condition)
    return int(tx.value(f"SELECT count(*) FROM {_table(collection)} WHERE {where}", *params))


def lock_tasks(tx: Transaction, condition: Condition, most: int) -> list[Row]:
    """(id, user_openid, status) of tasks, locked in the order that holds everywhere (CORRECTNESS 27)."""
    where, params = _condition(tx, "task_queue", condition)
    return tx.all(
        f"""SELECT id, user_openid, status FROM task_queue WHERE {where}
            ORDER BY user_openid, id LIMIT ?{tx.for_update}""",
        *params, most,
    )  # fmt: skip


def lock_works(tx: Transaction, condition: Condition, most: int) -> list[Row]:
    """(id, user_openid, task_id) of works whose tasks are now locked, in the same order."""
    where, params = _condition(tx, "works", condition)
    found = tx.all(
        f"SELECT id, user_openid, task_id FROM works WHERE {where} ORDER BY user_openid, task_id LIMIT ?",
        *params, most,
    )  # fmt: skip
    if found and tx.for_update:
        marks = ", ".join("?" for _ in found)
        tx.all(
            f"SELECT id FROM task_queue WHERE id IN ({marks}) ORDER BY user_openid, id{tx.for_update}",
            *(row["task_id"] for row in found),
        )
    return found


def _condition(tx: Transaction, collection: str, condition: Condition) -> tuple[str, list[Any]]:
    match condition:
        case Compare(field, how, value):
            column = _column(field)
            if value is None:
                return f"{column} IS {'NOT ' if how == '<>' else ''}NULL", []
            compared = f"{column} {how} {_mark(tx, collection, field)}"
            return (f"({column} IS NULL OR {compared})" if how == "<>" else compared), [value]
        case OneOf(field, values):
            return _one_of(tx, collection, field, values)
        case Every(parts) | Some(parts):
            word, empty = (" AND ", "1 = 1") if isinstance(condition, Every) else (" OR ", "1 = 0")
            made = [_condition(tx, collection, part) for part in parts]
            joined = word.join(f"({text})" for text, _ in made)
            return joined or empty, [param for _, params in made for param in params]
        case Not(part):  # what is neither true nor false, as beside NULL, does not hold, so its opposite does
            text, params = _condition(tx, collection, part)
            return f"CASE WHEN {text} THEN 0 ELSE 1 END = 1", params


def _one_of(tx: Transaction, collection: str, field: str, values: tuple[Value, ...]) -> tuple[str, list[Any]]:
    given = [value for value in values if value is not None]
    marks = ", ".join(_mark(tx, collection, field) for _ in given)
    found = [f"{_column(field)} IN ({marks})"] if given else []
    if None in values:
        found.append(f"{_column(field)} IS NULL")
    return f"({' OR '.join(found)})" if found else "1 = 0", list(given)


def _mark(tx: Transaction, collection: str, field: str) -> str:
    is_time = FIELDS[collection][field] == "time"
    return json_words(tx).time.format("?") if is_time else "?"


def _column(field: str) -> str:
    return _NAMED_OTHERWISE.get(field, field)


def _sorted_by(field: str, falls: bool) -> str:
    """As MongoDB sorts: null before everything.  Said only where there may be null, or no index would serve."""
    nulls = (" NULLS LAST" if falls else " NULLS FIRST") if field in _MAY_BE_NULL else ""
    return f"{_column(field)} {'DESC' if falls else 'ASC'}{nulls}"


def _table(collection: str) -> str:
    return {"task_queue": "task_queue", "works": "works"}[collection]
