"""A process with a dead thread or a blocked event loop must not look alive.

A worker or consumer thread that died leaves a process that holds a heartbeat and takes messages, but runs fewer of
them, or none.  Code that blocks the event loop (a provider that sleeps instead of awaiting) stops the heartbeat and
every attempt: the dispatcher gives up such a worker, but the process would stay, and a few such tasks would block every
worker.  Dramatiq does not notice this.  The watchdog ends the process; its supervisor starts a new one.
"""

from __future__ import annotations

import contextlib
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
CHECK_SECONDS = 2.5
BLOCKED_SECONDS = 10.0  # unless the boot says otherwise


def dead_threads(worker: Worker) -> list[str]:
    """Names of the threads that ended without a stop."""
    threads: list[WorkerThread | ConsumerThread] = [*worker.workers, *worker.consumers.values()]
    # `running` is set by a thread's own first step and cleared by stop(): a thread killed by an error keeps it.
    dead = [thread.name for thread in threads if thread.running and not thread.is_alive()]
    loop = get_event_loop_thread()
    return [*dead, loop.name] if loop is not None and not loop.is_alive() else dead


class _LoopWatch:
    """Counts the checks in a row that the event loop has not answered.

    Checks and not seconds: after a freeze of the whole process the loop must have its chance before it is judged.
    A loop that has turned by itself since the last check is not called: each call wakes it.
    """

    def __init__(self) -> None:
        self._answered = threading.Event()
        self._answered.set()
        self._has_turned = False
        self.unanswered = 0

    def note_turn(self) -> None:
        """The loop turns; called on it."""
        self._has_turned = True
        self._answered.set()

    def check(self) -> None:
        """Check for the answer to the last call, and call again if it came."""
        thread = get_event_loop_thread()
        if self._has_turned:
            self._has_turned, self.unanswered = False, 0
            return
        if thread is None or not self._answered.is_set():
            self.unanswered += thread is not None
            return
        self.unanswered = 0
        self._answered.clear()
        with contextlib.suppress(RuntimeError):  # closed: the process is about to end
            thread.loop.call_soon_threadsafe(self._answered.set)


class Watchdog(Middleware):
    """Ends the process with EXIT_STATUS when one of its threads has died or its event loop is blocked.

    blocked_seconds: how long the loop may be blocked; after the lease, other workers get its tasks.  It ends when the
    worker begins to stop: its supervisor has a time limit for that.
    """

    def __init__(
        self, *, check_seconds: float = CHECK_SECONDS, blocked_seconds: float = BLOCKED_SECONDS
    ) -> None:
        self.check_seconds = check_seconds
        self.blocked_seconds = blocked_seconds
        self._stopping = threading.Event()
        self._loop_watch = _LoopWatch()

    def note_turn(self) -> None:
        """The event loop turns; called on it, as often as there is another reason to wake it."""
        self._loop_watch.note_turn()

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._stopping.clear()
        threading.Thread(target=self._watch, args=(worker,), name="watchdog", daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        self._stopping.set()

    def _watch(self, worker: Worker) -> None:
        while not self._stopping.wait(self.check_seconds):
            try:
                self._look(worker)
            except Exception:  # such as a consumer that is added meanwhile
                log.exception("The watchdog could not look. It looks again.")

    def _look(self, worker: Worker) -> None:
        self._loop_watch.check()
        blocked_seconds = self._loop_watch.unanswered * self.check_seconds
        if blocked_seconds >= self.blocked_seconds and not self._stopping.is_set():
            log.critical("The event loop is blocked. The process ends, to be started anew.")
            os._exit(EXIT_STATUS)
        dead = dead_threads(worker)
        if dead and not self._stopping.is_set():
            log.critical("These threads died: %s. The process ends, to be started anew.", ", ".join(dead))
            os._exit(EXIT_STATUS)
