"""The choice of a worker for a task: it must take the type, and have a free slot and the type's needs. Pure.

Terms: a worker *offers* amounts of named things, such as one `gpu`. A type *needs* some of them, and a task of the type
holds them while it is processed. A restricted worker takes only the types that it names.

A task goes to the worker with most free slots. Slots that tasks with further needs could use there do not count. So a
worker with a GPU is not filled with tasks that can run elsewhere, while there is room elsewhere. Within one pick room
only shrinks, so a type without a worker is not tried again before the next pick. The offers that it needs are reserved
on the worker that lacks fewest of them. Else a task that needs two GPUs would wait for ever behind tasks that take one
as soon as it is free.

A task that must run alone gets a worker that does nothing else, and takes all of it. If each worker is at work, the one
with the fewest tasks is kept: nothing more is placed there until it is empty. It has the fewest in the next pick too,
unless another one has fewer still, so the wait ends.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Iterable, Mapping
from typing import Any

Amounts = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Room:
    """A worker's slots, offers (all or the free ones), and the types that it takes, None for all.

    held: slots that are taken, beside the free ones.
    """

    worker_id: str
    slots: int
    offers: Amounts = dataclasses.field(default_factory=dict)
    types: frozenset[str] | None = None
    held: int = 0

    def takes(self, type_: str) -> bool:
        """Whether it is not restricted to other types."""
        return self.types is None or type_ in self.types

    def times(self, type_: str, need: Amounts) -> int:
        """The number of tasks of a type with this need that fit at once."""
        if not self.takes(type_):
            return 0
        return max(
            0, min([self.slots, *(self.offers.get(name, 0) // amount for name, amount in need.items())])
        )

    def without(self, taken: Amounts) -> Room:
        """The room without these offers."""
        if not taken:
            return self
        offers = {name: amount - taken.get(name, 0) for name, amount in self.offers.items()}
        return dataclasses.replace(self, offers=offers)


def room_of(row: Mapping[str, Any], slots: int | None = None, held: int = 0) -> Room:
    """The room of a worker's row, with all of its offers.  slots: as many; all of them if not given."""
    types = row["types"]
    return Room(
        row["id"],
        row["slots"] if slots is None else slots,
        json.loads(row["offers"]),
        None if types is None else frozenset(json.loads(types)),
        held,
    )


Needs = Mapping[str, Amounts]  # of each type, or lane of a step; one that is not named needs nothing


class Placement:
    """Free rooms of workers, taken one by one.  whole: {worker: all that it offers, free or not}."""

    def __init__(
        self, rooms: Iterable[Room], needs: Needs, whole: Mapping[str, Amounts] | None = None
    ) -> None:
        self._rooms = {room.worker_id: room for room in rooms if room.slots > 0}
        self._whole = whole or {room.worker_id: room.offers for room in self._rooms.values()}
        self._free = sum(room.slots for room in self._rooms.values())
        self._needs = {type_: need for type_, need in needs.items() if need}
        self._least = _least(self._needs.values())
        # Where workers differ only in their slots, a heap finds the next one.
        is_plain = all(
            room.types is None and not self._least.keys() & room.offers.keys()
            for room in self._rooms.values()
        )
        self._heap = [(-room.slots, room.worker_id) for room in self._rooms.values()] if is_plain else None
        heapq.heapify(self._heap or [])

    @property
    def is_full(self) -> bool:
        """Whether no worker has a slot."""
        return self._free <= 0

    def place(self, type_: str, line: str = "", *, alone: bool = False) -> str | None:
        """Take room for a task of this type; the worker, or None where none has room.  line: the lane of its step.

        alone: the task must be the only one of its worker.
        """
        need = self._needs.get(line or type_, {})
        if self.is_full:
            return None
        if alone:
            return self._place_alone(type_, need)
        if self._heap is not None:
            return None if need else self._most_slots(self._heap)
        able = [room for room in self._rooms.values() if room.times(type_, need)]
        if not able:
            self._keep_for(type_, need)
            return None
        room = min(
            able,
            key=lambda each: (
                self._kept_for_others(each.offers, need) - each.slots,
                each.types is None,
                each.worker_id,
            ),
        )
        self._rooms[room.worker_id] = _with_taken(room.without(need), 1)
        self._free -= 1
        return room.worker_id

    def _place_alone(self, type_: str, need: Amounts) -> str | None:
        """The whole of an empty worker; without one, the emptiest is kept free of others and the task waits."""
        self._leave_heap()
        able = [
            room
            for room in self._rooms.values()
            if room.slots > 0 and room.takes(type_) and _covers(self._whole[room.worker_id], need)
        ]
        if not able:
            return None
        # Only `held` changes from pick to pick, so the same worker is kept until it is empty.
        room = min(
            able,
            key=lambda each: (
                each.held,
                self._kept_for_others(self._whole[each.worker_id], need),
                each.types is None,
                each.slots + each.held,
                each.worker_id,
            ),
        )
        del self._rooms[room.worker_id]
        self._free -= room.slots
        return room.worker_id if room.held == 0 else None

    def _leave_heap(self) -> None:
        """From now on look at every worker: one of them leaves the heap, from its middle perhaps."""
        for negated, worker_id in self._heap or []:
            room = self._rooms[worker_id]
            self._rooms[worker_id] = _with_taken(room, room.slots + negated)
        self._heap = None

    def _keep_for(self, type_: str, need: Amounts) -> None:
        """No later task takes the awaited offer from the worker that will have it free soonest."""
        able = [
            room
            for room in self._rooms.values()
            if room.takes(type_) and _covers(self._whole[room.worker_id], need)
        ]
        if able:
            room = min(able, key=lambda each: (_lacks(each.offers, need), each.worker_id))
            kept = {name: room.offers.get(name, 0) for name in need}
            self._rooms[room.worker_id] = room.without(kept)

    def _most_slots(self, heap: list[tuple[int, str]]) -> str:
        negated, worker_id = heap[0]
        heapq.heapreplace(heap, (negated + 1, worker_id))
        self._free -= 1
        return worker_id

    def _kept_for_others(self, offers: Amounts, need: Amounts) -> int:
        """Slots there that tasks with other needs than this one's could use."""
        others = self._least.keys() - need.keys()
        return max((offers.get(name, 0) // self._least[name] for name in others), default=0)


def _with_taken(room: Room, count: int) -> Room:
    return dataclasses.replace(room, slots=room.slots - count, held=room.held + count)


def _covers(offers: Amounts, need: Amounts) -> bool:
    return all(offers.get(name, 0) >= amount for name, amount in need.items())


def _lacks(offers: Amounts, need: Amounts) -> int:
    return sum(max(0, amount - offers.get(name, 0)) for name, amount in need.items())


def _least(needs: Iterable[Amounts]) -> dict[str, int]:
    """The smallest need of a type for each name."""
    least: dict[str, int] = {}
    for need in needs:
        for name, amount in need.items():
            least[name] = min(amount, least.get(name, amount))
    return least


def at_once(type_: str, needs: Needs, rooms: Iterable[Room]) -> int:
    """How many tasks of a type these workers have room for at once, if they do nothing else."""
    need = needs.get(type_, {})
    return sum(room.times(type_, need) for room in rooms)


def in_words(need: Amounts) -> str:
    """`gpu = 1, vram = 24`; empty for nothing."""
    return ", ".join(f"{name} = {amount}" for name, amount in need.items())
