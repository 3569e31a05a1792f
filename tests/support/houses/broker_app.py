"""The actors of the broker's tests, for real worker processes: `dramatiq tests.support.houses.broker_app`.

Its environment names the broker (`darkroom`, or `stock` to show the faults that ours cures), its address, and the file
to which every event is written as a line.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import raise_thread_exception

from actors.broker.broker import TASK_QUEUE, DarkroomBroker
from actors.entry.middleware import broker_middleware
from supervisor.broker.broker_client import open_client

KIND = os.environ["BROKER_TEST_KIND"]
ADDRESS = os.environ["BROKER_TEST_ADDRESS"]
NAMESPACE = os.environ["BROKER_TEST_NAMESPACE"]
SLOTS = int(os.environ["BROKER_TEST_SLOTS"])
EVENTS = Path(os.environ["BROKER_TEST_EVENTS"])


def note(event: str) -> None:
    """One whole line, also beside other writers."""
    with EVENTS.open("a") as file:
        file.write(event + "\n")


class Death(BaseException):
    """Kills a thread as a bug would: nothing in dramatiq catches it."""


class Witness(dramatiq.Middleware):
    """Records the worker's events, and keeps a reference to it."""

    worker: dramatiq.Worker

    def after_worker_boot(self, broker: Any, worker: dramatiq.Worker) -> None:
        self.worker = worker
        note(f"booted {len(worker.workers)} threads")

    def before_worker_shutdown(self, broker: Any, worker: dramatiq.Worker) -> None:
        note("draining")


def settle(broker: DarkroomBroker) -> None:
    client = open_client(ADDRESS)
    broker.configure(client=client, waiting_client_factory=lambda: open_client(ADDRESS), slots=SLOTS)


def stock_broker() -> RedisBroker:
    pool = redis.ConnectionPool.from_url(ADDRESS)  # what RedisBroker(url=…) does
    return RedisBroker(client=redis.Redis(connection_pool=pool), namespace=NAMESPACE)


witness = Witness()
broker: Any
if KIND == "stock":
    broker = stock_broker()
    broker.add_middleware(witness)
else:
    broker = DarkroomBroker(settle=settle, middleware=broker_middleware(witness), namespace=NAMESPACE)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=TASK_QUEUE)
def work(name: str, gate: str) -> None:
    """Runs until the file `gate` exists."""
    note(f"start {name}")
    while not Path(gate).exists():
        time.sleep(0.01)
    note(f"end {name}")


@dramatiq.actor(queue_name=TASK_QUEUE)
def count_threads(name: str) -> None:
    """Says how many of the worker's threads live."""
    worker = witness.worker
    threads = [*worker.workers, *worker.consumers.values()]
    note(f"threads {name} {sum(thread.is_alive() for thread in threads)} of {len(threads)}")


@dramatiq.actor(queue_name=TASK_QUEUE)
def kill_a_consumer() -> None:
    """Kills the thread that consumes this queue."""
    thread = witness.worker.consumers[TASK_QUEUE]
    assert thread.ident is not None
    raise_thread_exception(thread.ident, Death)  # type: ignore[no-untyped-call]
