"""The order of all waiting tasks as of one reading, in memory: a task's position is a bisection.  Pure.

Counting the rows ahead of a task in SQL reads every row of the queue at every submission and every request (18 ms at
100,000 rows).  One reading a second costs the same for any number of requests (CORRECTNESS 11).  A place is kept as
text that sorts as `priority DESC, turn, created_at, id`, which takes a third of the memory of a tuple.

Between two readings, the process adds the tasks that it has admitted itself and removes those that it has cancelled.
The next reading shows the changes of other processes: positions are exact only as of that reading.

Types with needs wait in queues of their own within that order (`supervisor.core.placement`).  Of another type's tasks
that come sooner, all run before a task if both need the same thing, or if the others could fill every slot that it
could use. Otherwise only as many count as run at once: the rest wait for offers that it does not need.
"""

from __future__ import annotations

import bisect
from collections.abc import Container, Mapping, Sequence
from typing import Any

from supervisor.core.eta import eta_seconds
from supervisor.core.placement import Needs, Room, at_once

HIGHEST_PRIORITY = 10


def place_key(priority: int, turn: int, created_at: str, task_id: str) -> str:
    """A task's place as text; smaller runs sooner."""
    return f"{HIGHEST_PRIORITY - priority:02d}{turn:012d}{created_at}{task_id}"


def place_in_sql(padded: str, created_at: str) -> str:
    """The same as a SQL expression of a task's row.

    padded: template of a {number} as text of so many {digits}.  created_at: SQL for it as text.
    """
    priority = padded.format(number=f"({HIGHEST_PRIORITY} - priority)", digits=2)
    return f"{priority} || {padded.format(number='turn', digits=12)} || {created_at} || id"


def place_parts(place: str) -> tuple[int, str, str]:
    """(turn, created_at, id) of a place."""
    return int(place[2:14]), place[14:38], place[38:]


class WaitingOrder:
    """One reading.  places: of each type, sorted; pending: the number of all pending tasks, also of those that may not
    run yet.  rooms: of workers that take tasks, none while no task is started; free: the free part of each.
    run_seconds: {type: run times of its newest completed tasks}.  halted: types of which no task is started now.
    """

    def __init__(
        self,
        places: dict[str, list[str]],
        pending: int,
        rooms: Sequence[Room] = (),
        free: Sequence[Room] = (),
        needs: Needs | None = None,
        run_seconds: Mapping[str, Sequence[float]] | None = None,
        halted: Container[str] = (),
    ) -> None:
        self._places = places
        self.pending = pending
        self._rooms, self._free, self._needs = rooms, free, needs or {}
        self._run_seconds, self._halted = run_seconds or {}, halted
        self._at_once: dict[str, int] = {}
        self._competitors: dict[str, dict[str, int | None]] = {}

    def ahead_of(self, type_: str, place: str) -> int:
        """How many tasks run before the one of this type in this place."""
        ahead = 0
        for other, places in self._places.items():
            most = self._most_ahead(other, type_)
            if most != 0:
                before = bisect.bisect_left(places, place)
                ahead += before if most is None else min(before, most)
        return ahead

    def _most_ahead(self, other: str, type_: str) -> int | None:
        """How many of another type's tasks may run before one of this type that comes later; None: all."""
        known = self._competitors.setdefault(type_, {})
        if other not in known:
            known[other] = self._judged(other, type_)
        return known[other]

    def _judged(self, other: str, type_: str) -> int | None:
        ours, theirs = self._needs.get(type_, {}), self._needs.get(other, {})
        mine, its = self.slots_of(type_), self.slots_of(other)
        if other == type_ or not mine:  # for a task that no worker takes only the order is known
            return None
        if not any(room.times(type_, ours) and room.times(other, theirs) for room in self._rooms):
            return 0
        return None if its >= mine or ours.keys() & theirs.keys() else its

    def slots_of(self, type_: str) -> int:
        """How many tasks of the type run at once; 0 where no worker takes it."""
        if type_ not in self._at_once:
            self._at_once[type_] = at_once(type_, self._needs, self._rooms)
        return self._at_once[type_]

    def add(self, type_: str, place: str) -> None:
        """A task has joined since the reading; one that the reading has seen is not counted twice."""
        places = self._places.setdefault(type_, [])
        at = bisect.bisect_left(places, place)
        if at == len(places) or places[at] != place:
            places.insert(at, place)
            self.pending += 1

    def remove(self, type_: str, place: str) -> None:
        """A task has left since the reading."""
        places = self._places.get(type_, [])
        at = bisect.bisect_left(places, place)
        if at < len(places) and places[at] == place:
            del places[at]
            self.pending -= 1

    def placed(self, view: Mapping[str, Any]) -> dict[str, Any]:
        """The task's view with `queue_position` and `eta_seconds` instead of its place.

        Position 0 is next: nothing is ahead of it.  Both are None once it is over.
        """
        shown = dict(view)
        place, running_for = shown.pop("place"), shown.pop("running_for_seconds")
        shown.pop("is_in_line")
        due_in = max(0.0, shown.pop("due_in_seconds") or 0.0)
        spent = max(0.0, shown.pop("spent_seconds") or 0.0)
        type_ = view["type"]
        runs = self._run_seconds.get(type_, ())
        match view["status"]:
            case "pending":
                ahead = 0 if place is None else self.ahead_of(type_, place)
                eta = None if type_ in self._halted else self._eta(type_, place, ahead, due_in, spent)
                return {**shown, "queue_position": ahead, "eta_seconds": eta}
            case "processing" | "ai_processing":
                eta = eta_seconds(
                    ahead=0,
                    slots=len(self._rooms),
                    recent_run_seconds=runs,
                    running_for_seconds=running_for,
                    spent_seconds=spent,
                )
                return {**shown, "queue_position": None, "eta_seconds": eta}
        return {**shown, "queue_position": None, "eta_seconds": None}

    def _eta(self, type_: str, place: str | None, ahead: int, due_in: float, spent: float) -> int | None:
        """The later of two estimates: when a slot is free for it, and when its needs are.  due_in, spent: as
        `eta_seconds`."""
        runs, need = self._run_seconds.get(type_, ()), self._needs.get(type_)
        if not self.slots_of(type_):
            return None
        slots = sum(room.slots for room in self._rooms if room.takes(type_))
        free = sum(room.slots for room in self._free if room.takes(type_))
        by_slot = eta_seconds(
            ahead=ahead,
            slots=slots,
            free_slots=free,
            recent_run_seconds=runs,
            due_in_seconds=due_in,
            spent_seconds=spent,
        )
        if not need or by_slot is None:
            return by_slot
        rivals = sum(
            bisect.bisect_left(places, place or "")
            for other, places in self._places.items()
            if self._needs.get(other, {}).keys() & need.keys() and self._most_ahead(other, type_) != 0
        )
        free_of_it = at_once(type_, self._needs, self._free)
        by_need = eta_seconds(
            ahead=rivals,
            slots=self.slots_of(type_),
            free_slots=free_of_it,
            recent_run_seconds=runs,
            spent_seconds=spent,
        )
        return max(by_slot, by_need or 0)


NOBODY_WAITS = WaitingOrder({}, 0)
