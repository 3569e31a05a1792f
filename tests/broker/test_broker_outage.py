"""Real worker processes with a broker that is frozen, restarted or emptied; workers that lose a thread or are
stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from actors.broker.broker import MessagesNotSent
from actors.worker.watchdog import EXIT_STATUS
from supervisor.broker.broker_client import client_options
from tests.support.houses.broker_process import WorkerProcess, call, work
from tests.support.servers.broker_server import BrokerServer, darkroom_broker, hint
from tests.support.waiting import eventually

FROZEN_SECONDS = 15.0


@pytest.fixture
def start_process(server: BrokerServer, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts a worker process; it is gone at the end of the test."""
    started: list[WorkerProcess] = []

    def start(**options: Any) -> WorkerProcess:
        options.setdefault("namespace", "dramatiq")
        started.append(WorkerProcess(server, tmp_path, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def leases(server: BrokerServer, namespace: str = "dramatiq") -> int:
    """Messages of `tasks` that the broker believes are with a worker."""
    with server.client() as client:
        found: Any = client.keys(f"{namespace}:__acks__.*.tasks")
        return sum(int(client.scard(key)) for key in found)


def waiting(server: BrokerServer, namespace: str = "dramatiq") -> int:
    with server.client() as client:
        return int(client.llen(f"{namespace}:tasks"))


def stock_broker(server: BrokerServer, namespace: str, **options: Any) -> RedisBroker:
    """A stock producer.  options: over redis-py's own defaults."""
    path = client_options(server.address)["unix_socket_path"]
    return RedisBroker(
        client=redis.Redis(unix_socket_path=path, **options), middleware=[], namespace=namespace
    )


# --- frozen for fifteen seconds, while jobs finish ---


@dataclass
class Frozen:
    """The events while the broker was frozen for FROZEN_SECONDS."""

    server: BrokerServer
    ours: WorkerProcess
    stock: WorkerProcess
    send_failure: MessagesNotSent
    send_seconds: float
    doubled: int
    folder: Path


@pytest.fixture(scope="module")
def frozen(running_server: BrokerServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    server, folder = running_server, tmp_path_factory.mktemp("frozen")
    gate = folder / "gate"
    ours = WorkerProcess(server, folder, namespace="ours", slots=3)
    stock = WorkerProcess(server, folder, kind="stock", namespace="stock", slots=3)
    producer = darkroom_broker(server)
    producer.namespace = "ours"
    stock_producer = stock_broker(server, "stock")
    retrying = stock_broker(server, "retrying", socket_timeout=2)  # its retries, sooner
    try:
        retrying.enqueue(hint("warm"))
        for process, broker in ((ours, producer), (stock, stock_producer)):
            broker.enqueue(work("a", gate))
            broker.enqueue(work("b", gate))
            process.wait_for("start a")
            process.wait_for("start b")
        with server.frozen():
            thawed_at = time.monotonic() + FROZEN_SECONDS
            gate.touch()
            doubling = threading.Thread(target=_send_and_forget, args=(retrying,), daemon=True)
            doubling.start()
            began = time.monotonic()
            with pytest.raises(MessagesNotSent) as caught:
                producer.enqueue(work("during", gate))
            send_seconds = time.monotonic() - began
            for process in (ours, stock):
                process.wait_for("end a")
                process.wait_for("end b")
            eventually("fifteen seconds have passed", lambda: time.monotonic() >= thawed_at)
        doubling.join(60)
        doubled = waiting(server, "retrying") - 1  # less the first, which warmed its connection
        yield Frozen(server, ours, stock, caught.value, send_seconds, doubled, folder)
    finally:
        ours.kill()
        stock.kill()


def _send_and_forget(broker: RedisBroker) -> None:
    broker.enqueue(hint("doubled"))


def test_frozen_a_send_fails_in_bounded_time_and_says_that_it_is_not_certain(frozen):
    assert not frozen.send_failure.certain
    assert frozen.send_seconds < 40  # the socket time-out of 10 s, once; stock: 59 s


def test_frozen_an_uncertain_send_may_arrive(frozen):
    frozen.ours.wait_for("end during")


def test_frozen_no_acknowledgement_is_lost_and_no_thread_dies(frozen):
    producer = darkroom_broker(frozen.server)
    producer.namespace = "ours"
    producer.enqueue(call("count_threads", "after"))
    # 3 slots and 2 threads more; the consumers of the queue and of its delayed twin
    frozen.ours.wait_for("threads after 7 of 7")
    eventually("nothing is left with the worker", lambda: leases(frozen.server, "ours") == 0)
    assert waiting(frozen.server, "ours") == 0
    assert sorted(frozen.ours.events("end")) == ["end a", "end b", "end during"]


def test_frozen_stock_acknowledgements_are_given_up(frozen):
    """Characterisation: unless the broker had read it before, the finished job stays leased and runs again."""
    stock_broker(frozen.server, "stock").enqueue(work("after", frozen.folder / "gate"))
    frozen.stock.wait_for("end after")
    eventually(
        "dramatiq takes it for a bug", lambda: "found a bug in Dramatiq" in frozen.stock.log.read_text()
    )


def test_frozen_stock_a_send_is_doubled(frozen):
    """Characterisation: redis-py's retries push the same message again."""
    assert frozen.doubled > 1


# --- restarted, emptied ---


def test_a_worker_outlives_a_restarted_and_an_emptied_broker(server, start_process, tmp_path):
    process = start_process(slots=2)
    producer = darkroom_broker(server)
    producer.enqueue(work("a", tmp_path / "gate"))
    process.wait_for("start a")
    server.restart()
    producer.enqueue(work("b", tmp_path / "gate"))
    process.wait_for("start b")
    server.flush()
    (tmp_path / "gate").touch()
    process.wait_for("end b")
    producer.enqueue(work("c", tmp_path / "gate"))
    process.wait_for("end c")
    producer.enqueue(call("count_threads", "after"))
    process.wait_for("threads after 6 of 6")
    eventually("nothing is left with the worker", lambda: leases(server) == 0)


def test_a_worker_that_boots_before_its_broker_starts_work_when_it_comes(server, start_process, tmp_path):
    server.stop()
    try:
        process = start_process()
    finally:
        server.start()
    (tmp_path / "gate").touch()
    darkroom_broker(server).enqueue(work("a", tmp_path / "gate"))
    process.wait_for("end a")


# --- a dead thread ---


def test_a_process_that_loses_its_consumer_ends_with_status_70(server, start_process):
    process = start_process()
    darkroom_broker(server).enqueue(call("kill_a_consumer"))
    assert process.wait_for_exit() == EXIT_STATUS
    assert "These threads died" in process.log.read_text()


# --- drain ---


def test_a_draining_worker_finishes_its_job_and_takes_nothing_new(server, start_process, tmp_path):
    draining = start_process(slots=2)
    producer = darkroom_broker(server)
    producer.enqueue(work("a", tmp_path / "a"))
    draining.wait_for("start a")
    other = start_process(slots=8)
    draining.terminate()
    draining.wait_for("draining")
    producer.enqueue_many(work(str(n), tmp_path / "others") for n in range(8))
    eventually("the other runs all eight", lambda: len(other.events("start")) == 8)
    (tmp_path / "a").touch()
    assert draining.wait_for_exit() == 0
    assert draining.events("start") == ["start a"]
    assert "end a" in draining.events()
    assert leases(server) == 8


def test_stock_a_draining_worker_captures_new_work(server, start_process, tmp_path):
    """Characterisation: it takes messages that it cannot run before its last job ends."""
    draining = start_process(kind="stock", slots=2)
    producer = stock_broker(server, "dramatiq")
    producer.enqueue(work("a", tmp_path / "a"))
    draining.wait_for("start a")
    draining.terminate()
    draining.wait_for("draining")
    for n in range(3):
        producer.enqueue(work(str(n), tmp_path / "others"))
    eventually("the dying process has captured them", lambda: leases(server) == 4)
    assert waiting(server) == 0
    assert "end a" not in draining.events()
    (tmp_path / "a").touch()
    (tmp_path / "others").touch()
    assert draining.wait_for_exit() == 0
