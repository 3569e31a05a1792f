"""One reading of the queue of waiting tasks, with the other data for estimates."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from config.settings import Settings
from supervisor.core.queue_position import HIGHEST_PRIORITY, WaitingOrder, place_in_sql, place_parts
from supervisor.database.interface.database import Transaction
from supervisor.schema.tables import READY
from supervisor.store.counters import open_task_counts
from supervisor.store.limits import pauses, providers
from supervisor.store.queue import liveness
from supervisor.store.queue.capacity import less_held
from supervisor.store.queue.ready_tasks import lines_with_ready_tasks
from supervisor.store.sql.conditions import seconds_of_steps

RECENT_RUNS = 20

# Rows read by one statement: a few milliseconds of the server's time, for a queue of any length.
CHUNK = 2000


def read_order(tx: Transaction, settings: Settings) -> WaitingOrder:
    """The waiting order from one snapshot, with the slots and run times for estimates."""
    alive = liveness.read(tx, settings.silent_seconds)
    lanes: dict[str, list[str]] = {}
    for type_, lane in lines_with_ready_tasks(tx).get():
        lanes.setdefault(type_, []).append(lane)
    places = {
        type_: list(heapq.merge(*(_line(tx, type_, lane) for lane in of_type)))
        for type_, of_type in lanes.items()
    }
    return WaitingOrder(
        places,
        open_task_counts.pending(tx),
        alive.rooms if alive.works else (),
        less_held(tx, alive.free_rooms, settings),
        settings.needs_of_types,
        {type_: recent_run_seconds(tx, type_) for type_ in settings.tasks},
        halted_types(tx, settings),
    )


def halted_types(tx: Transaction, settings: Settings) -> set[str]:
    """Types of which no task is started now: they are paused, or all of their providers are down or paused."""
    breakers, paused = providers.breakers(tx), pauses.by_kind(tx)
    down = {name for name, state in breakers.get().items() if state == "open"} | paused.get()[pauses.PROVIDER]
    halted = {type_ for type_, of in settings.tasks.items() if down.issuperset(of.all_providers)}
    return halted | paused.get()[pauses.TYPE]


def _line(tx: Transaction, type_: str, lane: str) -> Iterator[str]:
    """The places of a lane's ready tasks, in order."""
    for priority in _priorities_in_line(tx, type_, lane):
        yield from _places(tx, type_, lane, priority)


def _priorities_in_line(tx: Transaction, type_: str, lane: str) -> Iterator[int]:
    """The priorities at which the lane has ready tasks, the highest first."""
    below = HIGHEST_PRIORITY + 1
    while (
        priority := tx.value(
            f"""SELECT max(priority) FROM {_picked_from(tx)}
                WHERE {READY} AND type = :type_ AND lane = :lane AND priority < :below""",
            type_=type_, lane=lane, below=below,
        )
    ) is not None:  # fmt: skip
        yield priority
        below = priority


def _places(tx: Transaction, type_: str, lane: str, priority: int) -> Iterator[str]:
    """The places of a lane's ready tasks of one priority, in order, read a chunk at a time."""
    place = place_in_sql(tx.dialect.padded, tx.as_text("created_at"))
    after: dict[str, int | str] = {}
    while True:
        # A chunk comes as one row: a thread that fetches thousands of rows competes for the interpreter's lock at each
        # row.
        text: str | None = tx.value(
            f"""SELECT {tx.dialect.lines.format(texts="place")} FROM (SELECT {place} AS place
                FROM {_picked_from(tx)} WHERE {READY} AND type = :type_ AND lane = :lane AND priority = :priority
                {"AND (turn, created_at, id) > (:turn, :created_at, :id)" if after else ""}
                ORDER BY turn, created_at, id LIMIT :chunk) AS chunk""",
            type_=type_, lane=lane, priority=priority, chunk=CHUNK, **after,
        )  # fmt: skip
        if text is None:
            return
        places = text.split("\n")
        yield from places
        if len(places) < CHUNK:
            return
        after = dict(zip(("turn", "created_at", "id"), place_parts(places[-1]), strict=True))


def _picked_from(tx: Transaction) -> str:
    return "task_queue" + tx.by_index("task_queue_pick")


def recent_run_seconds(tx: Transaction, type_: str) -> list[float]:
    """Run times of the type's newest completed tasks, all their steps together, seconds."""
    rows = tx.all(
        f"""SELECT {tx.seconds_between("processing_started_at", "finished_at")} + {seconds_of_steps()} AS seconds
            FROM task_queue WHERE type = :type_ AND finished_at IS NOT NULL AND status = 'completed'
            ORDER BY finished_at DESC LIMIT :recent_runs""",
        type_=type_, recent_runs=RECENT_RUNS,
    )  # fmt: skip
    return [max(0.0, row["seconds"]) for row in rows if row["seconds"] is not None]
