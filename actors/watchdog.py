"""A process with a dead thread must not look alive.

A worker or consumer thread that died leaves a process that holds a heartbeat and takes messages, but runs fewer of
them, or none.  Nothing in dramatiq notices.  The watchdog ends the process; its supervisor starts a new one.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from dramatiq import Middleware
from dramatiq.asyncio import get_event_loop_thread

if TYPE_CHECKING:
    from dramatiq import Broker, Worker
    from dramatiq.worker import ConsumerThread, WorkerThread

log = logging.getLogger(__name__)

EXIT_STATUS = 70  # EX_SOFTWARE
CHECK_SECONDS = 2.0


def dead_threads(worker: Worker) -> list[str]:
    """Names of the threads that ended though nobody asked them to."""
    threads: list[WorkerThread | ConsumerThread] = [*worker.workers, *worker.consumers.values()]
    # `running` is set by a thread's own first step and cleared by stop(): a thread killed by an error keeps it.
    dead = [thread.name for thread in threads if thread.running and not thread.is_alive()]
    loop = get_event_loop_thread()
    return [*dead, loop.name] if loop is not None and not loop.is_alive() else dead


class Watchdog(Middleware):
    """Ends the process with EXIT_STATUS when one of its threads has died, until the worker begins to stop."""

    def __init__(self, *, check_seconds: float = CHECK_SECONDS) -> None:
        self.check_seconds = check_seconds
        self._stopping = threading.Event()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._stopping.clear()
        threading.Thread(target=self._watch, args=(worker,), name="watchdog", daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._stopping.set()

    def _watch(self, worker: Worker) -> None:
        while not self._stopping.wait(self.check_seconds):
            dead = dead_threads(worker)
            if dead and not self._stopping.is_set():
                log.critical("These threads died: %s. The process ends, to be started anew.", ", ".join(dead))
                os._exit(EXIT_STATUS)
