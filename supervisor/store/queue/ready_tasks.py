"""The ready tasks of each type and step, in the order in which they run; only those are read that the pick takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from supervisor.core.fair_order import Place, Waiting
from supervisor.core.rescue import is_last_life
from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.tables import READY, RUNNING
from supervisor.store.sql.conditions import waits_since
from supervisor.store.sql.rows import decoded, encoded

_FIRST_CHUNK, _LARGEST_CHUNK = 64, 2048


class Line(NamedTuple):
    """A type and lane with ready tasks.  head: the first chunk of them, if it was read together with the line; then
    running: {user: how many tasks of theirs run} for its users, if that was counted."""

    type: str
    lane: str
    head: list[Row] | None = None
    running: Mapping[str, int] = MappingProxyType({})


def ask_lines(tx: Transaction, *, counts_running: bool) -> Pending[list[Line]]:
    """The lines; on a server with their heads, which cost no further exchange then."""
    if not tx.dialect.has_many_writers:
        found = lines_with_ready_tasks(tx)
        return Pending(lambda: [Line(type_, lane) for type_, lane in found.get()])
    told = ", ".join(tx.as_text(column) if column == "created_at" else column for column in _COLUMNS)
    running = f"(SELECT count(*) FROM task_queue WHERE user_openid = who.user_openid AND {RUNNING})"
    of_users = f"(SELECT jsonb_object_agg(user_openid, {running}) FROM (SELECT DISTINCT user_openid FROM head) AS who)"
    asked = tx.ask(
        f"""{_lines(tx)}
        SELECT type, lane, heads.rows, heads.running FROM line, LATERAL (
            WITH head AS MATERIALIZED (SELECT {_columns(tx)} FROM task_queue
                WHERE {_due(tx)} AND type = line.type AND lane = line.lane
                ORDER BY priority DESC, turn, created_at, id LIMIT {_FIRST_CHUNK})
            SELECT jsonb_agg(jsonb_build_array({told})) AS rows, {of_users if counts_running else "NULL"} AS running
            FROM head) AS heads WHERE lane IS NOT NULL"""
    )

    def answer() -> list[Line]:
        return [
            Line(
                row["type"],
                row["lane"],
                [dict(zip(_COLUMNS, each, strict=True)) for each in decoded(row["rows"]) or ()],
                decoded(row["running"]) or {},
            )
            for row in asked.all()
        ]

    return Pending(answer)


def lines_with_ready_tasks(tx: Transaction) -> Pending[list[tuple[str, str]]]:
    """(type, lane) of all ready tasks, each found by one step along the pick's index, however many tasks there are."""
    asked = tx.ask(f"{_lines(tx)} SELECT type, lane FROM line WHERE lane IS NOT NULL")
    return Pending(lambda: [(row["type"], row["lane"]) for row in asked.all()])


def _lines(tx: Transaction) -> str:
    ready = f"FROM task_queue{tx.by_index('task_queue_pick')} WHERE {READY}"
    return f"""WITH RECURSIVE kind (type) AS (
            SELECT min(type) {ready}
            UNION ALL SELECT (SELECT min(type) {ready} AND task_queue.type > kind.type)
            FROM kind WHERE kind.type IS NOT NULL),
        line (type, lane) AS (
            SELECT kind.type, (SELECT min(lane) {ready} AND task_queue.type = kind.type)
            FROM kind WHERE kind.type IS NOT NULL
            UNION ALL
            SELECT line.type, (SELECT min(lane) {ready} AND task_queue.type = line.type AND task_queue.lane > line.lane)
            FROM line WHERE line.lane IS NOT NULL)"""


def heads(
    tx: Transaction,
    line: Line,
    learn_users: Callable[[Iterable[str]], None],
    full_users: Callable[[], Sequence[str]],
    passing: Collection[str] = (),
) -> Iterator[Waiting]:
    """The ready tasks of a line in order, from the pick's index, a chunk at a time: first a chunk over all
    priorities, which usually contains them all, then one priority after the other.

    learn_users: is called with the users of the next tasks.  full_users: those at their limit, of whom a further chunk
    holds only tasks that count as running: of a user with a long queue, the rest is not read.  passing: ids of tasks
    that are left out, and take no slot.
    """
    type_, lane, chunk = line.type, line.lane, _FIRST_CHUNK
    rows = line.head
    if rows is None:
        rows = _chunk_of(tx, type_, lane, chunk, (), "ORDER BY priority DESC, turn, created_at, id")
    is_all = len(rows) < chunk
    while rows:
        learn_users(row["user_openid"] for row in rows)
        for row in rows:
            if row["id"] in passing:
                continue
            place = Place(-row["priority"], row["turn"], row["created_at"], row["id"])
            waited = max(0.0, float(row["waited"]))
            step, is_under_way = row["step"], bool(row["is_under_way"])
            lives = row["lives"]
            suspect_lives = lives if row["is_suspect"] else None
            yield Waiting(
                place,
                row["user_openid"],
                type_,
                waited,
                step,
                lane,
                is_under_way,
                is_last_life(lives),
                suspect_lives,
                row["lease"],
                not row["attempt"],
            )
        if is_all:
            return
        last = rows[-1]
        chunk = min(2 * chunk, _LARGEST_CHUNK)
        rows = _chunk_of(
            tx, type_, lane, chunk, full_users(),
            """AND priority = :priority AND (turn, created_at, id) > (:turn, :created_at, :id)
                ORDER BY turn, created_at, id""",
            **{name: last[name] for name in ("priority", "turn", "created_at", "id")},
        )  # fmt: skip
        if not rows:
            priority = _highest_priority(tx, type_, lane, below=last["priority"])
            rows = (
                _chunk_of(
                    tx,
                    type_,
                    lane,
                    chunk,
                    full_users(),
                    "AND priority = :priority ORDER BY turn, created_at, id",
                    priority=priority,
                )
                if priority is not None
                else []
            )


def _chunk_of(
    tx: Transaction,
    type_: str,
    lane: str,
    most: int,
    full_users: Sequence[str],
    where_and_order: str,
    **named: Any,
) -> list[Row]:
    others = ""
    if full_users:
        others = f"AND (step > first_step OR NOT {tx.is_one_of('user_openid', ':full_users')})"
        named["full_users"] = encoded(full_users)
    return tx.all(
        f"""SELECT {_columns(tx)} FROM task_queue WHERE {_due(tx)} AND type = :type_ AND lane = :lane {others}
            {where_and_order} LIMIT :most""",
        type_=type_, lane=lane, most=most, **named,
    )  # fmt: skip


_COLUMNS = (
    "id", "user_openid", "priority", "turn", "created_at", "is_suspect", "lives", "waited", "step", "is_under_way",
    "lease", "attempt",
)  # fmt: skip


def _columns(tx: Transaction) -> str:
    """SQL for `_COLUMNS`."""
    return f"""id, user_openid, priority, turn, created_at, deaths >= max_attempts AS is_suspect,
        2 * max_attempts - deaths AS lives, {tx.seconds_between(waits_since(tx), tx.moment)} AS waited,
        step, step > first_step AS is_under_way, lease, attempt"""


def _due(tx: Transaction) -> str:
    """The condition that a task may be picked now."""
    return f"{READY} AND (run_after IS NULL OR run_after <= {tx.now})"


def _highest_priority(tx: Transaction, type_: str, lane: str, *, below: int) -> int | None:
    """The next lower priority at which the lane has ready tasks."""
    found: int | None = tx.value(
        f"""SELECT max(priority) FROM task_queue
            WHERE {READY} AND type = :type_ AND lane = :lane AND priority < :below""",
        type_=type_,
        lane=lane,
        below=below,
    )
    return found
