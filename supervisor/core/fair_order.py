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
from typing import NamedTuple, Protocol

from supervisor.core.placement import Placement

UNLIMITED = 1 << 30


class Place(NamedTuple):
    """A task's place in the queue; smaller runs sooner.

    negated_priority comes first, so that tuples compare as `priority DESC, turn, created_at, id`.
    """

    negated_priority: int
    turn: int
    created_at: str
    task_id: str


class Waiting(NamedTuple):
    """A due task, as the pick reads it.  waited_seconds: since it became due.

    step, lane: of the step that it is at (`supervisor.steps.lanes`).  is_under_way: a step of this charge is finished,
    so the task counts as running already.  alone: no other task may run in its worker.  suspect_lives: how many deaths
    a task that is suspected as poison has left; None for any other task.  lease: the last one, which a claim raises by
    one.  is_new: it was never claimed.
    """

    place: Place
    user: str
    type: str
    waited_seconds: float = 0.0
    step: int = 0
    lane: str = ""
    is_under_way: bool = False
    alone: bool = False
    suspect_lives: int | None = None
    lease: int = 0
    is_new: bool = True

    @property
    def line(self) -> str:
        """The name of the queue it stands in: its lane, or its type where that has no steps."""
        return self.lane or self.type


def turn_of_new_task(clock: int, highest_open_turn: int | None) -> int:
    """The turn of a task that is admitted now.

    highest_open_turn: of the user's other open tasks at that priority; None if there are none.
    """
    return clock if highest_open_turn is None else max(clock, highest_open_turn + 1)


class Suspects(Protocol):
    """How many suspected tasks may run at once."""

    def have_room(self, lives: int) -> bool:
        """Whether a suspect with so many deaths left may run now."""

    def note(self, lives: int) -> None:
        """Count it as running."""


def pick(
    heads: Iterable[Iterable[Waiting]],
    placement: Placement,
    *,
    room_of_user: Callable[[str], int],
    room_of_type: Callable[[str], int],
    room_of_line: Callable[[str], int] = lambda line: UNLIMITED,
    suspects: Suspects | None = None,
) -> Iterator[tuple[Waiting, str]]:
    """The tasks to dispatch now, in fair order, each with the worker that it is for.

    heads: one stream for each line, each in order.  room_of_*: how many more may run; called once for each key.  A line
    for which no worker has room keeps its place, and others go on.  A task that waits for a worker of its own holds up
    only the worker that is kept for it.  suspects: not given where no task is suspected.
    """
    users: dict[str, int] = {}
    types: dict[str, int] = {}
    lines: dict[str, int] = {}
    for waiting in heapq.merge(*(_while_there_is_room(stream, types, lines) for stream in heads)):
        if placement.is_full:
            return
        if waiting.user not in users:
            users[waiting.user] = room_of_user(waiting.user)
        if waiting.type not in types:
            types[waiting.type] = room_of_type(waiting.type)
        if waiting.line not in lines:
            lines[waiting.line] = room_of_line(waiting.line)
        if lines[waiting.line] <= 0:
            continue
        if not waiting.is_under_way and (users[waiting.user] <= 0 or types[waiting.type] <= 0):
            continue
        lives = waiting.suspect_lives if suspects is not None else None
        if suspects is not None and lives is not None and not suspects.have_room(lives):
            continue
        worker_id = placement.place(waiting.type, waiting.line, alone=waiting.alone)
        if worker_id is None:
            if not waiting.alone:
                lines[waiting.line] = 0
            continue
        if suspects is not None and lives is not None:
            suspects.note(lives)
        lines[waiting.line] -= 1
        if not waiting.is_under_way:
            users[waiting.user] -= 1
            types[waiting.type] -= 1
        yield waiting, worker_id


def _while_there_is_room(
    stream: Iterable[Waiting], types: Mapping[str, int], lines: Mapping[str, int]
) -> Iterator[Waiting]:
    """A line's tasks until it is full, so that a long queue of a full service is not read to its end.

    Where a type is full, tasks that are under way may still stand behind others, but not in the line of a first step.
    """
    for waiting in stream:
        if lines.get(waiting.line, 1) <= 0 or (types.get(waiting.type, 1) <= 0 and not waiting.step):
            return
        yield waiting
