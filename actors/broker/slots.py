"""How many messages a process runs at once, whatever command started it.

Tasks take no thread: they run on the event loop (`actors.worker.worker`).  dramatiq's own defaults are for more
threads, and fetch twice as many messages as there are, so some wait behind others while other processes idle.  Set
here, before the worker's threads are made, plain `dramatiq actors` has the right numbers too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import Middleware

from actors.broker.broker import CONTROL_THREADS

if TYPE_CHECKING:
    from dramatiq import Worker

    from actors.broker.broker import DarkroomBroker


class Slots(Middleware):
    """As many threads, and messages, running ones included, as the broker's slots, and those of the control queue."""

    def before_worker_boot(self, broker: DarkroomBroker, worker: Worker) -> None:  # type: ignore[override]
        worker.worker_threads = broker.slots + CONTROL_THREADS
        worker.queue_prefetch = broker.slots
