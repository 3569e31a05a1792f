"""The order of all waiting tasks as of one reading, in memory: a task's position is a bisection.  Pure.

Counting the rows ahead of a task in SQL reads every row of the queue at every submission and every request (18 ms at
100,000 rows).  One reading a second costs the same for any number of requests (CORRECTNESS 11).  A place is kept as
text that sorts as `priority DESC, turn, created_at, id`, which takes a third of the memory of a tuple.

Between two readings, the process adds the tasks that it has admitted itself and removes those that it has cancelled.
The next reading shows the changes of other processes: positions are exact only as of that reading.
"""

from __future__ import annotations

import bisect
from collections.abc import Container, Mapping, Sequence
from typing import Any

from supervisor.core.eta import eta_seconds

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
    """One reading.  places: sorted; pending: the number of all pending tasks, also of those that may not run yet.

    slots: of workers that take tasks, in_use of which are taken; 0 while no task is started.  run_seconds: {type: run
    times of its newest completed tasks}.  halted: types of which no task is started now.
    """

    def __init__(
        self,
        places: list[str],
        pending: int,
        slots: int,
        in_use: int,
        run_seconds: Mapping[str, Sequence[float]],
        halted: Container[str] = (),
    ) -> None:
        self._places = places
        self.pending = pending
        self._slots, self._free = slots, max(0, slots - in_use)
        self._run_seconds, self._halted = run_seconds, halted

    def ahead_of(self, place: str) -> int:
        """How many tasks run before the one in this place."""
        return bisect.bisect_left(self._places, place)

    def add(self, place: str) -> None:
        """A task has joined since the reading; one that the reading contains is not counted twice."""
        at = self.ahead_of(place)
        if at == len(self._places) or self._places[at] != place:
            self._places.insert(at, place)
            self.pending += 1

    def remove(self, place: str) -> None:
        """A task has left since the reading."""
        at = self.ahead_of(place)
        if at < len(self._places) and self._places[at] == place:
            del self._places[at]
            self.pending -= 1

    def placed(self, view: Mapping[str, Any]) -> dict[str, Any]:
        """The task's view with `queue_position` and `eta_seconds` instead of its place.

        Position 0 is next: nothing is ahead of it.  Both are None once it is over.
        """
        shown = dict(view)
        place, running_for = shown.pop("place"), shown.pop("running_for_seconds")
        shown.pop("is_in_line")
        runs = self._run_seconds.get(view["type"], ())
        match view["status"]:
            case "pending":
                ahead = 0 if place is None else self.ahead_of(place)
                slots = 0 if view["type"] in self._halted else self._slots
                eta = eta_seconds(ahead=ahead, slots=slots, free_slots=self._free, recent_run_seconds=runs)
                return {**shown, "queue_position": ahead, "eta_seconds": eta}
            case "processing" | "ai_processing":
                eta = eta_seconds(
                    ahead=0, slots=self._slots, recent_run_seconds=runs, running_for_seconds=running_for
                )
                return {**shown, "queue_position": None, "eta_seconds": eta}
        return {**shown, "queue_position": None, "eta_seconds": None}


NOBODY_WAITS = WaitingOrder([], 0, 0, 0, {})
