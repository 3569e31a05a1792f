"""The ready tasks of each type, in the order in which they run; no more of them are read than the pick takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from supervisor.core.fair_order import Place, Waiting
from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.tables import READY
from supervisor.store.sql.rows import encoded

# The condition of the index for the pick; no program marks a task as dispatched any more.
_FIRST_CHUNK, _LARGEST_CHUNK = 64, 2048


def waits_since(tx: Transaction) -> str:
    """SQL for the time when a pending task began to wait: when it was submitted, put back or resubmitted, or its
    run_after."""
    put_there = "CASE WHEN attempt = 0 AND charge = 1 THEN created_at ELSE updated_at END"
    return tx.greatest(put_there, f"coalesce(run_after, {put_there})")


def types_with_ready_tasks(tx: Transaction, types: list[str]) -> Pending[list[str]]:
    """Those of some types that have ready tasks, in the given order; usually most of them have none."""
    asked = tx.ask(
        f"""SELECT type_.value, (SELECT max(priority) FROM task_queue WHERE {READY} AND type = type_.value) AS highest
            FROM {tx.texts(":types")} AS type_""",
        types=encoded(types),
    )

    def answer() -> list[str]:
        found = {row["value"] for row in asked.all() if row["highest"] is not None}
        return [type_ for type_ in types if type_ in found]

    return Pending(answer)


def heads(
    tx: Transaction,
    type_: str,
    take_suspect: Callable[[int], bool],
    learn_users: Callable[[Iterable[str]], None],
    passing: Collection[str] = (),
) -> Iterator[Waiting]:
    """A type's ready tasks in order, from the pick's index, a chunk at a time: first a chunk over all priorities, which
    usually contains them all, then one priority after the other.

    take_suspect: whether a suspect with so many deaths left may run now.  learn_users: is called with the users of the
    next tasks.  passing: ids of tasks that are left out, and take no slot.
    """
    chunk = _FIRST_CHUNK
    rows = _chunk_of(tx, type_, chunk, "ORDER BY priority DESC, turn, created_at, id")
    is_all = len(rows) < chunk
    while rows:
        learn_users(row["user_openid"] for row in rows)
        for row in rows:
            if row["id"] in passing:
                continue
            if row["is_suspect"] and not take_suspect(row["lives"]):
                continue
            place = Place(-row["priority"], row["turn"], row["created_at"], row["id"])
            yield Waiting(place, row["user_openid"], type_, max(0.0, float(row["waited"])))
        if is_all:
            return
        last = rows[-1]
        chunk = min(2 * chunk, _LARGEST_CHUNK)
        rows = _chunk_of(
            tx, type_, chunk,
            """AND priority = :priority AND (turn, created_at, id) > (:turn, :created_at, :id)
                ORDER BY turn, created_at, id""",
            **{name: last[name] for name in ("priority", "turn", "created_at", "id")},
        )  # fmt: skip
        if not rows:
            priority = _highest_priority(tx, type_, below=last["priority"])
            rows = (
                _chunk_of(
                    tx,
                    type_,
                    chunk,
                    "AND priority = :priority ORDER BY turn, created_at, id",
                    priority=priority,
                )
                if priority is not None
                else []
            )


def _chunk_of(tx: Transaction, type_: str, most: int, where_and_order: str, **named: Any) -> list[Row]:
    return tx.all(
        f"""SELECT id, user_openid, priority, turn, created_at, deaths >= max_attempts AS is_suspect,
                2 * max_attempts - deaths AS lives, {tx.seconds_between(waits_since(tx), tx.moment)} AS waited
            FROM task_queue
            WHERE {READY} AND (run_after IS NULL OR run_after <= {tx.now}) AND type = :type_ {where_and_order}
            LIMIT :most""",
        type_=type_, most=most, **named,
    )  # fmt: skip


def _highest_priority(tx: Transaction, type_: str, *, below: int) -> int | None:
    """The next lower priority at which the type has ready tasks."""
    found: int | None = tx.value(
        f"SELECT max(priority) FROM task_queue WHERE {READY} AND type = :type_ AND priority < :below",
        type_=type_,
        below=below,
    )
    return found
