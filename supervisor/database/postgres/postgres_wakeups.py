"""Wake-ups of PostgreSQL: the triggers notify, one connection of this process listens.

The listener has its own connection, directly to the server.  A thread connects, and lends the connection to `hear`, so
that the thread that waits reads the notifications itself: a hand-over between threads costs more than the reading.
A pooler in transaction mode accepts LISTEN and delivers nothing.  So after each connect a second connection notifies a
random channel; `is_listening` becomes true only if that notification arrives.  The server does not store NOTIFY for
absent listeners.  Therefore each (re)connect, and every safety_seconds, is a wake-up for everything.  While no
notifications arrive, the database is polled every POLL_SECONDS, the log says so once, and `is_listening`
(darkroom_listener_up) is false.  The server's `idle_session_timeout` is switched off for this connection, and a
statement every PING_SECONDS keeps routers from cutting it.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg

from supervisor.database.interface.wakeups import SOMETHING, Heard, Wakeups, readable, together
from supervisor.database.postgres.connection import MAY_BE_IDLE, connect_parameters

log = logging.getLogger("darkroom.listener")

RESCAN_SECONDS = 2.0
PING_SECONDS = 20.0  # a router or proxy may cut a connection that is silent for a minute
POLL_SECONDS = 0.25  # while no notifications arrive
PROBE_SECONDS = 2.0
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)  # the last value is repeated without a limit
TRY_DEAF_AGAIN_SECONDS = 30.0


class PostgresWakeups(Wakeups):
    """The notifications of one channel.  A payload is the id of the user with changes, or empty.

    url: of the server itself, not of a pooler.  rescans: whether there is also a wake-up every safety_seconds.
    """

    safety_seconds = RESCAN_SECONDS
    look_again_seconds = ()  # notifications come after their commit

    def __init__(self, url: str, channel: str, *, rescans: bool = True) -> None:
        super().__init__()
        self._url, self._channel = url, channel
        self._rescans = rescans
        self._end_read, self._end_write = os.pipe()
        self._ends = False
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()  # of the two below
        self._lent: psycopg.Connection[Any] | None = None  # the connection while `hear` reads from it
        self._lost: psycopg.Error | None = None  # the error that `hear` has met on it
        # Filled by any thread, emptied by `hear`.
        self._waiting: collections.deque[Heard] = collections.deque()
        self._state: str | None = None
        self._listens = False

    @property
    def is_listening(self) -> bool:
        return self._listens

    @property
    def has_tried(self) -> bool:
        """Whether the test of notifications has ended."""
        return self._state is not None

    def hear(self, timeout_seconds: float) -> Heard | None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
            self._thread.start()
        end = time.monotonic() + timeout_seconds
        while ready := readable(self._descriptors(), end - time.monotonic()):
            heard: list[Heard] = []
            if self._stop_read in ready:
                os.read(self._stop_read, 4096)
                heard += [self._waiting.popleft() for _ in range(len(self._waiting))]
            if ready != {self._stop_read}:
                heard += self._heard_on_the_connection()
            if heard:
                return together(heard)
        return None

    def _descriptors(self) -> tuple[int, ...]:
        with self._guard:
            if self._lent is None:
                return (self._stop_read,)
            return self._stop_read, self._lent.fileno()

    def _heard_on_the_connection(self) -> list[Heard]:
        """The wake-ups of the notifications that have arrived; a connection that is lost is given back."""
        with self._guard:
            if self._lent is None:
                return []
            try:
                self._lent.pgconn.consume_input()
                arrived = _received(self._lent)
            except psycopg.Error as error:
                self._lent, self._lost = None, error
                os.write(self._end_write, b"x")
                return []
        users = frozenset(payload for name, payload in arrived if name == self._channel)
        if not users:
            return []
        return [SOMETHING if "" in users else Heard(users)]

    def interrupt(self) -> None:
        self._tell(SOMETHING)

    def close(self) -> None:
        self._ends = True
        os.write(self._end_write, b"x")
        if self._thread is not None:
            self._thread.join()
        os.close(self._end_read)
        os.close(self._end_write)
        super().close()

    # --- the listener's thread ---

    def _run(self) -> None:
        retries = iter(RETRY_SECONDS)
        while True:
            try:
                with self._connected() as connection:
                    hears = self._hears(connection)
                    retries = iter(RETRY_SECONDS)
                    if not hears:
                        self._say(False, f"notifications don't arrive (is a pooler between? DATABASE_LISTEN_URL may "
                                         f"lead past it); looking every {POLL_SECONDS:g} s instead")  # fmt: skip
                        self._tell(SOMETHING)
                        if self._poll():
                            return
                        continue
                    self._say(True, "listening for notifications")
                    if self._lend(connection):
                        return
            except psycopg.Error as error:
                reason = (str(error).strip().splitlines() or ["no reason given"])[0]
                self._say(False, f"the database does not answer ({reason}); trying again")
            except Exception:  # a listener that ended would leave this process deaf
                log.exception("listening for notifications failed; trying again")
                self._listens = False
            self._tell(SOMETHING)
            if self._ends_within(next(retries, RETRY_SECONDS[-1])):
                return

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        parameters = connect_parameters(self._url)
        with contextlib.closing(psycopg.connect(self._url, autocommit=True, **parameters)) as connection:
            yield connection

    def _hears(self, connection: psycopg.Connection[Any]) -> bool:
        """Listen, and find out whether notifications arrive.

        A pooler's server connection, which other clients use afterwards, is left listening only to the probe.
        """
        probe = f"darkroom_probe_{secrets.token_hex(8)}"
        connection.execute(f"LISTEN {probe}".encode(), prepare=False)
        with self._connected() as other:
            other.execute("SELECT pg_notify(%s, '')", (probe,), prepare=False)
        end = time.monotonic() + PROBE_SECONDS
        while (remaining := end - time.monotonic()) > 0:
            if any(name == probe for name, _ in self._notified(connection, remaining)):
                connection.execute(f"LISTEN {self._channel}; UNLISTEN {probe}".encode(), prepare=False)
                # Now that the connection is known to be ours alone.
                connection.execute(MAY_BE_IDLE.encode(), prepare=False)
                return True
        return False

    def _lend(self, connection: psycopg.Connection[Any]) -> bool:
        """Let `hear` read from the connection; True when it is time to end.  Raises psycopg.Error when it is lost."""
        rescan, ping = self._rescan_at(), time.monotonic() + PING_SECONDS
        self._let_have(connection)
        try:
            while not self._ends_within(min(rescan, ping) - time.monotonic()):
                with self._guard:
                    if self._lost is not None:
                        raise self._lost
                if time.monotonic() >= ping:
                    ping = time.monotonic() + PING_SECONDS
                    self._let_have(None)  # `hear` must not wait for a server that does not answer
                    connection.execute("SELECT 1", prepare=False)
                    self._let_have(connection)
                if time.monotonic() >= rescan:
                    rescan = self._rescan_at()
                    self._tell(SOMETHING)
            return True
        finally:
            self._let_have(None)

    def _rescan_at(self) -> float:
        return time.monotonic() + self.safety_seconds if self._rescans else math.inf

    def _let_have(self, connection: psycopg.Connection[Any] | None) -> None:
        """Lend the connection, or take it back.  It may have received notifications meanwhile that `hear` can't see."""
        with self._guard:
            self._lent, self._lost = connection, None
        if connection is not None:
            self._tell(SOMETHING)

    def _notified(self, connection: psycopg.Connection[Any], seconds: float) -> list[tuple[str, str]]:
        """(channel, payload) of the notifications that arrive within the time; the first one ends the wait."""
        if connection.fileno() in readable((connection.fileno(), self._end_read), seconds):
            connection.pgconn.consume_input()
        return _received(connection)

    def _poll(self) -> bool:
        """Poll while no notifications arrive; True when it is time to end."""
        end = time.monotonic() + TRY_DEAF_AGAIN_SECONDS
        while time.monotonic() < end:
            if self._ends_within(POLL_SECONDS):
                return True
            self._tell(SOMETHING)
        return False

    def _tell(self, heard: Heard) -> None:
        # Before the byte, so that the reader of the byte finds it; a deque needs no lock.
        self._waiting.append(heard)
        super().interrupt()

    def _say(self, listens: bool, sentence: str) -> None:
        """One line of log for each change of state."""
        self._listens = listens
        state = "up" if listens else sentence.partition("(")[0]
        if state != self._state:
            self._state = state
            log.log(logging.INFO if listens else logging.WARNING, "%s: %s", self._channel, sentence)

    def _ends_within(self, seconds: float) -> bool:
        """Whether it is time to end; it waits for that, or for a lost connection, for so long."""
        if readable((self._end_read,), seconds):
            os.read(self._end_read, 64)
        return self._ends


def _received(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """(channel, payload) of the notifications that were received."""
    found = []
    while (each := connection.pgconn.notifies()) is not None:
        found.append((each.relname.decode(), each.extra.decode(errors="replace")))
    return found
