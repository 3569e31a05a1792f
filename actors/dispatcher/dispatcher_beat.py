"""The dispatcher's beat.  Its loop is not an event loop, and it waits for the database in the middle of a turn.

The loop beats as it turns.  Time that it spends in the database never counts as silence: that is an outage, which
another dispatcher could not avoid.  A thread beats for it meanwhile.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from supervisor.database.interface.database import Database, Transaction
from supervisor.processes.heartbeat_pipe import BEAT_SECONDS, Beats

T = TypeVar("T")

LEAST_SECONDS = BEAT_SECONDS / 2  # between two beats of a busy loop; a quiet one turns more seldom
WAITING_SECONDS = 2 * BEAT_SECONDS  # between those of the thread: most waits are over long before


class Pulse:
    """Sends beats while a loop turns.  clock: monotonic seconds."""

    def __init__(self, beats: Beats, clock: Callable[[], float] = time.monotonic) -> None:
        self._beats, self._clock = beats, clock
        self._beat_at = 0.0
        self._waits = False

    def start(self) -> None:
        """Start beating."""
        if self._beats.are_wanted:
            threading.Thread(target=self._beat_for_ever, name="pulse", daemon=True).start()

    def turn(self) -> None:
        """A turn of the loop."""
        now = self._clock()
        if now >= self._beat_at:
            self._beat_at = now + LEAST_SECONDS
            self._beats.beat()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The loop waits for another system, which is not silence.  For one thread; must not be nested."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            self.turn()

    def look(self) -> None:
        """Beat, if the loop waits."""
        if self._waits:
            self._beats.beat()

    def _beat_for_ever(self) -> None:
        while True:
            self.look()
            threading.Event().wait(WAITING_SECONDS)


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
