"""One consumer, called by hand: the messages that it holds, acknowledges and gives back, and how it waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from queue import PriorityQueue
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed

from actors.broker import consumer as consumer_module
from actors.broker.broker import DarkroomBroker
from actors.broker.consumer import WaitingConsumer
from actors.broker.list_wait import ListWait
from supervisor.broker.broker_client import open_client
from supervisor.database.interface.wakeups import readable
from tests.support.servers.broker_server import BrokerServer, darkroom_broker, hint


@pytest.fixture
def server(running_server: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> BrokerServer:
    running_server.flush()
    monkeypatch.setattr(consumer_module, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "LOCAL_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "IDLE_SECONDS", 0.01)
    monkeypatch.setattr(consumer_module, "RETRY_SECONDS", 0.01)
    return running_server


@pytest.fixture
def broker(server: BrokerServer) -> DarkroomBroker:
    return darkroom_broker(server)


@pytest.fixture
def replica(server: BrokerServer) -> Iterator[redis.Redis]:
    """The server, demoted: it answers every write with READONLY."""
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        yield client
        client.replicaof("NO", "ONE")


def stock_broker(server: BrokerServer) -> RedisBroker:
    return RedisBroker(client=open_client(server.address), middleware=[])


def received(consumer: Any, *, calls: int = 3) -> list[str]:
    """The names of the messages that it hands over in a number of calls."""
    messages = [next(consumer) for _ in range(calls)]
    return [message.args[0] for message in messages if message is not None]


def next_message(consumer: Any) -> MessageProxy:
    """The next message, which must be there."""
    for _ in range(5):
        message = next(consumer)
        if message is not None:
            assert isinstance(message, MessageProxy)
            return message
    raise AssertionError("no message")


def leases(broker: RedisBroker) -> int:
    client: Any = broker.client
    return int(client.scard(f"dramatiq:__acks__.{broker.broker_id}.tasks"))


def waiting(broker: RedisBroker) -> int:
    client: Any = broker.client
    return int(client.llen("dramatiq:tasks"))


def payloads(broker: RedisBroker) -> int:
    client: Any = broker.client
    return int(client.hlen("dramatiq:tasks.msgs"))


def forget_time(consumer: WaitingConsumer) -> None:
    """Everything that is done by the clock is due."""
    consumer._reconcile_at = consumer._tidy_at = 0.0


# --- prefetch ---


def test_a_consumer_takes_at_most_its_prefetch_including_running_ones(broker):
    broker.enqueue_many(hint(name) for name in "abc")
    consumer = broker.consume("tasks", prefetch=2)
    first, second = next_message(consumer), next_message(consumer)
    assert received(consumer) == []
    assert waiting(broker) == 1
    consumer.ack(first)
    assert received(consumer) == ["c"]
    consumer.ack(second)


def test_a_new_consumer_counts_what_the_old_one_left_running(broker):
    broker.enqueue_many(hint(name) for name in "abc")
    old = broker.consume("tasks", prefetch=2)
    next_message(old), next_message(old)
    old.close()
    assert received(broker.consume("tasks", prefetch=2)) == []
    assert waiting(broker) == 1


def test_stock_a_new_consumer_hoards_a_second_prefetch(server):
    """Characterisation: after any consumer error a process holds twice its prefetch."""
    broker = stock_broker(server)
    for name in "abc":
        broker.enqueue(hint(name))
    old = broker.consume("tasks", prefetch=2, timeout=1)
    next_message(old), next_message(old)
    assert received(broker.consume("tasks", prefetch=2, timeout=1), calls=1) == ["c"]


def test_the_control_queue_has_its_own_prefetch(broker):
    broker.enqueue_many(hint(name, queue="control") for name in "abc")
    assert received(broker.consume("control", prefetch=16), calls=4) == ["a", "b"]


# --- acknowledgements ---


def test_an_acknowledgement_goes_out_with_the_next_fetch(broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    consumer.ack(next_message(consumer))
    next(consumer)
    assert (leases(broker), payloads(broker)) == (0, 0)


def test_a_message_that_could_not_be_done_goes_to_the_end_of_its_queue(broker):
    consumer = broker.consume("tasks", prefetch=1)
    broker.enqueue_many([hint("waits"), hint("next")])
    message = next_message(consumer)
    broker.give_back(message)
    assert (leases(broker), waiting(broker)) == (1, 1), (
        "it is leased to us until the broker has our acknowledgement"
    )
    consumer.ack(message)  # as dramatiq does after every message
    after = next_message(consumer)
    assert after.args[0] == "next"
    assert (leases(broker), waiting(broker), payloads(broker)) == (1, 1, 2), "nothing was acknowledged"
    consumer.ack(after)
    again = next_message(consumer)
    assert again.message_id == message.message_id
    consumer.ack(again)
    consumer.close()
    assert payloads(broker) == 0


def test_a_message_that_is_given_back_while_the_broker_is_away_is_not_lost(server, broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    message = next_message(consumer)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        broker.give_back(message)
        consumer.ack(message)
        assert received(consumer) == []
        assert leases(broker) == 1
        client.replicaof("NO", "ONE")
    assert next_message(consumer).message_id == message.message_id


def test_an_acknowledgement_never_fails_and_is_paid_when_the_broker_is_back(server, broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    message = next_message(consumer)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        consumer.ack(message)
        assert received(consumer) == []
        assert leases(broker) == 1
        client.replicaof("NO", "ONE")
    assert received(consumer) == []
    assert (leases(broker), payloads(broker), waiting(broker)) == (0, 0, 0)


def test_stock_an_acknowledgement_to_a_replica_raises_what_dramatiq_takes_for_a_bug(server):
    """Characterisation: dramatiq then drops the acknowledgement, and the job runs again."""
    broker = stock_broker(server)
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1, timeout=1)
    message = next_message(consumer)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(redis.ReadOnlyError):
                consumer.ack(message)
        finally:
            client.replicaof("NO", "ONE")


def test_a_closing_consumer_sends_its_pending_acknowledgements(broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    consumer.ack(next_message(consumer))
    consumer.close()
    assert leases(broker) == 0


def test_a_doubled_message_is_delivered_twice_and_leaves_nothing_behind(broker):
    (sent,) = broker.enqueue_many([hint("a")])
    broker.client.rpush("dramatiq:tasks", sent.options["redis_message_id"])
    consumer = broker.consume("tasks", prefetch=2)
    twins = [next_message(consumer), next_message(consumer)]
    assert [twin.message_id for twin in twins] == [sent.message_id] * 2
    for twin in twins:
        consumer.ack(twin)
    next(consumer)
    assert (leases(broker), payloads(broker), waiting(broker)) == (0, 0, 0)


def test_the_twin_of_an_acknowledged_message_is_passed_over(broker):
    (sent,) = broker.enqueue_many([hint("a")])
    broker.client.rpush("dramatiq:tasks", sent.options["redis_message_id"])
    consumer = broker.consume("tasks", prefetch=1)
    consumer.ack(next_message(consumer))
    assert received(consumer) == []
    assert (leases(broker), waiting(broker)) == (0, 0)


# --- messages lost on their way here ---


def test_a_message_whose_fetch_reply_was_lost_is_delivered_after_all(broker):
    broker.enqueue(hint("a"))
    broker.do_fetch("tasks", 1)  # leased to this process, which does not know
    assert (leases(broker), waiting(broker)) == (1, 0)
    assert received(broker.consume("tasks", prefetch=1)) == ["a"]


def test_a_message_lost_in_an_outage_is_delivered_when_the_broker_is_back(server, broker):
    consumer = broker.consume("tasks", prefetch=1)
    assert received(consumer) == []
    broker.enqueue(hint("a"))
    broker.do_fetch("tasks", 1)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        assert received(consumer) == []
        client.replicaof("NO", "ONE")
    assert received(consumer) == ["a"]


def test_stock_a_message_whose_fetch_reply_was_lost_is_never_delivered(server):
    """Characterisation: it stays leased to a living process."""
    broker = stock_broker(server)
    broker.enqueue(hint("a"))
    broker.do_fetch("tasks", 1)
    assert received(broker.consume("tasks", prefetch=1, timeout=1), calls=20) == []
    assert (leases(broker), waiting(broker)) == (1, 0)


def test_running_and_owed_messages_are_not_taken_for_lost(server, broker):
    broker.enqueue_many(hint(name) for name in "ab")
    consumer = broker.consume("tasks", prefetch=2)
    next_message(consumer)
    consumer.ack(next_message(consumer))
    forget_time(consumer)
    assert received(consumer) == []
    assert (leases(broker), waiting(broker)) == (1, 0)


def test_an_unreadable_message_is_set_aside_and_blocks_no_other(broker):
    (bad, _) = broker.enqueue_many([hint("bad"), hint("good")])
    broker.client.hset("dramatiq:tasks.msgs", bad.options["redis_message_id"], b"\xff not a message")
    consumer = broker.consume("tasks", prefetch=2)
    assert received(consumer, calls=4) == ["good"]
    assert broker.client.zcard("dramatiq:tasks.XQ") == 1
    assert (leases(broker), waiting(broker)) == (1, 0)


def test_a_dead_process_s_messages_go_back(server):
    dead = darkroom_broker(server)
    dead.enqueue(hint("a"))
    next_message(dead.consume("tasks", prefetch=1))
    alive = darkroom_broker(server)
    alive.heartbeat_timeout = -1  # every process without a beat in this very millisecond is dead
    assert received(alive.consume("tasks", prefetch=1)) == ["a"]


# --- heartbeats ---


def heartbeat(broker: RedisBroker) -> float | None:
    client: Any = broker.client
    score = client.zscore("dramatiq:__heartbeats__", broker.broker_id)
    return None if score is None else float(score)


def test_a_full_consumer_still_says_that_it_lives(broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    next_message(consumer)
    broker.client.delete("dramatiq:__heartbeats__")
    assert received(consumer) == []
    assert heartbeat(broker) is None  # not due yet: it need not talk all the time
    forget_time(consumer)
    assert received(consumer) == []
    assert heartbeat(broker) is not None


def test_stock_a_full_consumer_falls_silent(server):
    """Characterisation: after a minute others take it for dead and run its jobs again."""
    broker = stock_broker(server)
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1, timeout=1)
    next_message(consumer)
    client: Any = broker.client
    client.delete("dramatiq:__heartbeats__")
    assert received(consumer, calls=20) == []
    assert heartbeat(broker) is None


# --- giving back ---


def test_requeued_messages_wait_for_others(broker):
    broker.enqueue_many(hint(name) for name in "ab")
    consumer = broker.consume("tasks", prefetch=2)
    messages = [next_message(consumer), next_message(consumer)]
    consumer.requeue(messages)
    assert (waiting(broker), leases(broker)) == (2, 0)


def test_a_failed_requeue_is_a_closed_connection(server, broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    message = next_message(consumer)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(ConnectionClosed):
                consumer.requeue([message])
        finally:
            client.replicaof("NO", "ONE")
    forget_time(consumer)
    assert received(consumer) == ["a"]  # nothing is lost: it was an orphan, and came back


def test_stock_a_failed_requeue_is_an_error_that_kills_the_consumer_thread(server):
    """Characterisation: it is raised where dramatiq catches only BrokerConnectionError."""
    broker = stock_broker(server)
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1, timeout=1)
    message = next_message(consumer)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(redis.ReadOnlyError):
                consumer.requeue([message])
        finally:
            client.replicaof("NO", "ONE")


def test_a_closing_consumer_gives_back_undelivered_messages(broker):
    broker.enqueue_many(hint(name) for name in "abc")
    consumer = broker.consume("tasks", prefetch=3)
    next_message(consumer)
    consumer.close()
    assert (waiting(broker), leases(broker)) == (2, 1)


# --- draining ---


def test_a_draining_consumer_takes_nothing_and_gives_back_unstarted_messages(broker):
    broker.enqueue_many(hint(name) for name in "abc")
    consumer = broker.consume("tasks", prefetch=3)
    running, unstarted = next_message(consumer), next_message(consumer)
    work_queue: PriorityQueue[Any] = PriorityQueue()
    work_queue.put(SimpleNamespace(message=unstarted))
    thread = SimpleNamespace(requeue_messages=consumer.requeue, consumer=consumer)
    broker.begin_work(SimpleNamespace(work_queue=work_queue, consumers={"tasks": thread}))
    broker.begin_drain()
    broker.enqueue(hint("d"))
    assert received(consumer) == []
    assert (waiting(broker), leases(broker)) == (3, 1)  # b at once, c by the consumer, d never fetched
    consumer.ack(running)
    next(consumer)
    assert leases(broker) == 0


def test_a_drain_that_begins_while_a_consumer_waits_leaves_the_message_to_others(broker):
    consumer = broker.consume("tasks", prefetch=1)

    def until_filled(key: str, seconds: float) -> bool:
        broker.draining.set()
        return True

    broker.enqueue(hint("a"))
    consumer._wait.until_filled = until_filled
    assert received(consumer, calls=1) == []
    assert (waiting(broker), leases(broker)) == (1, 0)


# --- waiting ---


def test_a_wait_takes_nothing_out_of_the_list_and_keeps_its_order(server):
    broker = darkroom_broker(server)
    sent = broker.enqueue_many(hint(name) for name in "abc")
    wait = ListWait(open_client(server.address))
    assert wait.until_filled("dramatiq:tasks", 5.0)
    wait.close()
    with server.client() as client:
        order = [member.decode() for member in client.lrange("dramatiq:tasks", 0, -1)]
    assert order == [message.options["redis_message_id"] for message in sent]


def test_a_wait_ends_at_an_interrupt_even_at_an_earlier_one(server):
    wait = ListWait(open_client(server.address))
    wait.interrupt()
    began = time.monotonic()
    assert not wait.until_filled("dramatiq:tasks", 60.0)
    assert time.monotonic() - began < 30
    darkroom_broker(server).enqueue(hint("a"))
    assert wait.until_filled("dramatiq:tasks", 60.0), "it was for one wait only"
    wait.close()


def test_a_wait_after_an_idle_connection_was_closed_has_another(server):
    with server.client() as client:
        client.config_set("timeout", 1)
    wait = ListWait(open_client(server.address))
    try:
        assert not wait.until_filled("dramatiq:tasks", 0.01)
        assert readable((wait._connection._sock.fileno(),), 90), "the server has closed it"
        darkroom_broker(server).enqueue(hint("a"))
        assert wait.until_filled("dramatiq:tasks", 60.0)
    finally:
        wait.close()
        with server.client() as client:
            client.config_set("timeout", 0)


def test_a_message_of_a_stock_producer_is_found_at_once(server, broker, monkeypatch):
    monkeypatch.setattr(consumer_module, "WAIT_SECONDS", 60)
    monkeypatch.setattr(consumer_module, "LOCAL_WAIT_SECONDS", 60)
    consumer = broker.consume("tasks", prefetch=1)
    later = threading.Timer(0.2, stock_broker(server).enqueue, [hint("a")])
    later.start()
    began = time.monotonic()
    assert received(consumer, calls=1) == ["a"]
    assert time.monotonic() - began < 30
    later.join()


def test_an_acknowledgement_is_sent_while_no_message_comes(broker):
    consumer = broker.consume("tasks", prefetch=2)
    broker.enqueue(hint("a"))
    message = next_message(consumer)
    assert received(consumer, calls=2) == []
    consumer.ack(message)
    assert leases(broker) == 1
    assert received(consumer, calls=1) == []
    assert leases(broker) == 0


# --- an absent broker ---


def test_a_consumer_outlives_the_server_and_works_on(server, broker):
    consumer = broker.consume("tasks", prefetch=1)
    assert received(consumer) == []
    server.stop()
    try:
        assert received(consumer) == []
    finally:
        server.start()
    broker.enqueue(hint("a"))
    assert received(consumer) == ["a"]


def test_an_emptied_server_is_no_trouble_for_what_runs(server, broker):
    broker.enqueue(hint("a"))
    consumer = broker.consume("tasks", prefetch=1)
    running = next_message(consumer)
    server.flush()
    consumer.ack(running)
    broker.enqueue(hint("b"))
    assert received(consumer) == ["b"]
    assert leases(broker) == 1


def test_a_delayed_message_is_still_delivered(broker):
    broker.enqueue(hint("a"), delay=1)
    assert received(broker.consume("tasks.DQ", prefetch=10)) == ["a"]
