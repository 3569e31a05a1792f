"""The broker: Dramatiq's Redis broker, changed to survive its server's outages and to start a job at once.

It carries messages that may be lost, doubled or late without harm: orders of Dramatiq producers, ticks, cancels of
remote jobs and webhooks.  Tasks themselves use other lists (`supervisor.broker.claim_lists`).  It must never happen
that a process looks alive but runs nothing, that a send hangs, or that messages stay where no process works on them.
So:

- built without an address, it opens nothing at import; the first use sets its address (`settle`);
- a consumer with a free slot waits at its queue's list (`actors.broker.list_wait`): a message of any producer reaches
an idle worker within a millisecond.  All idle consumers of the queue wake, and one of them gets it;
- a failed send says whether it certainly failed (`MessagesNotSent`);
- each consumer sends the server a sign of life of its process every few seconds, and looks for dead processes.

Not promised: order and exactly one delivery.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from queue import PriorityQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
from dramatiq import Message, Middleware
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.common import current_millis, dq_name, iter_queue
from dramatiq.errors import BrokerConnectionError, ConnectionClosed
from redis.commands.core import Script
from redis.exceptions import NoScriptError

from actors.broker.consumer import BROKER_AWAY, DelayConsumer, WaitingConsumer, is_delayed
from actors.broker.unacked import UnackedMessages

if TYPE_CHECKING:
    from dramatiq.worker import ConsumerThread, Worker

log = logging.getLogger(__name__)

TASK_QUEUE = (
    # our programs no longer use it; other programs' messages are refused (`actors.entry.task_actors`)
    "tasks"
)
CONTROL_QUEUE = "control"
CONTROL_THREADS = 2  # of a process; tasks run on its event loop and need none
REFUSING_THREADS = 1
HEARTBEAT_TIMEOUT_MS = 60_000  # after this time the server treats a silent process as dead


class BrokerNotSettled(RuntimeError):
    """The broker was used before it had an address.  Give `DarkroomBroker` a `settle`, or call `configure` first."""


class MessagesNotSent(ConnectionClosed):
    """Messages may not have reached the broker.

    certain: none of `messages` will ever be delivered.  Otherwise some of them may be.
    """

    def __init__(self, reason: object, *, certain: bool, messages: Sequence[Message[Any]] = ()) -> None:
        doubt = "were not sent" if certain else "may not have been sent"
        super().__init__(f"{len(messages)} messages {doubt}: {reason}")  # type: ignore[no-untyped-call]
        self.certain, self.messages = certain, tuple(messages)


class DarkroomBroker(RedisBroker):
    """See the module.  settle: called once, with this broker, by the first use; it must call `configure`."""

    # Half the Lua stack; the stock broker queries the server at first use, which is one more call that can fail.
    _max_unpack_size_val: Any = 1000

    def __init__(
        self,
        *,
        middleware: list[Middleware],
        settle: Callable[[DarkroomBroker], None] | None = None,
        namespace: str = "dramatiq",
        heartbeat_timeout: int = HEARTBEAT_TIMEOUT_MS,
    ) -> None:
        self._settle = settle
        self._settling = threading.RLock()
        self._client: redis.Redis | None = None
        self._waiting_client_factory: Callable[[], redis.Redis] | None = None
        self._slots: int | None = None
        self._leases: defaultdict[str, UnackedMessages] = defaultdict(UnackedMessages)
        self._worker: Worker | None = None
        self.draining = threading.Event()
        super().__init__(  # type: ignore[no-untyped-call]
            client=_Unsettled(),
            middleware=middleware,
            namespace=namespace,
            heartbeat_timeout=heartbeat_timeout,
            maintenance_chance=0,  # never at random: consumers do it at intervals (`tidy`)
        )
        self._client = None

    # --- settling ---

    def configure(
        self, *, client: redis.Redis, waiting_client_factory: Callable[[], redis.Redis], slots: int
    ) -> None:
        """Set the server's address.  Opens nothing.

        client: for all calls.  waiting_client_factory: a client for each consumer, as a wait holds its
        connection.  Both: no retries.  slots: messages at once in a
        process, beside those of the control queue.
        """
        with self._settling:
            self._waiting_client_factory, self._slots = waiting_client_factory, slots
            self.scripts = {
                name: client.register_script(script.script) for name, script in self.scripts.items()
            }
            self._client = client

    @property
    def client(self) -> redis.Redis:
        """The client for all calls but the consumers' waits.  Raises BrokerNotSettled."""
        self._settle_once()
        assert self._client is not None
        return self._client

    @client.setter
    def client(self, client: redis.Redis) -> None:
        self._client = client

    @property
    def slots(self) -> int:
        """How many messages a process runs at once, besides those of the control queue.  Raises BrokerNotSettled."""
        self._settle_once()
        assert self._slots is not None
        return self._slots

    def new_waiting_client(self) -> redis.Redis:
        """A client for the waits of one consumer.  Raises BrokerNotSettled."""
        self._settle_once()
        assert self._waiting_client_factory is not None
        return self._waiting_client_factory()

    def take_new_id(self) -> None:
        """From now on this is another consumer to the server."""
        self.broker_id = str(uuid4())

    def _settle_once(self) -> None:
        if self._client is not None:
            return
        with self._settling:
            if self._client is None and self._settle is not None:
                self._settle(self)
            if self._client is None:
                raise BrokerNotSettled("The broker was used before it had its server's address.")

    # --- sending ---

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Send one message.  delay: milliseconds, kept only to the half minute.  Raises MessagesNotSent."""
        if delay is not None:
            eta = {"eta": current_millis() + delay}
            message = message.copy(queue_name=dq_name(message.queue_name), options=eta)
        return self._enqueue([message], delay)[0]

    def enqueue_many(self, messages: Iterable[Message[Any]]) -> list[Message[Any]]:
        """Send them all in one round trip, in order.  Raises MessagesNotSent."""
        return self._enqueue(messages, None)

    def _enqueue(self, messages: Iterable[Message[Any]], delay: int | None) -> list[Message[Any]]:
        # An id for this delivery only: the same message may be sent again.
        sent = [message.copy(options={"redis_message_id": str(uuid4())}) for message in messages]
        for message in sent:
            self.emit_before("enqueue", message, delay)
        self._send(sent)
        for message in sent:
            self.emit_after("enqueue", message, delay)
        return sent

    def _send(self, messages: list[Message[Any]]) -> None:
        refused = self._post(messages)
        if any(isinstance(reply, NoScriptError) for _, reply in refused):
            # A new or emptied server: these calls were not run.
            refused = self._post([message for message, _ in refused], load_script=True)
        if refused:  # refused by the server: a replica, out of memory, no permission
            raise MessagesNotSent(refused[0][1], certain=True, messages=[message for message, _ in refused])

    def _post(
        self, messages: list[Message[Any]], *, load_script: bool = False
    ) -> list[tuple[Message[Any], Exception]]:
        """Send.  Returns the messages that the server refused, with its reason.  Raises MessagesNotSent."""
        dispatch = self.scripts["dispatch"]
        with self.client.pipeline(transaction=False) as pipe:
            try:
                pipe.connection = self.client.connection_pool.get_connection()
            except BROKER_AWAY as error:  # not even connected
                raise MessagesNotSent(error, certain=True, messages=messages) from error
            if load_script:
                pipe.script_load(dispatch.script)
            for message in messages:
                arguments = self._arguments("enqueue", message.queue_name)
                arguments += [message.options["redis_message_id"], message.encode()]
                pipe.evalsha(dispatch.sha, 1, self.namespace, *arguments)
            try:
                replies = pipe.execute(raise_on_error=False)[int(load_script) :]
            except BROKER_AWAY as error:
                raise MessagesNotSent(error, certain=False, messages=messages) from error
        replied = zip(messages, replies, strict=True)
        return [(message, reply) for message, reply in replied if isinstance(reply, Exception)]

    def queue_key(self, queue_name: str) -> str:
        """The list of this queue's waiting messages."""
        return f"{self.namespace}:{queue_name}"

    # --- consuming ---

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A consumer of this queue.  The control queue has its own prefetch, whatever the worker says."""
        leases = self._leases[queue_name]
        if is_delayed(queue_name):
            return DelayConsumer(self, queue_name, prefetch, leases)
        return WaitingConsumer(
            self, queue_name, CONTROL_THREADS if queue_name == CONTROL_QUEUE else prefetch, leases
        )

    def exchange(
        self, queue_name: str, owed: list[tuple[str, str]], room: int
    ) -> tuple[list[str], list[bytes | None]]:
        """Acknowledge and fetch in one round trip.

        owed: (message id, `ack`, `nack` or `requeue`).  room: how many messages to fetch.  Returns the ids that the
        server has acknowledged, and the encoded messages.
        """
        calls = [[*self._arguments(command, queue_name), message_id] for message_id, command in owed]
        calls.append([*self._arguments("fetch", queue_name), room])
        *told, fetched = self._run(calls)
        if isinstance(fetched, Exception):
            raise fetched
        done = zip(owed, told, strict=True)
        return [message_id for (message_id, _), reply in done if not isinstance(reply, Exception)], fetched

    def _run(self, calls: list[list[Any]]) -> list[Any]:
        """The dispatch script once for each call, in one round trip.  Replies may be exceptions."""
        replies = self._run_loaded(calls)
        if any(
            isinstance(reply, NoScriptError) for reply in replies
        ):  # a new or emptied server: nothing was run
            replies = self._run_loaded(calls, load=True)
        return replies

    def _run_loaded(self, calls: list[list[Any]], *, load: bool = False) -> list[Any]:
        dispatch = self.scripts["dispatch"]
        with self.client.pipeline(transaction=False) as pipe:
            if load:
                pipe.script_load(dispatch.script)
            for arguments in calls:
                pipe.evalsha(dispatch.sha, 1, self.namespace, *arguments)
            return pipe.execute(raise_on_error=False)[int(load) :]

    def give_back(self, message: Message[Any]) -> None:
        """Called by an actor that can't do its work for now, before it returns: the message goes to the end of the
        queue.

        The consumer puts it there at its next call of the server.  It is never lost in between: if this process dies
        first, the message returns like every other unacknowledged one.
        """
        self._leases[message.queue_name].give_back(message.options["redis_message_id"])

    def tidy(self, queue_name: str) -> None:
        """Send a sign of life to the server, and return dead processes' messages to this queue."""
        self.scripts["dispatch"](
            keys=[self.namespace], args=[*self._arguments("fetch", queue_name, tidy=True), 0]
        )

    def leased_to_us(self, queue_name: str) -> list[str]:
        """Ids of this queue's messages that this process has, according to the server."""
        members: Any = self.client.smembers(f"{self.namespace}:__acks__.{self.broker_id}.{queue_name}")
        return [member.decode() for member in members]

    def payloads(self, queue_name: str, message_ids: list[str]) -> list[bytes | None]:
        """The encoded messages; None for a deleted one."""
        found: Any = self.client.hmget(f"{self.namespace}:{queue_name}.msgs", message_ids)
        return list(found)

    def _dispatch(self, command: str) -> Callable[..., Any]:
        self._settle_once()
        dispatch = super()._dispatch(command)  # type: ignore[no-untyped-call]
        return dispatch  # type: ignore[no-any-return]

    def _arguments(self, command: str, queue_name: str, *, tidy: bool = False) -> list[Any]:
        """The first eight arguments of dispatch.lua."""
        return [
            command,
            current_millis(),
            queue_name,
            self.broker_id,
            self.heartbeat_timeout,
            self.dead_message_ttl,
            int(tidy),
            self._max_unpack_size_val,
        ]

    # --- draining ---

    def begin_work(self, worker: Worker) -> None:
        """Start consuming with this worker."""
        self._worker = worker
        self.draining.clear()

    def begin_drain(self) -> None:
        """Fetch nothing more, and give back fetched messages that were not started.  Running ones go on."""
        self.draining.set()
        if self._worker is not None:
            for thread in self._worker.consumers.values():
                if isinstance(thread.consumer, WaitingConsumer):
                    thread.consumer.interrupt()
        self.give_back_unstarted()

    def give_back_unstarted(self) -> None:
        """Return the messages that wait for a thread in this process.

        Called by begin_drain, and by each consumer when it notices the drain: it may just have handed over one more.
        """
        if self._worker is None:
            return
        unstarted: defaultdict[str, list[MessageProxy]] = defaultdict(list)
        work_queue: PriorityQueue[Any] = self._worker.work_queue
        for item in iter_queue(work_queue):  # type: ignore[no-untyped-call]
            unstarted[item.message.queue_name].append(item.message)
            work_queue.task_done()
        for queue_name, messages in unstarted.items():
            thread: ConsumerThread = self._worker.consumers[queue_name]
            try:
                thread.requeue_messages(messages)
            except BrokerConnectionError as error:
                log.warning(
                    "%d unstarted messages of %s could not be given back, and will be sent again: %s",
                    len(messages), queue_name, error,
                )  # fmt: skip

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()


class _Unsettled:
    """Replaces the client while the stock constructor runs: it keeps scripts and sends nothing."""

    def register_script(self, script: bytes) -> Script:
        return Script(self, script)  # type: ignore[arg-type]
