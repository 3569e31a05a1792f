"""Slots: how many tasks a process runs at once, whatever command started it.

dramatiq's own defaults take twice as many messages as there are threads, so tasks wait behind long jobs while other
processes idle.  Set here, before the worker's threads are made, plain `dramatiq actors` has the right numbers too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq import Middleware

from actors.broker import CONTROL_THREADS

if TYPE_CHECKING:
    from dramatiq import Worker

    from actors.broker import DarkroomBroker


class Slots(Middleware):
    """As many threads as slots, and those of the control queue; as many messages as slots, running ones included."""

    def before_worker_boot(self, broker: DarkroomBroker, worker: Worker) -> None:  # type: ignore[override]
        worker.worker_threads = broker.slots + CONTROL_THREADS
        worker.queue_prefetch = broker.slots
