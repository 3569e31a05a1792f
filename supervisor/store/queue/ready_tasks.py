"""The ready tasks of each type and step, in the order in which they run; only those are read that the pick takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from supervisor.core.fair_order import Place, Waiting
from supervisor.core.rescue import is_last_life
from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.tables import READY

# The condition of the index for the pick; no program marks a task as dispatched any more.
_FIRST_CHUNK, _LARGEST_CHUNK = 64, 2048


def waits_since(tx: Transaction) -> str:
    """SQL for the time when a pending task began to wait: when it was submitted, put back or resubmitted, or its
    run_after."""
    put_there = "CASE WHEN attempt = 0 AND charge = 1 THEN created_at ELSE updated_at END"
    return tx.greatest(put_there, f"coalesce(run_after, {put_there})")


def lines_with_ready_tasks(tx: Transaction) -> Pending[list[tuple[str, str]]]:
    """(type, lane) of all ready tasks, each found by one step along the pick's index, however many tasks there are."""
    ready = f"FROM task_queue{tx.by_index('task_queue_pick')} WHERE {READY}"
    asked = tx.ask(
        f"""WITH RECURSIVE kind (type) AS (
            SELECT min(type) {ready}
            UNION ALL SELECT (SELECT min(type) {ready} AND task_queue.type > kind.type)
            FROM kind WHERE kind.type IS NOT NULL),
        line (type, lane) AS (
            SELECT kind.type, (SELECT min(lane) {ready} AND task_queue.type = kind.type)
            FROM kind WHERE kind.type IS NOT NULL
            UNION ALL
            SELECT line.type, (SELECT min(lane) {ready} AND task_queue.type = line.type AND task_queue.lane > line.lane)
            FROM line WHERE line.lane IS NOT NULL)
        SELECT type, lane FROM line WHERE lane IS NOT NULL"""
    )
    return Pending(lambda: [(row["type"], row["lane"]) for row in asked.all()])


def heads(
    tx: Transaction,
    type_: str,
    lane: str,
    learn_users: Callable[[Iterable[str]], None],
    passing: Collection[str] = (),
) -> Iterator[Waiting]:
    """The ready tasks of a type and lane in order, from the pick's index, a chunk at a time: first a chunk over all
    priorities, which usually contains them all, then one priority after the other.

    learn_users: is called with the users of the next tasks.  passing: ids of tasks that are left out, and take no slot.
    """
    chunk = _FIRST_CHUNK
    rows = _chunk_of(tx, type_, lane, chunk, "ORDER BY priority DESC, turn, created_at, id")
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
            )
        if is_all:
            return
        last = rows[-1]
        chunk = min(2 * chunk, _LARGEST_CHUNK)
        rows = _chunk_of(
            tx, type_, lane, chunk,
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
                    "AND priority = :priority ORDER BY turn, created_at, id",
                    priority=priority,
                )
                if priority is not None
                else []
            )


def _chunk_of(
    tx: Transaction, type_: str, lane: str, most: int, where_and_order: str, **named: Any
) -> list[Row]:
    return tx.all(
        f"""SELECT id, user_openid, priority, turn, created_at, deaths >= max_attempts AS is_suspect,
                2 * max_attempts - deaths AS lives, {tx.seconds_between(waits_since(tx), tx.moment)} AS waited,
                step, step > first_step AS is_under_way
            FROM task_queue
            WHERE {READY} AND (run_after IS NULL OR run_after <= {tx.now}) AND type = :type_ AND lane = :lane
            {where_and_order} LIMIT :most""",
        type_=type_, lane=lane, most=most, **named,
    )  # fmt: skip


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
