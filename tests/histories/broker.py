"""The broker of a history: the lists of claims, the control queue, and the worker's use of both.

Messages are lost, doubled, late and out of order. A send may fail, with a known or an unknown outcome, and the sender
may pause between any two of its steps. The product's own sender and lists run; only the server is simulated.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import queue
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import redis
from dramatiq import Message

from actors.broker.broker import CONTROL_THREADS, MessagesNotSent
from actors.dispatcher.claim_sender import ClaimSender
from actors.remote_jobs.cancel_jobs import cancel_jobs
from supervisor.broker.claim_lists import KINDS, ClaimLists
from supervisor.broker.signed_claims import TASKS, ClaimKeys
from tests.histories.blocking import current
from tests.histories.virtual_loop import current_process

if TYPE_CHECKING:
    from tests.histories.parts import WorkerPart
    from tests.histories.world import World

AGAIN_SECONDS = 0.5  # a message that nobody could take


class Sender(ClaimSender):
    """The product's, as a blocking function that takes turns, instead of a thread that would not."""

    world: World

    def _start(self) -> None:
        self._given: collections.deque[Any] = collections.deque()
        self._is_given: concurrent.futures.Future[None] | None = None
        process = current_process.get()
        assert process is not None
        self.world.blocking(process, self._run)

    def close(self) -> None:
        self._put(None)

    def _put(self, errands: Sequence[Any] | None) -> None:
        self._given.append(errands)
        if self._is_given is not None and not self._is_given.done():
            self._is_given.set_result(None)

    def _next(self, seconds: float | None) -> Any:
        thread = current()
        assert thread is not None
        if not self._given:
            self._is_given = waited = concurrent.futures.Future()
            if seconds is not None:
                self.world.loop.in_world(seconds, lambda: waited.done() or waited.set_result(None))
            thread.wait_for(waited)
        if not self._given:
            raise queue.Empty
        return self._given.popleft()


class Pipeline:
    """What `ClaimLists` asks of a redis client, in one round trip."""

    def __init__(self, server: Broker) -> None:
        self._server = server
        self._calls: list[Callable[[], Any]] = []

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def expire(self, key: str, seconds: int) -> None:
        pass

    def lindex(self, key: str, index: int) -> None:
        self._calls.append(lambda: next(iter(self._server.lists[key]), None))

    def eval(self, script: str, count: int, *keys_and_arguments: Any) -> None:
        taken, *places = keys_and_arguments[:count]
        self._calls.append(lambda: self._server.take_lists(taken, places))

    def execute(self) -> list[Any]:
        return self._server.round_trip(self._calls)


class Connection:
    """What `ClaimLists` uses of a connection, to send claims."""

    def __init__(self, server: Broker) -> None:
        self._server = server

    def pack_command(self, command: str, key: str, message: bytes) -> list[Any]:
        return [lambda: self._server.carry_claims(key, message)]

    def send_packed_command(self, packed: list[Any]) -> None:
        self._server.round_trip(packed)

    def read_response(self) -> None:
        pass

    def disconnect(self) -> None:
        pass


class Client:
    """A redis client of the world's server, and the pool of its connections."""

    def __init__(self, server: Broker) -> None:
        self._server = server
        self.connection_pool = self

    def get_connection(self) -> Connection:
        return Connection(self._server)

    def release(self, connection: Connection) -> None:
        pass

    def pipeline(self, transaction: bool = False) -> Pipeline:
        return Pipeline(self._server)

    def ping(self) -> None:
        self._server.round_trip([])

    def delete(self, *keys: str) -> None:
        self._server.round_trip([lambda: [self._server.lists.pop(key, None) for key in keys]])

    def close(self) -> None:
        pass


class Broker:
    """The way from a dispatcher to the workers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.away_until = 0.0
        self.lists: collections.defaultdict[str, list[bytes]] = collections.defaultdict(list)
        self.carried: list[tuple[float, int, Message[Any]]] = []
        self._count = 0
        self.keys = ClaimKeys(["a secret of the world's"])

    def claim_lists(self) -> ClaimLists:
        """Lists at this server."""
        client: Any = Client(self)
        return ClaimLists(client, self.keys)

    # --- the server's side ---

    def round_trip(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Raises redis.TimeoutError, in which case all, or nothing, may have been done."""
        world, thread = self._world, current()
        if thread is not None:
            thread.sleep(min(world.delay(), 0.4))
        if world.loop.time() < self.away_until or world.chance(0.02):
            if world.draw.random() < 0.3:
                for call in calls:
                    call()
            if thread is not None:
                thread.sleep(0.5)
            raise redis.TimeoutError("the broker is away")
        return [call() for call in calls]

    def forget(self) -> None:
        """It has lost everything."""
        self.carried.clear()
        self.lists.clear()

    def carry_claims(self, key: str, message: bytes) -> None:
        world = self._world
        for _ in range(1 if world.is_calm else world.draw.choices((0, 1, 2), (3, 93, 4))[0]):
            late = world.delay() if world.draw.random() < 0.97 else 40.0 * world.draw.random()
            world.loop.in_world(late, self._arrive, key, message)

    def _arrive(self, key: str, message: bytes) -> None:
        self.lists[key].append(message)
        self._offer(key)

    def _offer(self, key: str) -> None:
        """Its worker pops what lies there, if it can.  The pop of a frozen worker is answered all the same. Its message
        is kept aside until the worker finds that it is late, and asks again."""
        popped = f"{key}.popped"
        worker_id, kind = key.split(":")[-2:]
        part = next(
            (each for each in self._world.workers if each.is_up and each.worker.id == worker_id), None
        )
        if part is not None and part.pops(kind):
            self.lists[key][:0] = self.lists.pop(popped, [])
            while self.lists[key] and part.pops(kind):
                part.take_claims(kind, self.lists[key].pop(0))
        elif part is not None and part.would_pop(kind) and self.lists[key] and not self.lists[popped]:
            self.lists[popped].append(self.lists[key].pop(0))
        if (self.lists[key] or self.lists[popped]) and part is not None and not part.process.is_dead:
            self._world.loop.in_world(AGAIN_SECONDS, self._offer, key)

    def take_lists(self, taken: str, places: Sequence[str]) -> list[bytes]:
        """What the product's script does."""
        for place in places:
            self.lists[taken] += self.lists.pop(place, [])
        return list(self.lists[taken])

    # --- the control queue ---

    def enqueue_many(self, messages: Any) -> None:
        """Raises MessagesNotSent."""
        world, messages = self._world, list(messages)
        if world.loop.time() < self.away_until or world.chance(0.02):
            certain = world.draw.random() < 0.6
            if not certain and world.draw.random() < 0.5:
                self._carry(messages)
            raise MessagesNotSent("the broker is away", certain=certain, messages=messages)
        self._carry(messages)

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
                    self.carried.append((now + AGAIN_SECONDS, each[1], each[2]))
            if not self.carried:
                await world.something_carried()

    def _carry(self, messages: Sequence[Message[Any]]) -> None:
        world = self._world
        for message in messages:
            for _ in range(1 if world.is_calm else world.draw.choices((0, 1, 2), (3, 93, 4))[0]):
                late = world.delay() if world.draw.random() < 0.97 else 40.0 * world.draw.random()
                self._count += 1
                self.carried.append((world.loop.time() + late, self._count, message))
        world.ring()

    def _deliver(self, message: Message[Any]) -> bool:
        able = [each for each in self._world.workers if each.has_room(message.queue_name)]
        if not able:
            return False
        self._world.draw.choice(able).take(message)
        return True


def pops(part: WorkerPart, kind: str) -> bool:
    """Whether a worker process pops this list now."""
    return part.process.frozen_until <= part.world.loop.time() and would_pop(part, kind)


def would_pop(part: WorkerPart, kind: str) -> bool:
    """Whether it does so when it is not frozen; then it may wait in a pop."""
    if not part.is_up or part.is_ending or part.process.is_dead or part.worker.draining:
        return False
    assert kind in KINDS
    return kind != TASKS or part.worker._has_room.is_set()


def work_of(part: WorkerPart, message: Message[Any]) -> Coroutine[Any, Any, None] | None:
    """What the actor of a message does; None for one that is not followed here."""
    return cancel_jobs(part.worker, message.args[0]) if message.actor_name == "cancel_remote" else None


ROOM = CONTROL_THREADS  # messages of the control queue in a process at once
TIME_LIMIT_SECONDS = 60.0  # after which dramatiq interrupts an actor
