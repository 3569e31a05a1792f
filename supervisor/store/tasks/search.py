"""The SQL of a search for tasks or works (`supervisor/selection/search_terms.py`), on either database."""

from __future__ import annotations

from typing import Any

from supervisor.database.interface.database import Row, Transaction
from supervisor.selection.search_terms import (
    FIELDS,
    Compare,
    Condition,
    Every,
    Not,
    OneOf,
    Search,
    Some,
    Value,
)
from supervisor.store.sql.rows import encoded

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


class _Given(dict[str, Any]):
    """The values of a statement's parameters, by names that are made as they come."""

    def add(self, value: Any) -> str:
        """The mark of one more."""
        name = f"v{len(self)}"
        self[name] = value
        return f":{name}"


def find(tx: Transaction, search: Search) -> list[Row]:
    """The matching rows; `work_images` holds a task's pictures, from its work."""
    statement, given = _selected(tx, search, _ROWS[search.collection])
    return tx.all(statement, **given)


def params_size(tx: Transaction, search: Search) -> int:
    """The total length, in characters, of the params of the tasks that `find` would return."""
    found, given = _selected(tx, search, "SELECT length(CAST(params AS TEXT)) AS size FROM task_queue")
    return int(tx.value(f"SELECT coalesce(sum(size), 0) FROM ({found}) AS found", **given))


def _selected(tx: Transaction, search: Search, rows: str) -> tuple[str, _Given]:
    """The statement, and its parameters.  rows: SELECT … FROM …"""
    given = _Given()
    where = _condition(tx, search.collection, search.condition, given)
    order = [*search.order, ("created_at", True), ("_id", True)]
    sorted_by = ", ".join(_sorted_by(field, falls) for field, falls in order)
    limit, offset = given.add(search.limit), given.add(search.offset)
    return f"{rows} WHERE {where} ORDER BY {sorted_by} LIMIT {limit} OFFSET {offset}", given


def count(tx: Transaction, collection: str, condition: Condition) -> int:
    """The number of matching rows."""
    given = _Given()
    where = _condition(tx, collection, condition, given)
    return int(tx.value(f"SELECT count(*) FROM {_table(collection)} WHERE {where}", **given))


def lock_tasks(tx: Transaction, condition: Condition, most: int) -> list[Row]:
    """(id, user_openid, status) of tasks, locked in the one order of locks (CORRECTNESS 27)."""
    given = _Given()
    where = _condition(tx, "task_queue", condition, given)
    return tx.all(
        f"""SELECT id, user_openid, status FROM task_queue WHERE {where}
            ORDER BY user_openid, id LIMIT {given.add(most)}{tx.for_update}""",
        **given,
    )


def lock_works(tx: Transaction, condition: Condition, most: int) -> list[Row]:
    """(id, user_openid, task_id) of works; their tasks are locked in the same order."""
    given = _Given()
    where = _condition(tx, "works", condition, given)
    found = tx.all(
        f"""SELECT id, user_openid, task_id FROM works WHERE {where}
            ORDER BY user_openid, task_id LIMIT {given.add(most)}""",
        **given,
    )
    if found and tx.for_update:
        tx.all(
            f"SELECT id FROM task_queue WHERE {tx.is_one_of('id', ':ids')} ORDER BY user_openid, id{tx.for_update}",
            ids=encoded([row["task_id"] for row in found]),
        )
    return found


def _condition(tx: Transaction, collection: str, condition: Condition, given: _Given) -> str:
    """SQL; the values in it are added to those given."""
    match condition:
        case Compare(field, how, value):
            column = _column(field)
            if value is None:
                return f"{column} IS {'NOT ' if how == '<>' else ''}NULL"
            compared = f"{column} {how} {_mark(tx, collection, field, value, given)}"
            return f"({column} IS NULL OR {compared})" if how == "<>" else compared
        case OneOf(field, values):
            return _one_of(tx, collection, field, values, given)
        case Every(parts) | Some(parts):
            word, empty = (" AND ", "1 = 1") if isinstance(condition, Every) else (" OR ", "1 = 0")
            return word.join(f"({_condition(tx, collection, part, given)})" for part in parts) or empty
        # a comparison with NULL is neither true nor false: it counts as false, so its opposite is true
        case Not(part):
            return f"CASE WHEN {_condition(tx, collection, part, given)} THEN 0 ELSE 1 END = 1"


def _one_of(tx: Transaction, collection: str, field: str, values: tuple[Value, ...], given: _Given) -> str:
    marks = [_mark(tx, collection, field, value, given) for value in values if value is not None]
    found = [f"{_column(field)} IN ({', '.join(marks)})"] if marks else []
    if None in values:
        found.append(f"{_column(field)} IS NULL")
    return f"({' OR '.join(found)})" if found else "1 = 0"


def _mark(tx: Transaction, collection: str, field: str, value: Value, given: _Given) -> str:
    mark = given.add(value)
    return tx.as_time(mark) if FIELDS[collection][field] == "time" else mark


def _column(field: str) -> str:
    return _NAMED_OTHERWISE.get(field, field)


def _sorted_by(field: str, falls: bool) -> str:
    """MongoDB's order: null before everything.  Written only for columns that may be null; otherwise no index would be
    used."""
    nulls = (" NULLS LAST" if falls else " NULLS FIRST") if field in _MAY_BE_NULL else ""
    return f"{_column(field)} {'DESC' if falls else 'ASC'}{nulls}"


def _table(collection: str) -> str:
    return {"task_queue": "task_queue", "works": "works"}[collection]
