"""The dispatcher's transaction: ripen, pick in fair order, mark; the hints to send come out.

Marks are committed before anything is sent, so no transaction waits for the broker; a crash in between loses
a hint, and a hint that nobody has claimed is sent again with the same number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from config.settings import Settings
from supervisor.database import Transaction
from supervisor.fair_order import Place, Waiting, pick

RESEND_SECONDS = 10
POLLS_A_ROUND = 1000
_FIRST_CHUNK, _LARGEST_CHUNK = 64, 2048
_ABOVE_ALL = 11  # no priority is
_READY = "status = 'pending' AND ready = 1 AND dispatched_at IS NULL"
_UNLIMITED = 1 << 30


@dataclasses.dataclass(frozen=True)
class Hint:
    """What the broker carries: where to look, and the number of the dispatch."""

    task_id: str
    dispatch: int
    type: str


def free_slots(tx: Transaction) -> int:
    """Slots of live workers, less what they hold or report busy, less what was dispatched and not claimed."""
    row = tx.one(
        """SELECT coalesce(sum(max(0, slots - max(busy, held))), 0) AS free FROM
            (SELECT worker.slots, worker.busy, (SELECT count(*) FROM task_queue WHERE task_queue.worker_id = worker.id
                AND status IN ('processing','ai_processing')) AS held
             FROM worker WHERE worker.state = 'live')"""
    )
    underway = tx.value(
        # The first condition names the partial index, which the planner does not see to be implied by the second.
        """SELECT count(*) FROM task_queue WHERE status IN ('pending','ai_processing')
            AND status = 'pending' AND dispatched_at IS NOT NULL"""
    )
    assert row is not None
    return int(row["free"]) - int(underway)


def ripen(tx: Transaction) -> int:
    """Make admitted tasks ready whose time has come."""
    return tx.run(
        f"""UPDATE task_queue SET ready = 1 WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge
            AND (run_after IS NULL OR run_after <= {tx.now})"""
    )


def pick_and_mark(tx: Transaction, settings: Settings) -> list[Hint]:
    """Dispatch as many due tasks as there are free slots, in fair order."""
    free = free_slots(tx)
    if free <= 0:
        return []
    lane = _SuspectLane(tx)
    chosen = list(
        pick(
            [_heads(tx, type_, lane) for type_ in settings.tasks],
            free,
            room_of_user=lambda user: _room_of_user(tx, settings, user),
            room_of_type=lambda type_: _room_of_type(tx, settings, type_),
        )
    )
    return [_mark(tx, waiting) for waiting in chosen]


def overdue_hints(tx: Transaction) -> list[Hint]:
    """Hints that nobody has claimed for RESEND_SECONDS; they go out again under the same number."""
    rows = tx.all(
        f"""UPDATE task_queue SET dispatched_at = {tx.now}
            WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL
              AND dispatched_at <= {tx.in_seconds}
            RETURNING id, dispatch, type""",
        -RESEND_SECONDS,
    )
    return [Hint(row["id"], row["dispatch"], row["type"]) for row in rows]


def due_polls(tx: Transaction) -> list[Hint]:
    """Waiting remote jobs whose poll time has come, marked as dispatched."""
    rows = tx.all(
        f"""UPDATE task_queue SET dispatched_at = {tx.now} WHERE id IN
            (SELECT id FROM task_queue WHERE status = 'ai_processing' AND next_poll_at <= {tx.now}
             AND dispatched_at IS NULL ORDER BY next_poll_at LIMIT ?)
            RETURNING id, dispatch, type""",
        POLLS_A_ROUND,
    )
    return [Hint(row["id"], row["dispatch"], row["type"]) for row in rows]


def unmark(tx: Transaction, hints: list[Hint]) -> None:
    """Take marks back whose sending certainly failed, unless they were claimed all the same."""
    for hint in hints:
        tx.execute(
            """UPDATE task_queue SET dispatched_at = NULL
                WHERE id = ? AND dispatch = ? AND status IN ('pending','ai_processing')
                  AND dispatched_at IS NOT NULL""",
            hint.task_id, hint.dispatch,
        )  # fmt: skip


def seconds_to_next_due(tx: Transaction) -> float | None:
    """Until something becomes due by time alone: a run_after, a poll, a hint to send again; None for nothing."""
    soonest = tx.value(
        f"""SELECT min(due) FROM (
            SELECT min(run_after) AS due FROM task_queue
                WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge
            UNION ALL SELECT min(next_poll_at) FROM task_queue WHERE status = 'ai_processing' AND dispatched_at IS NULL
            UNION ALL SELECT strftime('%Y-%m-%dT%H:%M:%fZ', min(dispatched_at), '{RESEND_SECONDS} seconds')
                FROM task_queue WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL)"""
    )
    if soonest is None:
        return None
    # Days as a float are exact to a twentieth of a millisecond.
    return max(
        0.0, round(float(tx.value(f"SELECT (julianday(?) - julianday({tx.now})) * 86400.0", soonest)), 3)
    )


class _SuspectLane:
    """Of the tasks under which workers have died MAX_ATTEMPTS times, half of what is allowed, one runs at a time.

    Poison takes its neighbours with it, and counts alone do not tell them apart: those that merely ran beside it
    would use up their deaths together with it and be failed for nothing.  Run one by one, only poison goes on dying.
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._is_free: bool | None = None  # asked only when a suspect waits, which is rare

    def take(self) -> bool:
        """Whether this suspect may run now; the next one of this pick may not."""
        free = self._is_free if self._is_free is not None else not self._is_taken()
        self._is_free = False
        return free

    def _is_taken(self) -> bool:
        # The first condition of each names the partial index, which the planner does not see to be implied.
        return bool(
            self._tx.value(
                """SELECT EXISTS (SELECT 1 FROM task_queue WHERE status IN ('processing','ai_processing')
                        AND worker_id IS NOT NULL AND status = 'processing' AND deaths >= max_attempts)
                    OR EXISTS (SELECT 1 FROM task_queue WHERE status IN ('pending','ai_processing')
                        AND dispatched_at IS NOT NULL AND status = 'pending' AND deaths >= max_attempts)"""
            )
        )


def _heads(tx: Transaction, type_: str, lane: _SuspectLane) -> Iterator[Waiting]:
    """A type's ready tasks in order, from the pick's index: one priority after the other, a chunk at a time."""
    priority = _highest_priority(tx, type_, below=_ABOVE_ALL)
    while priority is not None:
        after: tuple[Any, ...] = (-1, "", "")
        chunk = _FIRST_CHUNK
        while True:
            rows = tx.all(
                f"""SELECT id, user_openid, turn, created_at, deaths >= max_attempts AS is_suspect FROM task_queue
                    WHERE {_READY} AND type = ? AND priority = ? AND (turn, created_at, id) > (?, ?, ?)
                    ORDER BY turn, created_at, id LIMIT ?""",
                type_, priority, *after, chunk,
            )  # fmt: skip
            for row in rows:
                if row["is_suspect"] and not lane.take():
                    continue
                place = Place(-priority, row["turn"], row["created_at"], row["id"])
                yield Waiting(place, row["user_openid"], type_)
            if len(rows) < chunk:
                break
            after = (rows[-1]["turn"], rows[-1]["created_at"], rows[-1]["id"])
            chunk = min(2 * chunk, _LARGEST_CHUNK)
        priority = _highest_priority(tx, type_, below=priority)


def _highest_priority(tx: Transaction, type_: str, *, below: int) -> int | None:
    """The next lower priority at which the type has ready tasks."""
    found: int | None = tx.value(
        f"SELECT max(priority) FROM task_queue WHERE {_READY} AND type = ? AND priority < ?", type_, below
    )
    return found


def _room_of_user(tx: Transaction, settings: Settings, user: str) -> int:
    limit = settings.limits.running_tasks_per_user
    if not limit:
        return _UNLIMITED
    running = tx.value(
        """SELECT count(*) FROM task_queue WHERE user_openid = ?
            AND status IN ('pending','processing','ai_processing')
            AND (status <> 'pending' OR dispatched_at IS NOT NULL)""",
        user,
    )
    return int(limit - running)


def _room_of_type(tx: Transaction, settings: Settings, type_: str) -> int:
    limit = settings.tasks[type_].max_running
    if not limit:
        return _UNLIMITED
    running = tx.value(
        """SELECT count(*) FROM task_queue WHERE type = ?
            AND status IN ('pending','processing','ai_processing')
            AND (status <> 'pending' OR dispatched_at IS NOT NULL)""",
        type_,
    )
    return int(limit - running)


def _mark(tx: Transaction, waiting: Waiting) -> Hint:
    """Mark one task dispatched and move its priority's clock to the turn it took."""
    tx.execute(
        """INSERT INTO fair_clock (priority, turn) VALUES (?, ?)
            ON CONFLICT (priority) DO UPDATE SET turn = excluded.turn WHERE excluded.turn > fair_clock.turn""",
        -waiting.place.negated_priority, waiting.place.turn,
    )  # fmt: skip
    dispatch = tx.value(
        f"UPDATE task_queue SET dispatched_at = {tx.now} WHERE id = ? RETURNING dispatch",
        waiting.place.task_id,
    )
    return Hint(waiting.place.task_id, dispatch, waiting.type)
