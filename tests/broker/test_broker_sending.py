"""Sending: no connection before the first use, one round trip, and failures with a clear sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import BrokerConnectionError

from actors.broker.broker import BrokerNotSettled, DarkroomBroker, MessagesNotSent
from supervisor.broker.broker_client import open_client
from tests.support.servers.broker_server import BrokerServer, broker_server, darkroom_broker, hint


def waiting(server: BrokerServer, queue: str = "tasks") -> int:
    with server.client() as client:
        return int(client.llen(f"dramatiq:{queue}"))


# --- settling ---


def test_a_broker_opens_nothing_until_it_is_used():
    uses: list[DarkroomBroker] = []
    broker = DarkroomBroker(settle=uses.append, middleware=[])
    broker.declare_queue("tasks")
    assert not uses


def test_a_broker_without_an_address_says_so():
    with pytest.raises(BrokerNotSettled, match="before it had its server's address"):
        DarkroomBroker(middleware=[]).enqueue(hint("a"))


def test_the_first_use_settles_once(server):
    uses: list[DarkroomBroker] = []

    def settle(broker: DarkroomBroker) -> None:
        uses.append(broker)
        broker.configure(
            client=open_client(server.address),
            waiting_client_factory=lambda: open_client(server.address),
            slots=7,
        )

    broker = DarkroomBroker(settle=settle, middleware=[])
    broker.enqueue(hint("a"))
    broker.enqueue(hint("b"))
    assert (len(uses), broker.slots, waiting(server)) == (1, 7, 2)


# --- sending ---


@pytest.fixture
def own_server() -> Iterator[BrokerServer]:
    """A server that counts the reads of one test: it counts the end of an earlier test's connection as a read too."""
    with broker_server() as running:
        yield running


def reads_of_the_server(client: redis.Redis) -> int:
    stats: Any = client.info("stats")
    return int(stats["total_reads_processed"])


def test_a_message_is_one_round_trip(own_server):
    broker = darkroom_broker(own_server)
    broker.enqueue(hint("warm: connected, script loaded"))
    with own_server.client() as observer:
        before = reads_of_the_server(observer)
        broker.enqueue(hint("a"))
        assert reads_of_the_server(observer) - before - 1 == 1  # less the observer's own


def test_many_messages_are_one_round_trip_and_keep_their_order(own_server):
    broker = darkroom_broker(own_server)
    broker.enqueue(hint("warm"))
    with own_server.client() as observer:
        before = reads_of_the_server(observer)
        sent = broker.enqueue_many(hint(str(n)) for n in range(10))  # below the client's 6 kB per write
        assert reads_of_the_server(observer) - before - 1 == 1
        order = [member.decode() for member in observer.lrange("dramatiq:tasks", 1, -1)]
    assert order == [message.options["redis_message_id"] for message in sent]


def test_a_server_that_forgot_the_script_gets_each_message_once(server):
    broker = darkroom_broker(server)
    broker.enqueue(hint("warm"))
    with server.client() as client:
        client.script_flush()
    broker.enqueue_many([hint("a"), hint("b")])
    assert waiting(server) == 3


# --- failing ---


def test_a_send_while_the_broker_is_down_fails_at_once_and_certainly(server):
    broker = darkroom_broker(server)
    broker.enqueue(hint("warm: its connection is in the pool"))
    server.stop()
    try:
        began = time.monotonic()
        with pytest.raises(MessagesNotSent) as caught:
            broker.enqueue_many([hint("a"), hint("b")])
        assert time.monotonic() - began < 3  # stock: 4 s and more of retries
        assert caught.value.certain
        assert [message.args for message in caught.value.messages] == [("a",), ("b",)]
        assert isinstance(caught.value, BrokerConnectionError)  # what dramatiq itself expects
    finally:
        server.start()
    broker.enqueue(hint("c"))
    assert waiting(server) == 1


def test_a_send_works_at_once_after_a_restart(server):
    broker = darkroom_broker(server)
    broker.enqueue(hint("warm"))
    server.restart()
    broker.enqueue(hint("a"))
    assert waiting(server) == 1


def test_a_replica_refuses_for_certain(server):
    broker = darkroom_broker(server)
    broker.enqueue(hint("warm"))
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(MessagesNotSent) as caught:
                broker.enqueue(hint("a"))
        finally:
            client.replicaof("NO", "ONE")
    assert caught.value.certain
    assert waiting(server) == 1


def test_a_full_broker_refuses_for_certain(server):
    broker = darkroom_broker(server)
    broker.enqueue(hint("warm"))
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(MessagesNotSent) as caught:
                broker.enqueue(hint("a"))
        finally:
            client.config_set("maxmemory", 0)
    assert caught.value.certain
    assert waiting(server) == 1


def test_stock_a_send_to_a_replica_is_a_redis_error_that_dramatiq_does_not_know(server):
    """Characterisation."""
    broker = RedisBroker(client=open_client(server.address), middleware=[])
    broker.enqueue(hint("warm"))
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(redis.ReadOnlyError):
                broker.enqueue(hint("a"))
        finally:
            client.replicaof("NO", "ONE")
