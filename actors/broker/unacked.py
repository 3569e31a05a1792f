"""Unacknowledged messages of one queue in this process.

A message is *held* from its arrival to the end of its work, and counts for the prefetch.  Then its acknowledgement is
*owed*: the slot is free at once, and the consumer sends the acknowledgement with its next fetch, when the broker
answers.  A message that is leased to us in the broker, but neither held nor owed, is an *orphan*: the reply with it was
lost, so it will never run here and must return to the queue.

The record lives as long as the broker object, not only as long as a consumer: dramatiq replaces a consumer after an
error, and a new one that counted from zero would fetch too many messages.

A message that can't be processed for now is *given back*: its return to the end of the queue is then owed.  Until the
broker has acknowledged that, the message stays leased to us, so that it also survives the death of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable


class UnackedMessages:
    """Held and owed message ids of one queue (`redis_message_id`, new for each delivery).  Safe in any thread."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._owed: dict[str, str] = {}
        self._given_back: set[str] = set()
        self._changed = threading.Condition()

    def hold(self, message_id: str) -> None:
        """Record an arrival."""
        with self._changed:
            self._held.add(message_id)

    def release(self, message_ids: Iterable[str]) -> None:
        """Given back."""
        with self._changed:
            self._held.difference_update(message_ids)
            self._changed.notify_all()

    def release_all(self) -> None:
        """Drop all records; every message leased to us is now an orphan."""
        with self._changed:
            self._held.clear()
            self._changed.notify_all()

    def give_back(self, message_id: str) -> None:
        """Mark it: its acknowledgement, when it comes, returns it to the queue."""
        with self._changed:
            self._given_back.add(message_id)

    def owe(self, message_id: str, command: str) -> None:
        """Record the end of its work; the broker must be told.  command: `ack` or `nack`."""
        with self._changed:
            self._held.discard(message_id)
            if message_id in self._given_back:
                self._given_back.remove(message_id)
                command = "requeue"
            self._owed[message_id] = command
            self._changed.notify_all()

    def owed(self) -> list[tuple[str, str]]:
        """(message id, command) still to be sent, oldest first."""
        with self._changed:
            return list(self._owed.items())

    def pay(self, message_ids: Iterable[str]) -> None:
        """The broker has been told."""
        with self._changed:
            for message_id in message_ids:
                self._owed.pop(message_id, None)

    def orphans(self, leased: Iterable[str]) -> list[str]:
        """Those of leased that never arrived.  leased: ids the broker holds for us, read before this call."""
        with self._changed:
            known = self._held | self._owed.keys()
        return [message_id for message_id in leased if message_id not in known]

    def count(self) -> int:
        """How many are held."""
        with self._changed:
            return len(self._held)

    def wait_until_fewer_than(self, limit: int, *, seconds: float) -> bool:
        """Wait until fewer than limit are held, at most so many seconds; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._held) < limit, timeout=seconds)
