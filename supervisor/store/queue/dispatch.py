"""The dispatcher's transaction: ripen, pick in fair order, and claim the picked tasks for workers with free slots.

The pick is the claim: lease, attempt, worker and deadline are committed before the claim is sent.  No transaction waits
for the broker.  If a message was lost or its sender died, the worker's next heartbeats find the claim; a claim that
stays in a list is taken back (`remote_wait.take_back`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from config.settings import Settings
from supervisor.core.fair_order import Waiting, pick
from supervisor.core.rescue import suspects_at_once
from supervisor.database.interface.database import Pending, Row, Transaction
from supervisor.schema.tables import BETWEEN_STEPS, HELD, OPEN, RUNNING, UNRIPE
from supervisor.steps.lanes import attempt_seconds
from supervisor.store.counters import counters
from supervisor.store.counters.counters import Observation
from supervisor.store.queue import ready_tasks
from supervisor.store.queue.capacity import Capacity
from supervisor.store.sql.row_isolation import Aside, done_apart
from supervisor.store.sql.rows import encoded
from supervisor.store.tasks import admission, claims
from supervisor.store.tasks.admission import Admitted
from supervisor.store.tasks.claims import Wanted

_UNLIMITED = 1 << 30
AGAIN_SECONDS = 0.05  # after a pick that made tasks ready for the next one


class Picked:
    """The result of a pick.  The claims are sent to a server together with the commit, so they are best read after it.

    leases: of the tasks that were picked, {id: the lease of its claim}, in fair order.  planned: how many others were
    made ready for the next pick.
    """

    def __init__(
        self, leases: Mapping[str, int] | None = None, found: Pending[list[Row]] | None = None
    ) -> None:
        self.leases, self.planned = leases or {}, 0
        self._found = found

    @functools.cached_property
    def claims(self) -> list[Row]:
        """Rows of `claims.claim_for` in fair order.  Raises DatabaseError if the answer to the commit was lost."""
        return self._in_order(self._found.get()) if self._found is not None else []

    def read_again(self, tx: Transaction) -> None:
        """Read the claims from their rows after a commit without an answer."""
        self.claims = self._in_order(claims.claimed_again(tx, self.leases))

    @property
    def held_up(self) -> list[str]:
        """The picked tasks that could not be claimed: another transaction has locked them or their accounts, or they or
        their workers have ended meanwhile."""
        claimed = {row["id"] for row in self.claims}
        return [task_id for task_id in self.leases if task_id not in claimed]

    @property
    def left(self) -> int:
        """The number of picked tasks that could not be claimed now, and of those that are ready for the next pick."""
        return len(self.leases) - len(self.claims) + self.planned

    def _in_order(self, rows: Iterable[Row]) -> list[Row]:
        found = {row["id"]: row for row in rows}
        return [found[task_id] for task_id in self.leases if task_id in found]


def ripen(tx: Transaction, aside: Aside | None = None) -> int:
    """Make admitted tasks ready when their time has come, except rows that other transactions have locked; how many.

    In one statement; where care is asked for they are found first, and changed apart.  aside: rows that are left alone,
    as everywhere here.
    """
    aside = aside or Aside()
    others, left_alone = aside.others(tx, "id")
    due = f"""SELECT id FROM task_queue WHERE {UNRIPE}
        AND (run_after IS NULL OR run_after <= {tx.now}) AND {others}{tx.for_update_of_free("task_queue")}"""
    if not aside.is_careful:
        return tx.run(f"UPDATE task_queue SET ready = 1 WHERE id IN ({due})", **left_alone)

    def change(ids: Sequence[str]) -> list[Row]:
        return tx.all(
            f"UPDATE task_queue SET ready = 1 WHERE {tx.is_one_of('id', ':ids')} RETURNING id",
            ids=encoded(list(ids)),
        )

    ids = [row["id"] for row in tx.all(due, **left_alone)]
    return len(done_apart(tx, "task_queue", ids, change, aside))


def pick_and_claim(
    tx: Transaction,
    settings: Settings,
    capacity: Capacity | None = None,
    aside: Aside | None = None,
    *,
    shunned: Collection[str] = (),
    admitted: Admitted | None = None,
    held_up: Collection[str] = (),
    late_within_seconds: float = math.inf,
) -> Picked:
    """Claim as many due tasks as workers have room for, in fair order.

    capacity: if it was queried already.  shunned: ids of workers that get no claims.  admitted: tasks that the capacity
    does not show.  held_up: ids of tasks that others have locked; they take no slot.  late_within_seconds: since the
    last pick.  A task that was due then and left out had no slot, or was above a limit; it did not wait for the
    dispatcher, so its lag is not observed.
    """
    capacity, admitted = capacity or Capacity(tx, settings), admitted or Admitted()
    new: dict[tuple[str, str], list[Waiting]] = {}
    for waiting in admitted.due:
        new.setdefault((waiting.type, waiting.lane), []).append(waiting)
    lines = {(line.type, line.lane): line for line in capacity.lines()}
    placement = capacity.placement([lane for _, lane in (*lines, *new)], shunned)
    if placement.is_full:
        return Picked()
    aside = aside or Aside()
    late = sorted({type_ for type_, lane in lines if not lane and settings.tasks[type_].steps})
    planned = sum(admission.plan_late(tx, settings, type_, aside) for type_ in late)
    lines = {(type_, lane): line for (type_, lane), line in lines.items() if lane or type_ not in late}
    room = {lane or type_: capacity.room_of_line(type_, lane) for type_, lane in (*lines, *new)}
    passing = {*aside.passing, *held_up, *(waiting.place.task_id for waiting in admitted.due)}
    users = _RoomOfUsers(tx, settings.limits.running_tasks_per_user)
    for running in (admitted.running, *(line.running for line in lines.values())):
        users.told(running)
    users.learn(waiting.user for waiting in admitted.due)
    chosen: list[tuple[Waiting, str]] = []
    for waiting, worker_id in pick(
        [
            *(
                ready_tasks.heads(tx, line, users.learn, users.full, passing)
                for (type_, lane), line in lines.items()
                if room[lane or type_] > 0
            ),
            *(sorted(several) for several in new.values()),
        ],
        placement,
        room_of_user=users.room,
        room_of_type=lambda type_: _room_of_type(tx, settings, type_),
        room_of_line=room.__getitem__,
        suspects=_SuspectLane(tx),
    ):
        chosen.append((waiting, worker_id))
        users.note(waiting)
    picked = _claim(tx, settings, chosen, aside, late_within_seconds, admitted.clocks)
    picked.planned = planned
    return picked


def seconds_to_next_due(tx: Transaction, *, polls: bool = True) -> Pending[float | None]:
    """Seconds until the next task becomes due by time alone: a run_after, a poll; None if nothing will.

    polls: whether polls could be sent now; if not, their times are ignored.
    """
    asked = tx.ask(
        f"""SELECT {tx.seconds_between(tx.now, "min(due)")} FROM (
            SELECT min(run_after) AS due FROM task_queue WHERE {UNRIPE}
            UNION ALL SELECT min(next_poll_at) FROM task_queue
                WHERE status = 'ai_processing' AND {"1 = 1" if polls else "1 = 0"}) AS soon"""
    )

    def answer() -> float | None:
        seconds = asked.value()
        # Days as a float are exact to a twentieth of a millisecond.
        return None if seconds is None else max(0.0, round(float(seconds), 3))

    return Pending(answer)


class _SuspectLane:
    """Tasks with MAX_ATTEMPTS deaths, half of what is allowed, are suspects; only some of them run at once.

    Poison kills the tasks beside it too, and the counts alone do not separate them: tasks that merely ran beside it
    would use up their deaths together with it and fail without reason.  So the fewer deaths a suspect has left, the
    fewer other suspects may run with it; with one left, it runs as the only suspect (`rescue.suspects_at_once`), and
    alone in its worker (`rescue.is_last_life`).
    """

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._running: int | None = None  # queried only when a suspect waits, which is rare
        self._room = 0

    def have_room(self, lives: int) -> bool:
        """Whether a suspect with so many deaths left may run now."""
        if self._running is None:
            self._running, fewest = self._under_way()
            self._room = suspects_at_once(fewest)
        return self._running < min(self._room, suspects_at_once(lives))

    def note(self, lives: int) -> None:
        """Count it as running: it is placed, and not merely next."""
        assert self._running is not None, "have_room comes first"
        self._running += 1
        self._room = min(self._room, suspects_at_once(lives))

    def _under_way(self) -> tuple[int, int]:
        """How many suspects run, and the smallest number of deaths that one of them has left."""
        row = self._tx.one(
            f"""SELECT count(*) AS suspects, coalesce(min(2 * max_attempts - deaths), :unlimited) AS fewest
                FROM task_queue
                WHERE {HELD} AND status = 'processing' AND deaths >= max_attempts""",
            unlimited=_UNLIMITED,
        )
        assert row is not None
        return int(row["suspects"]), int(row["fewest"])


class _RoomOfUsers:
    """How many more of a user's tasks may run, queried for all users of a chunk at once.  limit: 0 for none."""

    def __init__(self, tx: Transaction, limit: int) -> None:
        self._tx, self._limit = tx, limit
        self._running: dict[str, int] = {}

    def told(self, running: Mapping[str, int]) -> None:
        """How many tasks of these users run, if that was counted."""
        self._running |= running

    def learn(self, users: Iterable[str]) -> None:
        """Count these users' running tasks."""
        new = sorted(set(users) - set(self._running))
        if not self._limit or not new:
            return
        rows = self._tx.all(
            f"""SELECT who.value AS user_openid, (SELECT count(*)
                FROM task_queue{self._tx.by_index("task_queue_running")}
                WHERE user_openid = who.value AND {RUNNING}) AS running
            FROM {self._tx.texts(":new")} AS who""",
            new=encoded(new),
        )
        self._running |= {row["user_openid"]: row["running"] for row in rows}

    def room(self, user: str) -> int:
        """For a user that was counted; asked before any of theirs is picked."""
        return self._limit - self._running[user] if self._limit else _UNLIMITED

    def note(self, picked: Waiting) -> None:
        """Count a picked task."""
        if self._limit and not picked.is_under_way:
            self._running[picked.user] += 1

    def full(self) -> list[str]:
        """The counted users at their limit."""
        return (
            [user for user, running in self._running.items() if running >= self._limit] if self._limit else []
        )


def _room_of_type(tx: Transaction, settings: Settings, type_: str) -> int:
    limit = settings.tasks[type_].max_running
    return limit - running_of_type(tx, type_) if limit else _UNLIMITED


def running_of_type(tx: Transaction, type_: str) -> int:
    """The number of tasks of this type that count for MAX_RUNNING, those between two steps too."""
    running = tx.value(
        f"""SELECT (SELECT count(*) FROM task_queue WHERE {OPEN} AND status = 'processing' AND type = :type_)
            + (SELECT count(*) FROM task_queue WHERE {OPEN} AND status = 'ai_processing' AND type = :type_)
            + (SELECT count(*) FROM task_queue WHERE {BETWEEN_STEPS} AND type = :type_)""",
        type_=type_,
    )  # fmt: skip
    return int(running)


def _claim(
    tx: Transaction,
    settings: Settings,
    chosen: Sequence[tuple[Waiting, str]],
    aside: Aside,
    late_within_seconds: float,
    clocks: Mapping[int, int],
) -> Picked:
    """Claim tasks for the chosen workers, and move each priority's clock to the turn that was taken.

    A task that another transaction has locked, for example to cancel it, is left out and picked again if it still
    waits.  clocks: {priority: its clock}, as far as they were read already.
    """
    wanted = {
        waiting.place.task_id: Wanted(
            waiting.place.task_id, worker_id, attempt_seconds(settings, waiting.type, waiting.lane)
        )
        for waiting, worker_id in chosen
    }
    if not wanted:
        return Picked()

    def claim(ids: Sequence[str]) -> Pending[list[Row]]:
        return claims.claim_for(tx, [wanted[task_id] for task_id in ids])

    if aside.is_careful:
        done = done_apart(tx, "task_queue", list(wanted), lambda ids: claim(ids).get(), aside)
        found = Pending(lambda: done)
    else:
        found = claim(list(wanted))
    picked = [waiting for waiting, _ in chosen]
    _move_clocks(
        tx, [each for each in picked if each.place.turn > clocks.get(-each.place.negated_priority, -1)]
    )
    counters.observe_claims(tx, _observed(picked, late_within_seconds))
    return Picked({waiting.place.task_id: waiting.lease + 1 for waiting in picked}, found)


def _observed(
    picked: Iterable[Waiting], late_within_seconds: float
) -> Iterator[tuple[Observation, str, int]]:
    for waiting in picked:
        task_id, seconds = waiting.place.task_id, waiting.waited_seconds
        if waiting.is_new:
            observed = Observation("darkroom_task_wait_seconds", seconds, {"type": waiting.type})
            yield observed, task_id, waiting.lease + 1
        if seconds <= late_within_seconds:
            yield Observation("darkroom_dispatch_lag_seconds", seconds, {}), task_id, waiting.lease + 1


def _move_clocks(tx: Transaction, picked: Sequence[Waiting]) -> None:
    """Move the clocks to the turns of those that were claimed."""
    if not picked:
        return
    tx.send(
        f"""INSERT INTO fair_clock (priority, turn)
            SELECT priority, max(turn) FROM {tx.rows(":picked")} AS picked
                JOIN task_queue ON task_queue.id = value ->> 0 AND lease = CAST(value ->> 1 AS INTEGER)
            WHERE 1 = 1 GROUP BY priority
            ON CONFLICT (priority) DO UPDATE SET turn = excluded.turn WHERE excluded.turn > fair_clock.turn""",
        picked=encoded([(waiting.place.task_id, waiting.lease + 1) for waiting in picked]),
    )
