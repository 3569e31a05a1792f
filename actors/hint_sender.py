"""Send hints to the broker, apart from the dispatcher's loop: a frozen broker holds a sender for ten seconds, and
meanwhile the loop must go on showing that it lives and judging who does not.

Hints to run a task go out one by one; polls and cancels of remote jobs, and webhooks, in batches, to the control queue.

What certainly was not sent is unmarked and due again; what may have been sent stays marked, and goes out again
under the same number when nobody claims it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import structlog
from dramatiq import Message

from actors.broker import CONTROL_QUEUE, TASK_QUEUE, DarkroomBroker, HintsNotSent
from supervisor.broker_trouble import in_words
from supervisor.database import Database
from supervisor.faults import Fault
from supervisor.store import dispatching
from supervisor.store.dispatching import Hint
from supervisor.store.remote_cancels import Cancel
from supervisor.store.webhooks import Delivery

T = TypeVar("T")
Errand = Hint | Cancel | Delivery
BATCH = 100  # polls, cancels or webhooks in one message

log = structlog.get_logger(__name__)

PAUSE_AFTER_FAILURE_SECONDS = 1.0


class HintSender:
    """A thread that sends one batch at a time.  when_ready: called when it is ready again after a vain `is_ready`."""

    def __init__(self, broker: DarkroomBroker, database: Database, *, when_ready: Callable[[], None]) -> None:
        self._broker = broker
        self._database = database
        self._when_ready = when_ready
        self._queue: queue.SimpleQueue[Sequence[Errand] | None] = queue.SimpleQueue()
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

    def send(self, errands: Sequence[Errand]) -> None:
        """Send soon, in order; their marks are committed already."""
        self._idle.clear()
        self._queue.put(errands)

    def close(self) -> None:
        """Send what was given and end; a frozen broker is not waited for."""
        self._queue.put(None)
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while (errands := self._queue.get()) is not None:
            hints = [errand for errand in errands if isinstance(errand, Hint)]
            sent = False
            try:
                self._broker.enqueue_many(messages_of(errands))
                sent = True
            except HintsNotSent as error:
                self._paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_SECONDS
                self._unmark(hints, error)
            except Exception:
                log.exception("hints_not_sent", count=len(errands))
            finally:
                self._idle.set()
            if self._was_asked_in_vain:
                self._was_asked_in_vain = False
                self._when_ready()
            if sent:  # said last: whoever waits for this thread need not wait for its words
                _say_dispatched(hints)

    def _unmark(self, hints: list[Hint], error: HintsNotSent) -> None:
        reason = in_words(error.__cause__ or error)
        log.error("hints_not_sent", count=len(hints), certain=error.certain, reason=reason)
        if not error.certain:
            return
        lost = {task_id for message in error.messages for task_id in _task_ids(message)}
        unsent = [hint for hint in hints if hint.task_id in lost]
        try:
            self._database.write(lambda tx: dispatching.unmark(tx, unsent)).result()
        except Fault as fault:
            log.warning("hints_stay_marked", count=len(unsent), reason=str(fault))


def _say_dispatched(hints: list[Hint]) -> None:
    for hint in hints:
        if not hint.is_poll:  # thousands a minute, and the polls that find something say so
            log.info("task_dispatched", task=hint.task_id, dispatch=hint.dispatch, type=hint.type)


def messages_of(errands: Iterable[Errand]) -> Iterator[Message[None]]:
    """Errands as Dramatiq messages: a task's hint is for the actor of its type, the rest goes in batches."""
    polls: list[tuple[str, int]] = []
    cancels: list[int] = []
    deliveries: list[tuple[str, int]] = []
    for errand in errands:
        if isinstance(errand, Cancel):
            cancels.append(errand.id)
        elif isinstance(errand, Delivery):
            deliveries.append((errand.id, errand.dispatch))
        elif errand.is_poll:
            polls.append((errand.task_id, errand.dispatch))
        else:
            yield _message(TASK_QUEUE, errand.type, errand.task_id, errand.dispatch)
    for batch in _batches(polls):
        yield _message(CONTROL_QUEUE, "poll_remote", batch)
    for ids in _batches(cancels):
        yield _message(CONTROL_QUEUE, "cancel_remote", ids)
    for told in _batches(deliveries):
        yield _message(CONTROL_QUEUE, "deliver_webhooks", told)


def _batches(whole: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(whole), BATCH):
        yield whole[start : start + BATCH]


def _message(queue_name: str, actor_name: str, *args: Any) -> Message[None]:
    return Message(queue_name=queue_name, actor_name=actor_name, args=args, kwargs={}, options={})


def _task_ids(message: Message[Any]) -> list[str]:
    """The tasks whose marks a message carries."""
    match message.actor_name:
        case "poll_remote":
            return [task_id for task_id, _ in message.args[0]]
        case "cancel_remote" | "deliver_webhooks":
            return []  # due again by themselves
        case _:
            return [message.args[0]]
