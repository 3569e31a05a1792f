"""How many messages a process runs at once, under any command.

Tasks need no thread: they run on the event loop (`actors.worker.worker`).  dramatiq's defaults have more threads, and
fetch twice as many messages as threads, so some messages wait while other processes are idle.  The numbers are set here
before the worker's threads are made, so plain `dramatiq actors` has the right ones too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import Middleware

from actors.broker.broker import CONTROL_THREADS
from actors.broker.work_queue import WorkQueue

if TYPE_CHECKING:
    from dramatiq import Worker

    from actors.broker.broker import DarkroomBroker


# Of a thread without a message.  A stop of the worker ends it; only a thread that is stopped alone notices it so late.
WAIT_SECONDS = 30.0


class Slots(Middleware):
    """As many threads, and messages, running ones included, as the broker's slots, and those of the control queue."""

    def before_worker_boot(self, broker: DarkroomBroker, worker: Worker) -> None:  # type: ignore[override]
        worker.worker_threads = broker.slots + CONTROL_THREADS
        worker.queue_prefetch = broker.slots
        worker.work_queue, worker.worker_timeout = WorkQueue(), int(WAIT_SECONDS * 1000)

    def before_worker_shutdown(self, broker: DarkroomBroker, worker: Worker) -> None:  # type: ignore[override]
        assert isinstance(worker.work_queue, WorkQueue)
        worker.work_queue.end()
