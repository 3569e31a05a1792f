"""The SQL of a filter of tasks (`supervisor/selection/task_filter.py`), on either database."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from supervisor.database.interface.database import Row, Transaction
from supervisor.schema.tables import OPEN
from supervisor.selection.task_filter import TaskFilter
from supervisor.store.retention.ageing import types_of_finished_tasks
from supervisor.store.sql.rows import decoded, encoded

_SHOWN = "id AS task_id, user_openid, type, status, error, attempt, created_at, finished_at"

View = dict[str, Any]


def matching(tx: Transaction, settings: Settings, wanted: TaskFilter) -> tuple[str, dict[str, Any]]:
    """The condition that a row of `task_queue` meets the filter, and its parameters."""
    time = "finished_at" if wanted.is_of_ended else "created_at"
    parts = [tx.is_one_of("status", ":statuses")]
    given: dict[str, Any] = {"statuses": encoded(wanted.statuses)}
    for name, condition, value in (
        ("type", "type = :type", wanted.type),
        ("user", "user_openid = :user", wanted.user),
        ("code", "error ->> 'code' = :code", wanted.code),
        ("since", f"{time} >= {tx.as_time(':since')}", wanted.since),
        ("until", f"{time} <= {tx.as_time(':until')}", wanted.until),
    ):
        if value is not None:
            parts.append(condition)
            given[name] = value
    if wanted.provider is not None:
        # one that asked no service yet counts for the first service of its type
        first = encoded(sorted(name for name, of in settings.tasks.items() if of.provider == wanted.provider))
        asked = "EXISTS (SELECT 1 FROM remote_job WHERE remote_job.task_id = task_queue.id"
        parts.append(
            f"({asked} AND remote_job.provider = :provider) OR ({tx.is_one_of('type', ':first_of')} AND NOT {asked})))"
        )
        given |= {"provider": wanted.provider, "first_of": first}
    if wanted.text is not None:
        said = "lower({row}error ->> '{member}') LIKE lower(:words) ESCAPE '~'"
        of_task = said.format(row="", member="message")
        of_steps = " OR ".join(
            said.format(row="task_event.", member=member) for member in ("message", "detail")
        )
        parts.append(
            f"({of_task} OR EXISTS (SELECT 1 FROM task_event WHERE task_event.task_id = task_queue.id"
            f" AND ({of_steps})))"
        )
        given["words"] = f"%{_plain(wanted.text)}%"
    return " AND ".join(f"({part})" for part in parts), given


def _plain(text: str) -> str:
    for each in ("~", "%", "_"):
        text = text.replace(each, f"~{each}")
    return text


def count(tx: Transaction, settings: Settings, wanted: TaskFilter, credits: str = "0") -> tuple[int, int]:
    """(how many tasks match, the sum of some SQL over them, 0 for none)."""
    where, given = matching(tx, settings, wanted)
    row = tx.one(
        f"""SELECT count(*) AS n, coalesce(sum({credits}), 0) AS credits FROM task_queue
            WHERE {_index_of(wanted)} AND {where}""",
        **given,
    )
    assert row is not None
    return int(row["n"]), int(row["credits"])


def page(
    tx: Transaction, settings: Settings, wanted: TaskFilter, place: View | None, most: int
) -> list[tuple[str, View]]:
    """The next matching tasks after a place, each (id, its own place); none at the end.

    A place only moves forward, so no task is met twice.  Ended tasks are walked along the index of each type's ends.
    """
    where, given = matching(tx, settings, wanted)
    if not wanted.is_of_ended:
        rows = tx.all(
            f"""SELECT id FROM task_queue{tx.by_index("task_queue_open")}
                WHERE {OPEN} AND id > :last AND {where} ORDER BY id LIMIT :most""",
            **given, last=place["id"] if place else "", most=most,
        )  # fmt: skip
        return [(row["id"], {"id": row["id"]}) for row in rows]
    found: list[tuple[str, View]] = []
    for type_ in [wanted.type] if wanted.type is not None else types_of_finished_tasks(tx):
        if place is not None and type_ < place["type"]:
            continue
        begun = place if place is not None and type_ == place["type"] else None
        beyond = f"(finished_at, id) > ({tx.as_time(':at')}, :last)" if begun else "1 = 1"
        rows = tx.all(
            f"""SELECT id, {tx.as_text("finished_at")} AS at FROM task_queue
                WHERE finished_at IS NOT NULL AND type = :of_type AND {beyond} AND {where}
                ORDER BY finished_at, id LIMIT :most""",
            **given, **({"at": begun["at"], "last": begun["id"]} if begun else {}),
            of_type=type_, most=most - len(found),
        )  # fmt: skip
        found += [(row["id"], {"type": type_, "at": row["at"], "id": row["id"]}) for row in rows]
        if len(found) >= most:
            break
    return found


def newest(tx: Transaction, settings: Settings, wanted: TaskFilter, most: int) -> list[View]:
    """The matching tasks that ended, or were ordered, last; the newest first."""
    where, given = matching(tx, settings, wanted)
    time = "finished_at" if wanted.is_of_ended else "created_at"
    rows = tx.all(
        f"""SELECT {_SHOWN} FROM task_queue WHERE {_index_of(wanted)} AND {where}
            ORDER BY {time} DESC, id DESC LIMIT :most""",
        **given, most=most,
    )  # fmt: skip
    return [_shown(row) for row in rows]


def _index_of(wanted: TaskFilter) -> str:
    """The condition of the partial index that serves the filter, word for word."""
    return "finished_at IS NOT NULL" if wanted.is_of_ended else OPEN


def _shown(row: Row) -> View:
    return {**row, "error": decoded(row["error"])}
