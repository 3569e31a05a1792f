"""Sends claims to their workers, and other messages to the control queue.

The dispatcher's own thread sends claims to the lists of their workers, because passing them to another thread would
delay the start.  A frozen broker can block this thread, and so the dispatcher's beat, once and only for the time-out of
the lists.  A failed send takes no claim back: the worker's next heartbeats find the rows.  But nothing more is picked
until the broker answers a PING.  A second thread does the work that is not urgent: it sends cancels and webhooks in
batches to the control queue, PINGs an absent broker, and checks the lists.

If a message stays in a list for a second, or beside it without being owned, its worker is frozen or dying, or its event
loop is blocked.  The messages are taken and their claims put back.  Until the worker pops again it is *shunned*: a
message without claims is left in its list, and when that is gone, the worker reads again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import structlog
from dramatiq import Message

from actors.broker.broker import CONTROL_QUEUE, DarkroomBroker, MessagesNotSent
from actors.broker.consumer import BROKER_AWAY
from supervisor.broker.broker_errors import in_words
from supervisor.broker.claim_lists import ClaimLists, Place, places_of
from supervisor.broker.signed_claims import TASKS, ClaimMessage
from supervisor.core.errors import Fault
from supervisor.database.interface.database import Database, Row
from supervisor.database.interface.errors import DatabaseError
from supervisor.services.undelivered_claims import take_back
from supervisor.store.remote.remote_cancels import Cancel
from supervisor.store.webhooks.deliveries import Delivery

T = TypeVar("T")
ControlMessage = Cancel | Delivery
BATCH = 100  # the most polls, cancels or webhooks in one message

log = structlog.get_logger(__name__)

AWAY_SECONDS = 0.5  # between two PINGs
LOOK_SECONDS = 0.25
UNPOPPED_SECONDS = 1.0


class Unpopped:
    """Finds lists in which messages stay too long.  Pure: `look` gets the first message of each place, and the time."""

    def __init__(self, *, patience_seconds: float = UNPOPPED_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._seen: dict[Place, tuple[bytes, float]] = {}

    def look(self, place: Place, head: bytes | None, now: float) -> bool:
        """Whether the same message has been first for too long.  now: monotonic."""
        if head is None:
            self._seen.pop(place, None)
            return False
        if place not in self._seen or self._seen[place][0] != head:
            self._seen[place] = (head, now)
        return now - self._seen[place][1] >= self._patience_seconds

    def is_empty(self, place: Place) -> bool:
        """Whether the place was empty at the last check."""
        return place not in self._seen


class ClaimSender:
    """when_ready: called when a pick is useful again after `is_ready` was False, or when a worker is no longer
    shunned."""

    def __init__(
        self, broker: DarkroomBroker, lists: ClaimLists, database: Database, *, when_ready: Callable[[], None]
    ) -> None:
        self._broker, self._lists, self._database = broker, lists, database
        self._when_ready = when_ready
        self._queue: queue.SimpleQueue[Sequence[ControlMessage] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._was_asked_in_vain = False
        self._is_away = False
        self._guard = threading.Lock()
        self._watched: dict[str, int] = {}  # {worker: the number of sends to it}
        self._unpopped = Unpopped()
        self.shunned: frozenset[str] = frozenset()  # replaced, never changed
        self._start()

    def is_ready(self) -> bool:
        """Whether a pick is useful: everything passed in is sent, and the broker is not known to be away."""
        # Set before the check, so that the thread can't become idle unnoticed in between.
        self._was_asked_in_vain = True
        ready = self._idle.is_set() and not self._is_away
        if ready:
            self._was_asked_in_vain = False
        return ready

    def send(self, messages: Sequence[ClaimMessage], errands: Sequence[ControlMessage] = ()) -> None:
        """Send committed claims at once, and other messages soon."""
        if errands:
            self._idle.clear()
            self._put(errands)
        if messages:
            self._tell(messages)

    def watch(self, worker_ids: Iterable[str]) -> None:
        """Check these workers' lists too: another dispatcher may have sent to them."""
        with self._guard:
            was_idle = not self._watched
            for worker_id in worker_ids:
                self._watched[worker_id] = self._watched.get(worker_id, 0) + 1
        if was_idle:
            self._put(())

    def close(self) -> None:
        """Send the remaining messages and end, without waiting for a frozen broker."""
        self._put(None)
        self._thread.join(timeout=1.0)

    def _tell(self, messages: Sequence[ClaimMessage]) -> None:
        claims = sum(len(each.claims) for each in messages)
        try:
            self._lists.push(messages)
        except BROKER_AWAY as error:
            self._note_absence(error, claims)
            self._put(())  # the thread PINGs it at intervals
        except Exception:
            log.exception("claims_not_sent", count=claims)
        # Not before: a check in between would find nothing and stop checking.
        self.watch(each.worker_id for each in messages)
        _say_dispatched(messages)

    # --- the thread ---

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="claim-sender", daemon=True)
        self._thread.start()

    def _put(self, errands: Sequence[ControlMessage] | None) -> None:
        """Wake the thread.  errands: messages to send; None to end."""
        self._queue.put(errands)

    def _next(self, seconds: float | None) -> Sequence[ControlMessage] | None:
        """The next messages to send.  Raises queue.Empty after so many seconds."""
        return self._queue.get(timeout=seconds)

    def _run(self) -> None:
        look_at = 0.0
        while True:
            try:
                given = self._next(self._wait_seconds(look_at))
                if given is None:
                    return
                if given:
                    self._send(given)
                else:  # messages were sent to lists that were not checked before
                    look_at = time.monotonic() + LOOK_SECONDS
            except queue.Empty:
                pass
            try:
                if self._is_away:
                    self._knock()
                elif self._watched and time.monotonic() >= look_at:
                    look_at = time.monotonic() + LOOK_SECONDS
                    self._look()
            except Exception:  # without this thread nothing would be sent again, and nobody would see it
                log.exception("claim_sender_failed")

    def _wait_seconds(self, look_at: float) -> float | None:
        if self._is_away:
            return AWAY_SECONDS
        return max(0.0, look_at - time.monotonic()) if self._watched else None

    def _send(self, errands: Sequence[ControlMessage]) -> None:
        try:
            self._broker.enqueue_many(messages_of(errands))
        except (*BROKER_AWAY, MessagesNotSent) as error:
            self._note_absence(error, 0)
        except Exception:
            log.exception("errands_not_sent", count=len(errands))
        self._idle.set()
        if not self._is_away and self._was_asked_in_vain:
            self._tell_ready()

    def _note_absence(self, error: Exception, claims: int) -> None:
        if not self._is_away:
            log.error(
                "broker_away", claims_perhaps_not_sent=claims, reason=in_words(error.__cause__ or error)
            )
        self._is_away = True

    def _knock(self) -> None:
        try:
            self._lists.ping()
        except BROKER_AWAY:
            return
        log.info("broker_back")
        self._is_away = False
        self._tell_ready()

    def _tell_ready(self) -> None:
        self._was_asked_in_vain = False
        self._when_ready()

    # --- lists that are not popped ---

    def _look(self) -> None:
        try:
            with self._guard:
                watched = dict(self._watched)
            heads, now = self._lists.heads(sorted(watched)), time.monotonic()
            unpopped = [place for place, head in heads.items() if self._unpopped.look(place, head, now)]
            frozen = {place.worker_id for place in unpopped if place.is_popped}
            for worker_id in sorted({place.worker_id for place in unpopped} - self.shunned | frozen):
                self._shun(worker_id, popped=worker_id in frozen)
            for worker_id, sent in watched.items():
                if all(self._unpopped.is_empty(place) for place in places_of([worker_id])):
                    self._forget(worker_id, sent)
        except BROKER_AWAY as error:
            self._note_absence(error, 0)
        except (Fault, DatabaseError) as fault:
            # They stay beside the list until the next check.
            log.warning("claims_not_taken_back", reason=str(fault))

    def _shun(self, worker_id: str, *, popped: bool) -> None:
        """Take the messages of its lists, and leave an empty message there.  A frozen process can't pop that: its last
        pop was answered with a message that was taken, and it would have to call again."""
        was_shunned = worker_id in self.shunned
        if not was_shunned:
            log.warning("worker_shunned", worker=worker_id, reason="it does not take its claims")
        self.shunned |= {worker_id}
        try:
            take_back(self._database, self._lists, worker_id, popped=popped)
        except (Fault, DatabaseError):
            if not was_shunned:
                self.shunned -= {worker_id}
            self._lists.push([ClaimMessage(TASKS, worker_id)])
            raise
        self._lists.push([ClaimMessage(TASKS, worker_id)])
        self._when_ready()

    def _forget(self, worker_id: str, sent: int) -> None:
        """Its lists are empty, so it reads them.  sent: the number of sends before the check."""
        with self._guard:
            if self._watched.get(worker_id) == sent:
                del self._watched[worker_id]
        if worker_id in self.shunned:
            self.shunned -= {worker_id}
            log.info("worker_takes_claims_again", worker=worker_id)
            self._when_ready()


def _say_dispatched(messages: Iterable[ClaimMessage]) -> None:
    """One line for each message; a line for each of two hundred tasks would cost more than their claims."""
    for message in messages:
        if message.kind != TASKS:  # there are thousands of polls a minute, and those with a result are logged
            continue
        if len(message.claims) == 1:
            (claim,) = message.claims
            log.debug(
                "task_dispatched",
                task=claim["id"],
                type=claim["type"],
                lease=claim["lease"],
                worker=message.worker_id,
            )
        elif message.claims:
            ids = [claim["id"] for claim in message.claims]
            log.debug("tasks_dispatched", tasks=ids, worker=message.worker_id)


def claim_messages(kind: str, claims: Iterable[Row], *, most: int | None = None) -> Iterator[ClaimMessage]:
    """Claims as messages for each worker, with at most so many claims each."""
    of_workers: dict[str, list[Row]] = {}
    for claim in claims:
        of_workers.setdefault(claim["worker_id"], []).append(claim)
    for worker_id, all_of_it in of_workers.items():
        for batch in _batches(all_of_it, most or len(all_of_it)):
            yield ClaimMessage(kind, worker_id, batch)


def messages_of(errands: Iterable[ControlMessage]) -> Iterator[Message[None]]:
    """Cancels and webhooks as Dramatiq messages, in batches."""
    all_errands = list(errands)
    cancels = [each.id for each in all_errands if isinstance(each, Cancel)]
    deliveries = [(each.id, each.dispatch) for each in all_errands if isinstance(each, Delivery)]
    for ids in _batches(cancels):
        yield _message("cancel_remote", ids)
    for told in _batches(deliveries):
        yield _message("deliver_webhooks", told)


def _batches(whole: list[T], size: int = BATCH) -> Iterator[list[T]]:
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def _message(actor_name: str, *args: Any) -> Message[None]:
    return Message(queue_name=CONTROL_QUEUE, actor_name=actor_name, args=args, kwargs={}, options={})
