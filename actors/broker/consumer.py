"""Consumers: they wait at their queue's list, survive outages of the broker, and lose no fetched message.

One consumer serves one queue in one process, on one of dramatiq's threads, and makes all calls of the server: worker
threads only note acknowledgements, which are sent with the next fetch in one round trip, so no job waits for the
broker.
Each call of `__next__` ends within WAIT_SECONDS, or LOCAL_WAIT_SECONDS, while the broker is well, or about a second
after a stop; while it is frozen, some seconds later.

An absent broker is a state, not an error: dramatiq's own way (drop the consumer, wait 3 s, start a new one) loses
fetched messages and counts running jobs from zero.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import redis
from dramatiq import Message
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import ConnectionClosed, DecodeError

from actors.broker.list_wait import ListWait
from actors.broker.unacked import UnackedMessages
from supervisor.broker.broker_errors import in_words

log = logging.getLogger(__name__)

# All errors of the client: time-outs, refused connections, a replica's refusal, no memory.  All are handled alike.
BROKER_AWAY = (redis.RedisError, OSError)

WAIT_SECONDS = 8.0  # one wait at the list, while nothing of this queue is in the process
LOCAL_WAIT_SECONDS = 20.0  # the same at a server that tells its end; two signs of life may still be lost
BUSY_SECONDS = 1.0  # the same while something is: also how late its acknowledgement may be sent
IDLE_SECONDS = 1.0  # the sleep of a consumer in a drain; also how late it may notice the end
TIDY_SECONDS = 5.0  # the server treats us as dead after 60 s: several may fail
RECONCILE_SECONDS = 30.0
RECONCILE_AGAIN_SECONDS = 2.0  # a frozen server runs a timed-out fetch when it wakes, perhaps after our check
RETRY_SECONDS = 0.5
DELAYED_FETCH_SECONDS = 30.0


def is_delayed(queue_name: str) -> bool:
    """Whether this is a queue for messages with a delay; Darkroom sends none."""
    return queue_name.endswith(".DQ")


class Server(Protocol):
    """The methods that a consumer needs of its broker; `DarkroomBroker` describes them."""

    draining: threading.Event

    def new_waiting_client(self) -> redis.Redis: ...
    def queue_key(self, queue_name: str) -> str: ...
    def tidy(self, queue_name: str) -> None: ...
    def leased_to_us(self, queue_name: str) -> list[str]: ...
    def payloads(self, queue_name: str, message_ids: list[str]) -> list[bytes | None]: ...
    def give_back_unstarted(self) -> None: ...
    def do_requeue(self, queue_name: str, *message_ids: str) -> None: ...
    def exchange(
        self, queue_name: str, owed: list[tuple[str, str]], room: int
    ) -> tuple[list[str], list[bytes | None]]: ...


class WaitingConsumer(Consumer):
    """Consumes one queue.  prefetch: how many messages may be in this process, running ones included."""

    tidy_seconds = TIDY_SECONDS

    def __init__(self, broker: Server, queue_name: str, prefetch: int, leases: UnackedMessages) -> None:
        self.queue_name = queue_name
        self.prefetch = prefetch
        self._broker = broker
        self._leases = leases
        self._received: deque[MessageProxy] = deque()
        self._wait = ListWait(broker.new_waiting_client())
        self._tidy_at = self._reconcile_at = 0.0
        self._away_since: float | None = None

    # --- dramatiq's side ---

    def __next__(self) -> MessageProxy | None:
        try:
            if self._received and not self._broker.draining.is_set():
                return self._received.popleft()
            if self._away_since is not None:
                self._come_back()
            self._do_what_is_due()
            if self._broker.draining.is_set():
                self._idle_through_the_drain()
                return None
            self._wait_and_fetch()
            return self._received.popleft() if self._received else None
        except (*BROKER_AWAY, ConnectionClosed) as error:
            self._note_absence(error)
            time.sleep(RETRY_SECONDS)
            return None

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge it.  Never waits or fails: the next fetch sends it to the broker."""
        self._leases.owe(message.options["redis_message_id"], "ack")

    def nack(self, message: MessageProxy) -> None:
        """It can't be run here (its actor is unknown).  Like ack."""
        self._leases.owe(message.options["redis_message_id"], "nack")

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give them back.  Raises ConnectionClosed; then a later reconcile gives them back."""
        message_ids = [message.options["redis_message_id"] for message in messages]
        if not message_ids:
            return
        self._leases.release(message_ids)
        try:
            self._give_back(message_ids)
        except BROKER_AWAY as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Give back messages that were not passed on, send owed acknowledgements, and end.  Raises ConnectionClosed."""
        try:
            if self._away_since is None:
                self._give_back_received()
                self._pay()
        except BROKER_AWAY as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]
        finally:
            self._wait.close()

    def _give_back_received(self) -> None:
        messages, self._received = list(self._received), deque()
        self.requeue(messages)

    # --- waiting and fetching ---

    def interrupt(self) -> None:
        """End a wait: the drain has begun."""
        self._wait.interrupt()

    def _wait_and_fetch(self) -> None:
        if not self._leases.wait_until_fewer_than(self.prefetch, seconds=BUSY_SECONDS):
            return
        has_messages = self._wait.until_filled(self._broker.queue_key(self.queue_name), self._wait_seconds())
        if has_messages and not self._broker.draining.is_set():
            self._fetch()
        else:
            self._pay()

    def _wait_seconds(self) -> float:
        if self._leases.count() or self._leases.owed():
            return BUSY_SECONDS
        return LOCAL_WAIT_SECONDS if self._wait.tells_end else WAIT_SECONDS

    def _fetch(self) -> None:
        """Take as many messages as there is room for."""
        for payload in self._exchange(self.prefetch - self._leases.count()):
            message = _decoded(payload)
            if message is None:  # acknowledged elsewhere, or unreadable: reconcile handles both
                self._reconcile_at = 0.0
                continue
            self._leases.hold(message.options["redis_message_id"])
            self._received.append(MessageProxy(message))

    def _exchange(self, room: int) -> list[bytes | None]:
        """Send owed acknowledgements and fetch, in one round trip.  Both count as a heartbeat."""
        owed = self._leases.owed()
        told, payloads = self._broker.exchange(self.queue_name, owed, room)
        self._leases.pay(told)
        return payloads

    def _pay(self) -> None:
        if self._leases.owed():
            self._exchange(0)

    # --- upkeep ---

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if now >= self._tidy_at:
            self._broker.tidy(self.queue_name)
            self._tidy_at = now + self.tidy_seconds
        if now >= self._reconcile_at:
            self._reconcile()
            self._reconcile_at = now + RECONCILE_SECONDS

    def _reconcile(self) -> None:
        """Send owed acknowledgements; give back messages that the server leased to us but that never arrived."""
        self._pay()
        orphans = self._leases.orphans(self._broker.leased_to_us(self.queue_name))
        if not orphans:
            return
        for message_id, payload in zip(orphans, self._broker.payloads(self.queue_name, orphans), strict=True):
            if payload is not None and _decoded(payload) is None:
                log.error("Message %s on %s can't be read; it is set aside.", message_id, self.queue_name)
                self._broker.exchange(self.queue_name, [(message_id, "nack")], 0)
        log.warning(
            "%d messages of %s were lost on their way here and go back.", len(orphans), self.queue_name
        )
        self._give_back(orphans)

    def _note_absence(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("The broker does not serve %s: %s.", self.queue_name, in_words(error))

    def _come_back(self) -> None:
        self._reconcile()
        log.info("The broker serves %s again after %.1f s.", self.queue_name, self._absence_seconds())
        self._away_since = None
        self._reconcile_at = time.monotonic() + RECONCILE_AGAIN_SECONDS

    def _absence_seconds(self) -> float:
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    def _idle_through_the_drain(self) -> None:
        self._give_back_received()
        self._broker.give_back_unstarted()
        self._pay()
        time.sleep(IDLE_SECONDS)

    def _give_back(self, message_ids: list[str]) -> None:
        self._broker.do_requeue(self.queue_name, *message_ids)


class DelayConsumer(WaitingConsumer):
    """Consumes a queue of delayed messages.  Darkroom sends none, so it polls seldom and costs little."""

    tidy_seconds = DELAYED_FETCH_SECONDS

    def __init__(self, broker: Server, queue_name: str, prefetch: int, leases: UnackedMessages) -> None:
        super().__init__(broker, queue_name, prefetch, leases)
        # dramatiq loses its waiting delayed messages with the old consumer, so they must be returned
        leases.release_all()
        self._fetch_at = 0.0

    def _wait_and_fetch(self) -> None:
        now = time.monotonic()
        if now >= self._fetch_at and self._leases.count() < self.prefetch:
            self._fetch()
            self._fetch_at = now + DELAYED_FETCH_SECONDS
        self._pay()
        if not self._received:
            is_empty = not self._leases.count()  # with messages here, dramatiq must see when they are due
            self._wait.pause(max(IDLE_SECONDS, self._fetch_at - now) if is_empty else IDLE_SECONDS)


def _decoded(payload: bytes | None) -> Message[Any] | None:
    """The message, None if there is none or it can't be read."""
    if payload is None:
        return None
    try:
        message: Message[Any] = Message.decode(payload)
        return message if message.options["redis_message_id"] else None
    except (DecodeError, TypeError, KeyError, ValueError):
        return None
