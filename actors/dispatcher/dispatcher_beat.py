"""The dispatcher's beat.  Its loop is not an event loop, and it waits for the database in the middle of a turn.

A thread beats for as long as the loop turns.  Time that the loop spends in the database never counts as silence: that
is an outage, which another dispatcher could not avoid.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from supervisor.database.interface.database import Database, Transaction
from supervisor.processes.heartbeat_pipe import BEAT_SECONDS, Beats

T = TypeVar("T")


class Pulse:
    """Sends beats while a loop turns."""

    def __init__(self, beats: Beats) -> None:
        self._beats = beats
        self._has_turned = True
        self._waits = False

    def start(self) -> None:
        """Start beating."""
        if self._beats.are_wanted:
            threading.Thread(target=self._beat_for_ever, name="pulse", daemon=True).start()

    def turn(self) -> None:
        """Record a turn of the loop."""
        self._has_turned = True

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The loop waits for another system, which is not silence.  For one thread; must not be nested."""
        self._waits = True
        try:
            yield
        finally:
            self._waits, self._has_turned = False, True

    def look(self) -> None:
        """Beat, if the loop has turned since the last check, or waits."""
        if self._waits or self._has_turned:
            self._has_turned = False
            self._beats.beat()

    def _beat_for_ever(self) -> None:
        while True:
            self.look()
            threading.Event().wait(BEAT_SECONDS)


def pulse_of_process() -> Pulse:
    """The beat for this process's supervisor, if it has one."""
    return Pulse(Beats(os.environ))


class Waited(Database):
    """A database whose blocking calls do not count as silence of the calling loop."""

    def __init__(self, database: Database, pulse: Pulse) -> None:
        super().__init__()
        self._database, self._pulse = database, pulse

    def write(
        self,
        step: Callable[[Transaction], T],
        *,
        order_key: str | None = None,
        lock_seconds: float | None = None,
    ) -> concurrent.futures.Future[T]:
        return self._database.write(step, order_key=order_key, lock_seconds=lock_seconds)

    def write_now(self, step: Callable[[Transaction], T], *, lock_seconds: float | None = None) -> T:
        with self._pulse.waiting():
            return self._database.write_now(step, lock_seconds=lock_seconds)

    def read(self, query: Callable[[Transaction], T]) -> T:
        with self._pulse.waiting():
            return self._database.read(query)

    def glance(self, query: Callable[[Transaction], T]) -> T:
        with self._pulse.waiting():
            return self._database.glance(query)

    def close(self) -> None:
        self._database.close()
