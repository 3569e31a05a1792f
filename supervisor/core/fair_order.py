"""The order in which waiting tasks run.  Pure.

Terms: a *turn* is a round in which every waiting user gets one task; the *clock* of a priority is the turn that
was picked last.  A task's turn is fixed when the task is admitted:

    turn = max(clock[priority], 1 + highest turn of the user's open tasks at that priority)

so a user's first task joins the current round, and their thousandth waits for 999 more rounds, even if it came before
all others.  The alternative, to rank each user's n-th waiting task at pick time, starves others while new tasks keep
arriving, and costs a sort of the whole queue.  Start-time fair queueing is the same idea: Goyal, Vin, Cheng (1996).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from supervisor.core.placement import Placement


class Place(NamedTuple):
    """A task's place in the queue; smaller runs sooner.

    negated_priority comes first, so that tuples compare as `priority DESC, turn, created_at, id`.
    """

    negated_priority: int
    turn: int
    created_at: str
    task_id: str


class Waiting(NamedTuple):
    """A due task, as the pick reads it.  waited_seconds: since it became due."""

    place: Place
    user: str
    type: str
    waited_seconds: float = 0.0


def turn_of_new_task(clock: int, highest_open_turn: int | None) -> int:
    """The turn of a task that is admitted now.

    highest_open_turn: of the user's other open tasks at that priority; None if there are none.
    """
    return clock if highest_open_turn is None else max(clock, highest_open_turn + 1)


def pick(
    heads: Iterable[Iterable[Waiting]],
    placement: Placement,
    *,
    room_of_user: Callable[[str], int],
    room_of_type: Callable[[str], int],
) -> Iterator[tuple[Waiting, str]]:
    """The tasks to dispatch now, in fair order, each with the worker that it is for.

    heads: one stream per type, each in order.  room_of_*: how many more may run; called once for each key.  A type for
    which no worker has room keeps its place, and others go on.
    """
    users: dict[str, int] = {}
    types: dict[str, int] = {}
    for waiting in heapq.merge(*(_while_there_is_room(stream, types) for stream in heads)):
        if placement.is_full:
            return
        if waiting.user not in users:
            users[waiting.user] = room_of_user(waiting.user)
        if waiting.type not in types:
            types[waiting.type] = room_of_type(waiting.type)
        if users[waiting.user] <= 0 or types[waiting.type] <= 0:
            continue
        worker_id = placement.place(waiting.type)
        if worker_id is None:
            types[waiting.type] = 0
            continue
        users[waiting.user] -= 1
        types[waiting.type] -= 1
        yield waiting, worker_id


def _while_there_is_room(stream: Iterable[Waiting], room: Mapping[str, int]) -> Iterator[Waiting]:
    """A type's tasks until the type is full, so that a long queue of a full service is not read to its end."""
    for waiting in stream:
        if room.get(waiting.type, 1) <= 0:
            return
        yield waiting
