"""The connections of one process: a bounded number, opened when needed; the connection that was returned last is lent
first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from supervisor.core.errors import DatabaseBusy
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.postgres.connection import Connection


class CantConnect(Exception):
    """The server could not be reached this time."""


class Pool:
    """At most `size` connections at a time."""

    def __init__(self, url: str, *, size: int, pooled: bool) -> None:
        self._url, self._pooled, self._size = url, pooled, size
        self._places = threading.BoundedSemaphore(size)
        self._idle: list[Connection] = []
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def lent(self, seconds: float) -> Iterator[Connection]:
        """A connection for as long as the block runs; if it is lost meanwhile, it is not lent again.

        Raises DatabaseBusy if none becomes free within `seconds`, CantConnect if a new one can't be opened.
        """
        if not self._places.acquire(timeout=max(0.0, seconds)):
            raise DatabaseBusy(
                f"All {self._size} database connections of this process were busy for {seconds:.0f} s; "
                "nothing was stored."
            )
        connection: Connection | None = None
        try:
            connection = self._idle_one() or self._new_one()
            yield connection
        finally:
            if connection is not None:
                self._take_back(connection)
            self._places.release()

    def drop_idle(self) -> None:
        """Close all connections that are not lent: if one connection broke, the server has usually dropped them all."""
        with self._guard:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _idle_one(self) -> Connection | None:
        with self._guard:
            return self._idle.pop() if self._idle else None

    def _new_one(self) -> Connection:
        try:
            return Connection(self._url, pooled=self._pooled)
        except DatabaseError as error:
            raise CantConnect(str(error).strip()) from error

    def _take_back(self, connection: Connection) -> None:
        if connection.is_lost:
            connection.close()
            return
        with self._guard:
            self._idle.append(connection)
