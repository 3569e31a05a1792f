"""What the pick needs before it reads any task: the free room of each worker, how many more tasks of each type and step
may run, and the types and steps with ready tasks.  All queries are sent in one round trip."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from config.settings import Settings
from supervisor.core.placement import Needs, Placement, Room, room_of
from supervisor.database.interface.database import PendingResult, Row, Transaction
from supervisor.schema.tables import HELD
from supervisor.steps.lanes import read_lane
from supervisor.store.limits import pauses, providers
from supervisor.store.queue import ready_tasks
from supervisor.store.sql.rows import encoded


class Capacity:
    """The queries are sent when the object is made; each answer is read when it is needed."""

    def __init__(self, tx: Transaction, settings: Settings) -> None:
        self._tx = tx
        self._needs = settings.needs_of_types
        self._types = settings.tasks.keys()
        self._free = _ask_free_slots(tx)
        self._held = _ask_held(tx, list(self._needs)) if _has_needs(settings) else None
        self._paused = pauses.by_kind(tx)
        self._rooms = providers.rooms(tx, settings, self._paused)
        self._lines = ready_tasks.ask_lines(tx, counts_running=bool(settings.limits.running_tasks_per_user))

    def placement(self, lanes: Iterable[str], shunned: Collection[str] = ()) -> Placement:
        """The free room of the live workers, without shunned workers: slots, and offers that no running task holds.

        lanes: of the steps that are to be placed.
        """
        rows = [row for row in self._free.all() if row["free"] > 0 and row["id"] not in shunned]
        rooms = [room_of(row, row["free"], row["slots"] - row["free"]) for row in rows]
        whole = {room.worker_id: room.offers for room in rooms}
        needs = {lane: read_lane(lane).needs for lane in lanes if lane}
        if self._held is None and any(needs.values()):  # of steps that no setting names any more
            self._held = _ask_held(self._tx, [])
        held = self._held.all() if self._held is not None else []
        return Placement(_less_held(rooms, held, self._needs), {**self._needs, **needs}, whole)

    def room_of_line(self, type_: str, lane: str) -> int:
        """How many more tasks may run of a type, or at a step of it.

        Where the type is paused, or the providers are full or down, it is 0: a claim would only be put back.
        """
        return 0 if type_ in self._paused.get()[pauses.TYPE] else self._rooms.get()(type_, lane)

    def lines(self) -> list[ready_tasks.Line]:
        """The lines of ready tasks of types that the settings name."""
        return [line for line in self._lines.get() if line.type in self._types]


def takes_more(tx: Transaction, settings: Settings, type_: str, lane: str) -> bool:
    """Whether one more task of a type, or at a step of it, would be started now."""
    return Capacity(tx, settings).room_of_line(type_, lane) > 0


def less_held(tx: Transaction, rooms: Collection[Room], settings: Settings) -> list[Room]:
    """The rooms with what is free of their offers."""
    needs = settings.needs_of_types
    if not _has_needs(settings):
        return list(rooms)
    return _less_held(rooms, _ask_held(tx, list(needs)).all(), needs)


def _has_needs(settings: Settings) -> bool:
    """Whether a running task may hold offers; tasks keep the needs of steps that the settings have changed since."""
    return bool(settings.needs_of_types) or any(of.steps for of in settings.tasks.values())


def _less_held(rooms: Collection[Room], held: Collection[Row], needs: Needs) -> list[Room]:
    of_worker: dict[str, dict[str, int]] = {}
    for row in held:
        taken = of_worker.setdefault(row["worker_id"], {})
        need = read_lane(row["lane"]).needs if row["lane"] else needs[row["type"]]
        for name, amount in need.items():
            taken[name] = taken.get(name, 0) + amount * row["held"]
    return [room.without(of_worker.get(room.worker_id, {})) for room in rooms]


def _ask_held(tx: Transaction, types: list[str]) -> PendingResult:
    """Query how many running tasks of these types, and of types with steps, each worker holds."""
    return tx.ask(
        f"""SELECT worker_id, type, lane, count(*) AS held FROM task_queue
            WHERE {HELD} AND status = 'processing' AND (lane <> '' OR {tx.is_one_of("type", ":types")})
            GROUP BY worker_id, type, lane""",
        types=encoded(types),
    )


def _ask_free_slots(tx: Transaction) -> PendingResult:
    """A task with one life left (`rescue.is_last_life`) runs alone: it takes all slots of its worker."""
    return tx.ask(
        f"""SELECT id, offers, types, slots, slots - {tx.greatest("busy", "held")} AS free FROM
            (SELECT worker.id, worker.offers, worker.types, worker.slots, worker.busy, (SELECT
                CASE WHEN min(2 * max_attempts - deaths) <= 1 THEN worker.slots ELSE count(*) END FROM task_queue
                WHERE task_queue.worker_id = worker.id AND {HELD}
                AND status = 'processing') AS held
             FROM worker WHERE worker.state = 'live' AND worker.takes_claims = 1) AS present"""
    )
