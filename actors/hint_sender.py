"""Send hints to the broker, apart from the dispatcher's loop: a frozen broker holds a sender for ten seconds, and
meanwhile the loop must go on showing that it lives and judging who does not.

What certainly was not sent is unmarked and due again; what may have been sent stays marked, and goes out again
under the same number when nobody claims it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import structlog
from dramatiq import Message

from actors.broker import TASK_QUEUE, DarkroomBroker, HintsNotSent
from supervisor.database import Database
from supervisor.faults import Fault
from supervisor.store import dispatching
from supervisor.store.dispatching import Hint

log = structlog.get_logger(__name__)

PAUSE_AFTER_FAILURE_SECONDS = 1.0


class HintSender:
    """A thread that sends one batch at a time.  when_ready: called when it is ready again after a vain `is_ready`."""

    def __init__(self, broker: DarkroomBroker, database: Database, *, when_ready: Callable[[], None]) -> None:
        self._broker = broker
        self._database = database
        self._when_ready = when_ready
        self._queue: queue.SimpleQueue[list[Hint] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._was_asked_in_vain = False
        self._paused_until = 0.0
        self._thread = threading.Thread(target=self._run, name="hint-sender", daemon=True)
        self._thread.start()

    def is_ready(self) -> bool:
        """Whether it makes sense to pick: what was given is sent, and the broker was not away a moment ago."""
        # Noted before looking, so that the thread can't become idle unseen in between.
        self._was_asked_in_vain = True
        ready = self._idle.is_set() and time.monotonic() >= self._paused_until
        if ready:
            self._was_asked_in_vain = False
        return ready

    def send(self, hints: list[Hint]) -> None:
        """Send soon, in order; their marks are committed already."""
        self._idle.clear()
        self._queue.put(hints)

    def close(self) -> None:
        """Send what was given and end; a frozen broker is not waited for."""
        self._queue.put(None)
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (hints := self._queue.get()) is not None:
            try:
                self._broker.enqueue_many(message_of(hint) for hint in hints)
            except HintsNotSent as error:
                self._paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
                self._unmark(hints, error)
            except Exception:
                log.exception("hints_not_sent", count=len(hints))
            finally:
                self._idle.set()
            if self._was_asked_in_vain:
                self._was_asked_in_vain = False
                self._when_ready()

    def _unmark(self, hints: list[Hint], error: HintsNotSent) -> None:
        log.error(
            "hints_not_sent", count=len(hints), certain=error.certain, reason=str(error.__cause__ or error)
        )
        if not error.certain:
            return
        lost = {message.args[0] for message in error.messages}
        unsent = [hint for hint in hints if hint.task_id in lost]
        try:
            self._database.write(lambda tx: dispatching.unmark(tx, unsent)).result()
        except Fault as fault:
            log.warning("hints_stay_marked", count=len(unsent), reason=str(fault))


def message_of(hint: Hint) -> Message[None]:
    """A hint as a Dramatiq message; its actor is the task's type."""
    return Message(
        queue_name=TASK_QUEUE, actor_name=hint.type, args=(hint.task_id, hint.dispatch), kwargs={}, options={}
    )
