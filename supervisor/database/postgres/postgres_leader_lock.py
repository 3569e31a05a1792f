"""The leader's lock on PostgreSQL: an advisory lock of a session that this process keeps open for nothing else.

The server ends the session, and with it the lock, as soon as the process has ended, or some seconds after its host
has vanished.  A thread keeps the session: it notices at once when the connection breaks, opens another one, and says
a word now and then so that nothing between cuts it.  Behind a pooler sessions are shared, and a lock would stay with
the pooler; so there no process takes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

from supervisor.database.interface.leader_lock import LeaderLock
from supervisor.database.interface.wakeups import readable
from supervisor.database.postgres.connection import open_session

log = logging.getLogger("darkroom.leader_lock")

PING_SECONDS = 20.0  # what lies between may cut a connection on which nothing is said for a minute
AGAIN_SECONDS = 1.0  # after a connection that could not be had, or broke
TRY_POOLED_AGAIN_SECONDS = 30.0
# Of this schema of this database.  {}: SQL for whose lock it is.
KEY = "hashtextextended('darkroom ' || {} || ' of ' || current_schema(), 0)"


class PostgresLeaderLock(LeaderLock):
    """url: of the server itself, not of a pooler.  on_change: called in another thread when it was got, or lost.

    whose: which of several locks; letters, digits and spaces.
    """

    def __init__(self, url: str, on_change: Callable[[], None], whose: str = "dispatcher") -> None:
        self._url, self._on_change = url, on_change
        self._key = KEY.format(f"'{whose}'")
        self._told_read, self._told_write = os.pipe()
        os.set_blocking(self._told_write, False)
        self._thread: threading.Thread | None = None
        self._is_wanted = self._is_held = self._is_over = False
        self.answers = 0  # how often the server has said whether it is to be had

    @property
    def is_held(self) -> bool:
        return self._is_held

    def seek(self) -> bool:
        if not self._is_held:
            self._is_wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="leader-lock", daemon=True)
                self._thread.start()
            self._tell()
        return self._is_held

    def give_up(self) -> None:
        if self._is_wanted:
            self._is_wanted = False
            self._tell()

    def close(self) -> None:
        self._is_over = True
        self._tell()
        if self._thread is not None:
            self._thread.join()
        os.close(self._told_read)
        os.close(self._told_write)

    def _tell(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full: the thread has enough to wake up for
            os.write(self._told_write, b"x")

    # --- the thread ---

    def _run(self) -> None:
        while not self._is_over:
            seconds = AGAIN_SECONDS
            try:
                with open_session(self._url) as session:
                    if session is None:
                        log.info("no lock shows that this process lives: a pooler lies between")
                        seconds = TRY_POOLED_AGAIN_SECONDS
                    else:
                        self._keep(session)
            except psycopg.Error as error:
                log.debug("the leader's lock is not to be had: %s", error)
            except Exception:
                log.exception("the leader's lock is not to be had; trying again")
            finally:
                self._note(False)
            self._wait(seconds)

    def _keep(self, session: psycopg.Connection[Any]) -> None:
        """Have the lock while it is wanted.  Raises psycopg.Error when the session is lost."""
        ping_at = time.monotonic() + PING_SECONDS
        while not self._is_over:
            if self._is_wanted and not self._is_held:
                self._note(self._ask(session, f"SELECT pg_try_advisory_lock({self._key})"))
                self.answers += 1
            elif self._is_held and not self._is_wanted:
                self._note(False)  # before it is so
                self._ask(session, f"SELECT pg_advisory_unlock({self._key})")
            ready = readable((self._told_read, session.fileno()), ping_at - time.monotonic())
            if self._told_read in ready:
                os.read(self._told_read, 4096)
            if session.fileno() in ready:
                session.pgconn.consume_input()
            if time.monotonic() >= ping_at:
                ping_at = time.monotonic() + PING_SECONDS
                self._ask(session, "SELECT true")

    @staticmethod
    def _ask(session: psycopg.Connection[Any], sql: str) -> bool:
        (answer,) = session.execute(sql.encode(), prepare=False).fetchone() or (False,)
        return bool(answer)

    def _note(self, is_held: bool) -> None:
        if is_held != self._is_held:
            self._is_held = is_held
            self._on_change()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_over and readable((self._told_read,), end - time.monotonic()):
            os.read(self._told_read, 4096)
