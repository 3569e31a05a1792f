"""All that a history knows of hints and dispatch numbers: how they travel, and what a worker does with one.

Messages are lost, doubled, late and out of order.  A send may fail, certainly or perhaps, and whoever sends may stand
still between any two of its steps.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dramatiq import Message

from actors.attempt import run_attempt
from actors.broker import CONTROL_QUEUE, CONTROL_THREADS, TASK_QUEUE, HintsNotSent
from actors.hint_sender import HintSender, messages_of
from actors.polling import poll_tasks
from actors.remote_cancelling import cancel_jobs
from supervisor.store.dispatching import Hint
from tests.histories.virtual_loop import current_process

if TYPE_CHECKING:
    from tests.histories.parts import WorkerPart
    from tests.histories.world import World

PAUSE_SECONDS = 1.0
STILL_SECONDS = 60.0
HELD_BACK_SECONDS = 4.0


class Sender:
    """In the place of `actors.hint_sender.HintSender`, whose thread would not take turns; its steps are the same."""

    world: World

    def __init__(self, broker: Any, database: Any, *, when_ready: Callable[[], None]) -> None:
        self._database = database
        self._process = current_process.get()
        self._is_busy = False
        self._paused_until = 0.0

    def is_ready(self) -> bool:
        return not self._is_busy and self.world.loop.time() >= self._paused_until

    def send(self, errands: Sequence[Any]) -> None:
        assert self._process is not None
        self._is_busy = True
        self.world.loop.start(self._process, self._send(errands))

    def close(self) -> None:
        pass

    async def _send(self, errands: Sequence[Any]) -> None:
        world = self.world
        try:
            await asyncio.sleep(world.delay())
            messages = list(messages_of(errands))
            try:
                world.broker.take(messages)
            except HintsNotSent as error:
                self._paused_until = world.loop.time() + PAUSE_SECONDS
                hints = [errand for errand in errands if isinstance(errand, Hint)]
                if error.certain and hints and world.chance(0.5):
                    self._stand_still(hints)
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(world.draw.choice((0.0, 0.01, 15.0, 40.0)) * world.draw.random())
                self._unmark(hints, error)
        finally:
            self._is_busy = False

    def _stand_still(self, hints: Sequence[Hint]) -> None:
        """The whole process does, at the worst moment, until its successor has sent one of these again."""
        assert self._process is not None
        process, world, end = self._process, self.world, self.world.loop.time() + STILL_SECONDS
        types_ = {hint.task_id: hint.type for hint in hints if not hint.is_poll}
        marks = self._marks(types_)
        process.frozen_until = end
        world.broker.held_back |= set(types_)

        def look() -> None:
            again = [
                task_id for task_id, mark in self._marks(types_).items() if mark not in (None, marks[task_id])
            ]
            if not again and world.loop.time() < end:
                world.loop.in_world(0.2, look)
                return
            world.broker.held_back -= set(types_)
            process.frozen_until = min(process.frozen_until, world.loop.time())
            for task_id in again:
                world.people.push_in(types_[task_id])

        look()

    def _marks(self, task_ids: Iterable[str]) -> dict[str, str | None]:
        found = [
            self.world.rows("SELECT dispatched_at FROM task_queue WHERE id = ?", task_id)
            for task_id in task_ids
        ]
        return {task_id: rows[0][0] if rows else None for task_id, rows in zip(task_ids, found, strict=True)}

    def _unmark(self, hints: list[Hint], error: HintsNotSent) -> None:
        """The product's own step, which blocks."""
        sender: Any = types.SimpleNamespace(_database=self._database)
        assert self._process is not None
        self.world.blocking(self._process, lambda: HintSender._unmark(sender, hints, error))


class Broker:
    """The way from a dispatcher to the workers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.away_until = 0.0
        self.held_back: set[str] = set()  # tasks whose hints are on their way for longer than the others
        self.carried: list[tuple[float, int, Message[Any]]] = []
        self._count = 0

    def take(self, messages: Sequence[Message[Any]]) -> None:
        """Raises HintsNotSent."""
        world = self._world
        if world.loop.time() < self.away_until or world.chance(0.02):
            certain = world.draw.random() < 0.6
            if not certain and world.draw.random() < 0.5:
                self._carry(messages)
            raise HintsNotSent("the broker is away", certain=certain, messages=messages)
        self._carry(messages)

    def forget(self) -> None:
        """The broker has lost everything."""
        self.carried.clear()

    async def run(self) -> None:
        """Bring messages to workers, for ever."""
        world = self._world
        while True:
            await asyncio.sleep(0.02)
            now = world.loop.time()
            due = sorted(each for each in self.carried if each[0] <= now)
            for each in due:
                self.carried.remove(each)
                if not self._deliver(each[2]):
                    self.carried.append((now + 0.5, each[1], each[2]))
            if not self.carried:
                await world.something_carried()

    def _carry(self, messages: Sequence[Message[Any]]) -> None:
        world = self._world
        for message in messages:
            for _ in range(1 if world.is_calm else world.draw.choices((0, 1, 2), (3, 93, 4))[0]):
                late = world.delay() if world.draw.random() < 0.97 else 40.0 * world.draw.random()
                if message.queue_name == TASK_QUEUE and message.args[0] in self.held_back:
                    late = HELD_BACK_SECONDS
                self._count += 1
                self.carried.append((world.loop.time() + late, self._count, message))
        world.ring()

    def _deliver(self, message: Message[Any]) -> bool:
        able = [each for each in self._world.workers if each.has_room(message.queue_name)]
        if not able:
            return False
        self._world.draw.choice(able).take(message)
        return True


def room_of(part: WorkerPart, queue: str) -> int:
    """How many messages of a queue a worker process takes at once."""
    return part.worker.settings.worker_threads if queue == TASK_QUEUE else CONTROL_THREADS


def work_of(part: WorkerPart, message: Message[Any]) -> Coroutine[Any, Any, None] | None:
    """What the actor of a message does; None for one that is not followed here."""
    match message.actor_name:
        case "poll_remote":
            return poll_tasks(part.worker, [(task_id, dispatch) for task_id, dispatch in message.args[0]])
        case "cancel_remote":
            return cancel_jobs(part.worker, message.args[0])
        case "deliver_webhooks":
            return None
        case type_:
            task_id, dispatch = message.args
            return run_attempt(part.worker, type_, task_id, dispatch)


def time_limit_of(part: WorkerPart, message: Message[Any]) -> float:
    """When dramatiq interrupts the actor, seconds."""
    if message.queue_name == CONTROL_QUEUE:
        return 60.0
    return part.worker.settings.tasks[message.actor_name].time_limit_seconds
