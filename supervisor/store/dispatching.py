"""The dispatcher's transaction: ripen, pick in fair order, mark; the hints to send come out.

Marks are committed before anything is sent, so no transaction waits for the broker; a crash in between loses
a hint, and a hint that nobody has claimed is sent again with the same number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from config.settings import Settings
from supervisor.database import Asked, Row, Transaction
from supervisor.fair_order import Waiting, pick
from supervisor.rescue import suspects_at_once
from supervisor.store import heads
from supervisor.store.heads import READY
from supervisor.store.isolation import Aside, done_apart
from supervisor.store.outlook import Outlook
from supervisor.store.rows import encoded

RESEND_SECONDS = 10
POLLS_PER_WORKER = 200  # at once: a batch for each of its control threads
_UNLIMITED = 1 << 30


@dataclasses.dataclass(frozen=True)
class Hint:
    """What the broker carries: where to look, and the number of the dispatch.

    marked_at: when it was marked as sent, by which whoever sends it knows its own mark again.
    waited_seconds: how long a task had been due when it was picked.
    """

    task_id: str
    dispatch: int
    type: str
    is_poll: bool = False
    marked_at: str = dataclasses.field(default="", compare=False)
    waited_seconds: float = dataclasses.field(default=0.0, compare=False)


def waits_since(tx: Transaction) -> str:
    """SQL for when a pending task began to wait: submitted, put back or resubmitted, and not before its run_after."""
    put_there = "CASE WHEN attempt = 0 AND charge = 1 THEN created_at ELSE updated_at END"
    return tx.greatest(put_there, f"coalesce(run_after, {put_there})")


def ripen(tx: Transaction, aside: Aside | None = None) -> int:
    """Make admitted tasks ready whose time has come.  aside: rows that are left alone, as everywhere here."""
    return len(
        _changed(
            tx, "ready = 1",
            f"""status = 'pending' AND ready = 0 AND admitted_charge = charge
                AND (run_after IS NULL OR run_after <= {tx.now})""",
            aside=aside,
        )
    )  # fmt: skip


def pick_and_mark(
    tx: Transaction, settings: Settings, outlook: Outlook | None = None, aside: Aside | None = None
) -> list[Hint]:
    """Dispatch as many due tasks as there are free slots, in fair order.  outlook: if it was asked already."""
    outlook = outlook or Outlook(tx, settings)
    free = outlook.free_slots()
    if free <= 0:
        return []
    room = outlook.rooms()
    types = [type_ for type_ in outlook.types_with_ready_tasks() if room.get(type_, 1) > 0]
    lane, users = _SuspectLane(tx), _RoomOfUsers(tx, settings.limits.running_tasks_per_user)
    chosen = list(
        pick(
            [heads.heads(tx, type_, lane.take, users.learn) for type_ in types],
            free,
            room_of_user=users.room,
            room_of_type=lambda type_: min(_room_of_type(tx, settings, type_), room.get(type_, _UNLIMITED)),
        )
    )
    return _mark(tx, chosen, aside or Aside())


def overdue_hints(tx: Transaction, aside: Aside | None = None) -> list[Hint]:
    """Hints that nobody has claimed for RESEND_SECONDS; they go out again under the same number."""
    rows = _changed(
        tx, f"dispatched_at = {tx.now}",
        f"status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL AND dispatched_at <= {tx.in_seconds}",
        -RESEND_SECONDS, aside=aside,
    )  # fmt: skip
    return [
        Hint(row["id"], row["dispatch"], row["type"], row["status"] == "ai_processing", row["marked_at"])
        for row in rows
    ]


def _changed(
    tx: Transaction,
    change: str,
    where: str,
    *params: object,
    aside: Aside | None,
    order: str = "",
    most: int | None = None,
) -> list[Row]:
    """Tasks as they are after a change, which is made to all that are like `where` and that nobody else has locked.

    In one statement; where care is asked for they are found first, and changed apart.
    """
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    limit, at_most = ("", []) if most is None else ("LIMIT ?", [most])
    found = f"""SELECT id FROM task_queue WHERE {where} AND {others}
        {order} {limit}{tx.for_update_of_free("task_queue")}"""
    returning = f"RETURNING id, dispatch, type, status, {_marked_at(tx)}"
    if not aside.is_careful:
        return tx.all(
            f"UPDATE task_queue SET {change} WHERE id IN ({found}) {returning}",
            *params,
            *left_alone,
            *at_most,
        )

    def change_some(ids: Sequence[str]) -> list[Row]:
        return tx.all(
            f"UPDATE task_queue SET {change} WHERE id IN {tx.dialect.each_of} {returning}", encoded(list(ids))
        )

    ids = [row["id"] for row in tx.all(found, *params, *left_alone, *at_most)]
    return done_apart(tx, "task_queue", ids, change_some, aside)


def room_for_polls(tx: Transaction) -> int:
    """How many more polls the live workers take at once, so that no batch of them waits long at the broker."""
    underway = tx.value(
        # The first condition of each names the partial index, which the planner does not see to be implied.
        """SELECT (SELECT count(*) FROM task_queue WHERE status IN ('pending','ai_processing')
                AND dispatched_at IS NOT NULL AND status = 'ai_processing')
            + (SELECT count(*) FROM task_queue WHERE status IN ('processing','ai_processing')
                AND worker_id IS NOT NULL AND status = 'ai_processing')"""
    )
    live = tx.value("SELECT count(*) FROM worker WHERE state = 'live'")
    return max(0, int(live) * POLLS_PER_WORKER - int(underway))


def due_polls(tx: Transaction, most: int = POLLS_PER_WORKER, aside: Aside | None = None) -> list[Hint]:
    """Waiting remote jobs whose poll time has come, at most so many, marked as dispatched."""
    rows = _changed(
        tx, f"dispatched_at = {tx.now}",
        f"status = 'ai_processing' AND next_poll_at <= {tx.now} AND dispatched_at IS NULL",
        aside=aside, order="ORDER BY next_poll_at", most=most,
    )  # fmt: skip
    return [Hint(row["id"], row["dispatch"], row["type"], True, row["marked_at"]) for row in rows]


def unmark(tx: Transaction, hints: list[Hint]) -> None:
    """Take marks back whose sending certainly failed, unless they were claimed all the same.

    A mark that is newer is another dispatcher's, whose hint is on its way: taking that back would let one task too many
    run.
    """
    for hint in hints:
        tx.execute(
            f"""UPDATE task_queue SET dispatched_at = NULL
                WHERE id = ? AND dispatch = ? AND status IN ('pending','ai_processing')
                  AND {tx.as_text("dispatched_at")} = ?""",
            hint.task_id, hint.dispatch, hint.marked_at,
        )  # fmt: skip


def _marked_at(tx: Transaction) -> str:
    return f"{tx.as_text('dispatched_at')} AS marked_at"


def ask_next_due(tx: Transaction, *, polls: bool = True) -> Asked:
    """Ask what becomes due next by time alone: a run_after, a poll, a hint to send again.

    polls: whether polls could be sent; those that can't are not waited for."""
    resent = tx.shifted("min(dispatched_at)", str(RESEND_SECONDS))
    return tx.ask(
        f"""SELECT {tx.seconds_between(tx.now, "min(due)")} FROM (
            SELECT min(run_after) AS due FROM task_queue
                WHERE status = 'pending' AND ready = 0 AND admitted_charge = charge
            UNION ALL SELECT min(next_poll_at) FROM task_queue
                WHERE status = 'ai_processing' AND dispatched_at IS NULL AND {"1 = 1" if polls else "1 = 0"}
            UNION ALL SELECT {resent}
                FROM task_queue WHERE status IN ('pending','ai_processing') AND dispatched_at IS NOT NULL) AS soon"""
    )


def seconds_to_next_due(tx: Transaction, *, polls: bool = True, asked: Asked | None = None) -> float | None:
    """Until then; None for nothing.  asked: `ask_next_due`, if asked already."""
    seconds = (asked or ask_next_due(tx, polls=polls)).value()
    # Days as a float are exact to a twentieth of a millisecond.
    return None if seconds is None else max(0.0, round(float(seconds), 3))


class _SuspectLane:
    """Of the tasks under which workers have died MAX_ATTEMPTS times, half of what is allowed, only some run at once.

    Poison takes its neighbours with it, and counts alone do not tell them apart: those that merely ran beside it
    would use up their deaths together with it and be failed for nothing.  So the fewer lives a suspect has left, the
    fewer others may run with it, and with its last one it is the only suspect (`rescue.suspects_at_once`).
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._running: int | None = None  # asked only when a suspect waits, which is rare
        self._room = 0

    def take(self, lives: int) -> bool:
        """Whether a suspect with so many deaths left may run now; it counts as running from then on."""
        if self._running is None:
            self._running, fewest = self._under_way()
            self._room = suspects_at_once(fewest)
        room = min(self._room, suspects_at_once(lives))
        if self._running >= room:
            return False
        self._running, self._room = self._running + 1, room
        return True

    def _under_way(self) -> tuple[int, int]:
        """How many suspects run or are about to, and how many lives the one with the fewest has left."""
        # The first condition of each names the partial index, which the planner does not see to be implied.
        row = self._tx.one(
            """SELECT count(*) AS suspects, coalesce(min(lives), ?) AS fewest FROM (
                SELECT 2 * max_attempts - deaths AS lives FROM task_queue WHERE status IN ('processing','ai_processing')
                    AND worker_id IS NOT NULL AND status = 'processing' AND deaths >= max_attempts
                UNION ALL SELECT 2 * max_attempts - deaths FROM task_queue WHERE status IN ('pending','ai_processing')
                    AND dispatched_at IS NOT NULL AND status = 'pending' AND deaths >= max_attempts) AS under_way""",
            _UNLIMITED,
        )
        assert row is not None
        return int(row["suspects"]), int(row["fewest"])


class _RoomOfUsers:
    """How many more of a user's tasks may run; asked for all users of a chunk in one go.  limit: 0 for none."""

    def __init__(self, tx: Transaction, limit: int) -> None:
        self._tx, self._limit = tx, limit
        self._running: dict[str, int] = {}

    def learn(self, users: Iterable[str]) -> None:
        """Count what these users run."""
        new = sorted(set(users) - set(self._running))
        if not self._limit or not new:
            return
        rows = self._tx.all(
            f"""SELECT who.value AS user_openid, (SELECT count(*) FROM task_queue WHERE user_openid = who.value
                AND status IN ('pending','processing','ai_processing')
                AND (status <> 'pending' OR dispatched_at IS NOT NULL)) AS running
            FROM {self._tx.dialect.each_of} AS who""",
            encoded(new),
        )
        self._running |= {row["user_openid"]: row["running"] for row in rows}

    def room(self, user: str) -> int:
        """Of a user who was learnt of."""
        return self._limit - self._running[user] if self._limit else _UNLIMITED


def _room_of_type(tx: Transaction, settings: Settings, type_: str) -> int:
    limit = settings.tasks[type_].max_running
    return limit - running_of_type(tx, type_) if limit else _UNLIMITED


def running_of_type(tx: Transaction, type_: str) -> int:
    """Tasks of this type that count against MAX_RUNNING."""
    is_open = "status IN ('pending','processing','ai_processing')"
    # `type || ''`: what is dispatched is little, whatever its type; all of a type's pending tasks are many.
    running = tx.value(
        f"""SELECT (SELECT count(*) FROM task_queue WHERE {is_open} AND status = 'processing' AND type = ?)
            + (SELECT count(*) FROM task_queue WHERE {is_open} AND status = 'ai_processing' AND type = ?)
            + (SELECT count(*) FROM task_queue WHERE status IN ('pending','ai_processing')
               AND dispatched_at IS NOT NULL AND status = 'pending' AND type || '' = ?)""",
        type_, type_, type_,
    )  # fmt: skip
    return int(running)


def _mark(tx: Transaction, chosen: list[Waiting], aside: Aside) -> list[Hint]:
    """Mark tasks dispatched and move each priority's clock to the turn that was taken; the hints, in order.

    One that somebody else has locked, to cancel it for instance, is left out and picked again if it still waits.
    """
    if not chosen:
        return []

    def mark(ids: Sequence[str]) -> list[Row]:
        return tx.all(
            f"""UPDATE task_queue SET dispatched_at = {tx.moment} WHERE id IN
                (SELECT id FROM task_queue WHERE {READY} AND id IN {tx.dialect.each_of}
                 {tx.for_update_of_free("task_queue")})
                RETURNING id, dispatch, {_marked_at(tx)},
                    {tx.seconds_between(waits_since(tx), tx.moment)} AS waited""",
            encoded(list(ids)),
        )

    ids = [waiting.place.task_id for waiting in chosen if waiting.place.task_id not in aside.passing]
    rows = done_apart(tx, "task_queue", ids, mark, aside)
    found = {row["id"]: row for row in rows}
    marked = [waiting for waiting in chosen if waiting.place.task_id in found]
    turns: dict[int, int] = {}
    for waiting in marked:
        priority = -waiting.place.negated_priority
        turns[priority] = max(turns.get(priority, 0), waiting.place.turn)
    for priority, turn in turns.items():
        tx.send(
            """INSERT INTO fair_clock (priority, turn) VALUES (?, ?)
                ON CONFLICT (priority) DO UPDATE SET turn = excluded.turn WHERE excluded.turn > fair_clock.turn""",
            priority, turn,
        )  # fmt: skip
    return [
        Hint(
            row["id"],
            row["dispatch"],
            each.type,
            marked_at=row["marked_at"],
            waited_seconds=max(0.0, float(row["waited"])),
        )
        for each in marked
        if (row := found[each.place.task_id])
    ]
