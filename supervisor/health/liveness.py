"""Which parts are alive, judged by the age of their last sign of life.  Pure.

Everything that shows a part as alive uses this module: the page /ops, `darkroom doctor`, `show` and `tasks`, /readyz,
the metrics, and the estimates of a task's end.

A worker counts as silent when, by its own rule, it begins nothing more.  That is earlier than its death, which the
working dispatcher judges by its own monotonic clock and marks; so the marks are used first.  Ages are measured by the
database's clock, which may step.  After such a step, and after an interruption, the dispatcher counts silence from zero
(`well_seconds`), and so does this module.  While the dispatcher itself is silent there are no marks; then age alone
decides, and `judge` says so.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from supervisor.core.placement import Amounts, Room

DISPATCHER_SECONDS = 10.0  # it beats every 5 s at least; a slow disk holds a beat up for some seconds


class Judge(enum.StrEnum):
    """The judge of the workers' liveness."""

    DISPATCHER = "dispatcher"
    CLOCK = "clock"


@dataclasses.dataclass(frozen=True)
class WorkerSign:
    """A worker process that has not ended.  state: from its row; busy: slots that it reports busy or that hold tasks.

    silent_seconds: since its last heartbeat.  offers, types: as `supervisor.core.placement` has them."""

    id: str
    state: str
    slots: int
    busy: int
    silent_seconds: float
    offers: Amounts = dataclasses.field(default_factory=dict)
    types: frozenset[str] | None = None

    @property
    def room(self) -> Room:
        """All of its room."""
        return Room(self.id, self.slots, self.offers, self.types)


@dataclasses.dataclass(frozen=True)
class DispatcherSign:
    """holder: the working dispatcher, None after it has stopped.  silent_seconds: since its last beat, None for never.

    well_seconds: for how long it has beaten without a gap and without a step of the clock, None for never.
    """

    holder: str | None = None
    silent_seconds: float | None = None
    well_seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Liveness:
    """The verdict on all parts.  fresh, silent: workers in the states live and draining, by the age of their
    heartbeat."""

    dispatcher: DispatcherSign
    is_dispatcher_fresh: bool
    fresh: tuple[WorkerSign, ...]
    silent: tuple[WorkerSign, ...]

    @property
    def working_seconds(self) -> float | None:
        """For how long the dispatcher has worked without a break; None while it does not."""
        return self.dispatcher.well_seconds if self.is_dispatcher_fresh else None

    @property
    def judge(self) -> Judge:
        """The judge."""
        return Judge.DISPATCHER if self.is_dispatcher_fresh else Judge.CLOCK

    @property
    def taking(self) -> tuple[WorkerSign, ...]:
        """Workers that take tasks."""
        return tuple(each for each in self.fresh if each.state == "live")

    @property
    def rooms(self) -> list[Room]:
        """All the room of workers that take tasks, busy or not."""
        return [each.room for each in self.taking]

    @property
    def free_rooms(self) -> list[Room]:
        """The same with free slots alone, and offers whole."""
        return [dataclasses.replace(each.room, slots=max(0, each.slots - each.busy)) for each in self.taking]

    @property
    def slots(self) -> int:
        """Task slots of workers that take tasks."""
        return sum(each.slots for each in self.taking)

    @property
    def works(self) -> bool:
        """Whether a task that is submitted now would be started."""
        return self.is_dispatcher_fresh and bool(self.taking)


def judged(workers: Sequence[WorkerSign], dispatcher: DispatcherSign, silent_seconds: float) -> Liveness:
    """The verdict.  silent_seconds: the greatest age of a live worker's heartbeat."""
    age = dispatcher.silent_seconds
    is_fresh = dispatcher.holder is not None and age is not None and age <= DISPATCHER_SECONDS
    counted_from = dispatcher.well_seconds if is_fresh else None
    fresh: list[WorkerSign] = []
    silent: list[WorkerSign] = []
    for each in workers:
        seconds = each.silent_seconds if counted_from is None else min(each.silent_seconds, counted_from)
        (fresh if seconds <= silent_seconds else silent).append(each)
    return Liveness(dispatcher, is_fresh, tuple(fresh), tuple(silent))
