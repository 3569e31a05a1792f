"""The line of waiting tasks as one reading, and what estimates need beside it."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings
from supervisor.core.queue_position import HIGHEST_PRIORITY, WaitingOrder, place_parts
from supervisor.database.interface.database import Transaction
from supervisor.store.counters import open_task_counts
from supervisor.store.limits import pauses, providers
from supervisor.store.queue import last_signs
from supervisor.store.sql.conditions import READY

RECENT_RUNS = 20

# What one statement reads: a few milliseconds of the server's time, however long the line is.
CHUNK = 2000

# A chunk is one row: a Python thread that fetches thousands of them fights for the interpreter's lock at each.
_CHUNK = {
    "sqlite": ("group_concat", "printf('%02d%012d%s%s', 10 - priority, turn, created_at, id)"),
    "postgresql": (
        "string_agg",
        """lpad((10 - priority)::text, 2, '0') || lpad(turn::text, 12, '0')
            || to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || id""",
    ),
}
_LINE_FEED = {"sqlite": "char(10)", "postgresql": "chr(10)"}


def read_order(tx: Transaction, settings: Settings) -> WaitingOrder:
    """The waiting order from one snapshot, with the slots and run times that estimates are made of."""
    alive = last_signs.read(tx, settings.silent_seconds)
    places = [
        place
        for type_ in _types_in_line(tx)
        for priority in _priorities_in_line(tx, type_)
        for place in _line(tx, type_, priority)
    ]
    places.sort()  # quick: each type and priority is in order already
    return WaitingOrder(
        places,
        open_task_counts.pending(tx),
        alive.slots if alive.works else 0,
        sum(each.busy for each in alive.taking),
        {type_: recent_run_seconds(tx, type_) for type_ in settings.tasks},
        halted_types(tx, settings),
    )


def halted_types(tx: Transaction, settings: Settings) -> set[str]:
    """Types of which nothing is started now: they are paused, or all of their providers are down or paused."""
    breakers = providers.breakers(tx)
    down = {name for name, state in breakers.items() if state == "open"} | pauses.names(tx, pauses.PROVIDER)
    halted = {type_ for type_, of in settings.tasks.items() if down.issuperset(of.all_providers)}
    return halted | pauses.names(tx, pauses.TYPE)


def _types_in_line(tx: Transaction) -> Iterator[str]:
    """Those that have ready tasks, each found by one step along the index."""
    after = ""
    while (
        type_ := tx.value(f"SELECT min(type) FROM {_picked_from(tx)} WHERE {READY} AND type > ?", after)
    ) is not None:
        yield type_
        after = type_


def _priorities_in_line(tx: Transaction, type_: str) -> Iterator[int]:
    """Those at which the type has ready tasks, the highest first."""
    below = HIGHEST_PRIORITY + 1
    while (
        priority := tx.value(
            f"SELECT max(priority) FROM {_picked_from(tx)} WHERE {READY} AND type = ? AND priority < ?",
            type_, below,
        )
    ) is not None:  # fmt: skip
        yield priority
        below = priority


def _line(tx: Transaction, type_: str, priority: int) -> Iterator[str]:
    """The places of a type's ready tasks of one priority, in order, read a chunk at a time."""
    together, place = _CHUNK[tx.dialect.name]
    after: tuple[int | str, ...] = ()
    while True:
        text: str | None = tx.value(
            f"""SELECT {together}(place, {_LINE_FEED[tx.dialect.name]}) FROM (SELECT {place} AS place
                FROM {_picked_from(tx)} WHERE {READY} AND type = ? AND priority = ?
                {"AND (turn, created_at, id) > (?, ?, ?)" if after else ""}
                ORDER BY turn, created_at, id LIMIT ?) AS chunk""",
            type_, priority, *after, CHUNK,
        )  # fmt: skip
        if text is None:
            return
        places = text.split("\n")
        yield from places
        if len(places) < CHUNK:
            return
        after = place_parts(places[-1])


def _picked_from(tx: Transaction) -> str:
    return "task_queue" + tx.by_index("task_queue_pick")


def recent_run_seconds(tx: Transaction, type_: str) -> list[float]:
    """Run times of the type's newest completed tasks, seconds."""
    rows = tx.all(
        f"""SELECT {tx.seconds_between("processing_started_at", "finished_at")} AS seconds
            FROM task_queue WHERE type = ? AND finished_at IS NOT NULL AND status = 'completed'
            ORDER BY finished_at DESC LIMIT ?""",
        type_, RECENT_RUNS,
    )  # fmt: skip
    return [max(0.0, row["seconds"]) for row in rows if row["seconds"] is not None]
