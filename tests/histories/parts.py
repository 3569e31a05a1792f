"""The product's parts as processes of a history: dispatchers, workers, sweeps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dramatiq import Message

from actors.dispatcher import dispatcher as dispatching_program
from actors.entry.claim_handlers import WORK
from actors.worker.worker import Worker
from supervisor.database.interface.wakeups import SOMETHING, Heard
from supervisor.services.sweep import sweep_now, sweep_this_minute
from supervisor.store.queue import workers
from tests.histories import broker
from tests.histories.blocking import current
from tests.histories.door import Door
from tests.histories.virtual_loop import Process, current_process

if TYPE_CHECKING:
    from tests.histories.world import World

CLEANUP_SECONDS = 30.0


class Wakes:
    """In the place of `supervisor.database.interface.wakeups.Wakeups`: a hint that may come for nothing, or late."""

    look_again_seconds: tuple[float, ...] = ()
    safety_seconds = 1.0
    is_listening = True

    def __init__(self, world: World) -> None:
        self._world = world

    def hear(self, timeout_seconds: float) -> Heard | None:
        return SOMETHING if self.wait(timeout_seconds) else None

    def wait(self, timeout_seconds: float) -> bool:
        thread = current()
        assert thread is not None
        early = self._world.draw.random() < 0.3
        thread.sleep(timeout_seconds * (self._world.draw.random() if early else 1.0))
        return early

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


class DispatcherPart:
    """A dispatcher process."""

    def __init__(self, world: World, name: str) -> None:
        self.process = Process(name)
        self.world = world
        door = Door(world, self.process)
        world.blocking(self.process, lambda: self._run(door))

    def _run(self, door: Door) -> None:
        world = self.world
        server: Any = world.broker
        wakes: Any = Wakes(world)
        dispatching_program.Dispatcher(world.settings, door, server, wakes, world.broker.claim_lists()).run()

    def die(self) -> None:
        """Killed."""
        self.process.is_dead = True


class WorkerPart:
    """A worker process: the real `actors.worker.worker.Worker` and what dramatiq does around it."""

    worker: Worker

    def __init__(self, world: World, name: str) -> None:
        self.world, self.process = world, Process(name)
        self.is_up = self.is_ending = False
        self.in_hand: dict[str, list[Message[Any]]] = {}
        self.disturbed_at = world.loop.time()
        self.door = Door(world, self.process)
        world.loop.start(self.process, self._boot())

    def has_room(self, queue: str) -> bool:
        """Whether it would fetch another message of this queue now."""
        is_awake = self.process.frozen_until <= self.world.loop.time()
        if not self.is_up or self.is_ending or self.process.is_dead or not is_awake:
            return False
        return len(self.in_hand.get(queue, [])) < broker.ROOM

    def pops(self, kind: str) -> bool:
        """Whether it pops one of its lists now."""
        return broker.pops(self, kind)

    def would_pop(self, kind: str) -> bool:
        """Whether it would, were it not frozen."""
        return broker.would_pop(self, kind)

    def take_claims(self, kind: str, sent: bytes) -> None:
        """It has popped this, and its event loop comes round to it."""
        message = self.world.broker.claim_lists().opened(kind, self.worker.id, sent)
        assert message is not None

        async def take() -> None:
            self.worker.take(message)

        self.world.loop.start(self.process, take())

    def take(self, message: Message[Any]) -> None:
        """Run its actor."""
        work = broker.work_of(self, message)
        if work is not None:
            self.in_hand.setdefault(message.queue_name, []).append(message)
            self.world.loop.start(self.process, self._run(message, work))

    def stall(self, seconds: float) -> None:
        """The process stands still (a paused virtual machine, a full swap)."""
        self.disturbed_at = self.process.frozen_until = self.world.loop.time() + seconds

    def die(self, *, is_seen: bool) -> None:
        """Killed. is_seen: its supervisor on this host notices it and marks it."""
        if self.process.is_dead:
            return
        self.process.is_dead = True
        world = self.world
        world.note(f"{self.process} dies")
        if is_seen and self.is_up:
            worker_id = self.worker.id
            door = world.doors["supervisor"]
            world.loop.in_world(0.3, lambda: door.write(lambda tx: workers.mark_dead(tx, worker_id)))
        for queued in self.in_hand.values():
            for message in queued:
                if world.draw.random() < 0.5:  # the broker gives unacknowledged messages to others
                    world.broker.carried.append((world.loop.time() + 60.0, 0, message))
        world.ring()

    def terminate(self) -> None:
        """SIGTERM: drain and end."""
        if not self.is_ending and not self.process.is_dead:
            self.is_ending = True
            self.world.loop.start(self.process, self._end())

    async def _boot(self) -> None:
        world = self.world
        server: Any = world.broker
        while True:
            self.worker = Worker(world.settings, server, self.door, world.files, WORK)
            self._watch_beginnings()
            try:
                await self.worker.start()
            except Exception as error:  # noqa: BLE001  its supervisor starts it again
                world.note(f"{self.process} can't start: {error}")
                await asyncio.sleep(1.0)
            else:
                break
        self.worker.providers.update(world.adapters())
        self.is_up = True
        world.note(f"{self.process} is {self.worker.id}")

    def _watch_beginnings(self) -> None:
        """No lease is begun twice, wherever that is."""
        enter = self.worker.begun.enter

        def watched(task_id: str, lease: int) -> bool:
            begins = enter(task_id, lease)
            if begins:
                self.world.model.begins(task_id, lease, self.worker.id)
            return begins

        self.worker.begun.enter = watched  # type: ignore[method-assign]

    async def _run(self, message: Message[Any], work: Any) -> None:
        task = asyncio.ensure_future(work)
        try:
            _, pending = await asyncio.wait([task], timeout=broker.TIME_LIMIT_SECONDS)
            if pending:
                task.cancel()
                _, pending = await asyncio.wait([task], timeout=CLEANUP_SECONDS)
                if pending:
                    self.terminate()
                    await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                self.world.model.heard_error(self.process, message.actor_name, error)
        finally:
            self.in_hand[message.queue_name].remove(message)

    async def _end(self) -> None:
        self.worker.begin_drain()
        most = self.world.settings.drain_seconds + 60.0
        end = self.world.loop.time() + most
        while self.worker.running and self.world.loop.time() < end:  # noqa: ASYNC110  the world's own time
            await asyncio.sleep(0.5)
        await self.worker.close()
        self.process.is_dead = True
        self.world.note(f"{self.process} has left")


def run_sweep(world: World, door: Door, draw_by_hand: bool) -> None:
    """One sweep, on a thread of its own."""
    (sweep_now if draw_by_hand else sweep_this_minute)(door, world.settings, world.files)


def end_of_process() -> None:
    """What `os.kill(os.getpid(), SIGTERM)` does in a worker's code."""
    process = current_process.get()
    assert process is not None
    for part in process_parts():
        if part.process is process:
            part.terminate()


def process_parts() -> list[WorkerPart]:
    """The workers of the history that runs."""
    return broker.Sender.world.workers
