"""One transaction on PostgreSQL, run until its outcome is known: committed once, or not at all.

A deadlock or a lost connection rolls everything back, so the transaction runs again after a short random wait, until
`BUSY_SECONDS` are over.  One case is different: if the connection is lost after COMMIT was sent, it is unknown whether
the server committed.  Therefore each writing transaction writes its number to `commit_mark`, a row of its connection,
and holds a lock of its connection.  A new connection takes that lock, which it gets only when the server has finished
the lost connection, and reads the number.  The transaction runs again only if its number is missing.  (The server's
transaction id would not do: after a crash the server may give the same id to another transaction, and `pg_xact_status`
then reports on that one.)  If the server is away for too long, OutcomeUnknown is raised.

A step may therefore run more than once: it must do nothing but read and write through its Transaction.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import peewee

from supervisor.core.errors import DatabaseBusy, OutcomeUnknown
from supervisor.database.interface.database import Pending, PendingResult, Row, Text, Transaction
from supervisor.database.postgres.connection import Connection
from supervisor.database.postgres.connection_refusals import in_words
from supervisor.database.postgres.errors import as_fault, is_to_be_tried_again
from supervisor.database.postgres.pool import CantConnect, Pool
from supervisor.database.postgres.sql import POSTGRES

T = TypeVar("T")

BUSY_SECONDS = 15.0
OUTCOME_SECONDS = 60.0  # how long the outcome of a commit is looked up
LONGEST_WAIT_SECONDS = 0.5
LOCKED_SECONDS = 20.0  # for a row that another program has locked: callers wait for no more than 30 or 60 s


class PostgresTransaction(Transaction):
    """A Transaction that sends statements together where possible."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.execute, POSTGRES)
        self._connection = connection

    def send(self, sql: Text, /, *values: Any, **named: Any) -> None:
        self._connection.hand_in(self.text_of(sql), named or values)

    def send_now(self) -> None:
        self._connection.send_now()

    def ask(self, sql: Text, /, *values: Any, **named: Any) -> PendingResult:
        cursor = self._connection.hand_in(self.text_of(sql), named or values)
        return PendingResult(lambda: self._connection.answer(cursor))

    def change(self, sql: Text, /, *values: Any, **named: Any) -> Pending[list[Row]]:
        return Pending(self.ask(sql, *values, **named).all)


class _TakenBack(Exception):
    """The transaction was rolled back, and the cause may have passed already."""


def write(pool: Pool, step: Callable[[Transaction], T], lock_seconds: float | None = None) -> T:
    """Run a step in a transaction and commit it.  Raises the step's exception, DatabaseBusy or OutcomeUnknown.

    lock_seconds: how long a statement may wait for a lock, then it is RowsLocked.  None: LOCKED_SECONDS.
    """
    waits = LOCKED_SECONDS if lock_seconds is None else lock_seconds
    return _until_it_works(pool, lambda seconds: _write_once(pool, step, seconds, waits))


def read(pool: Pool, query: Callable[[Transaction], T], *, one_moment: bool) -> T:
    """Run a query.  one_moment: on one snapshot, as several statements need it.  Raises as `write` does."""
    return _until_it_works(pool, lambda seconds: _read_once(pool, query, seconds, one_moment))


def _until_it_works(pool: Pool, attempt: Callable[[float], T]) -> T:
    """attempt: gets the number of seconds that it may wait for a connection."""
    end = time.monotonic() + BUSY_SECONDS
    for wait in _waits():
        try:
            return attempt(end - time.monotonic())
        except (_TakenBack, CantConnect) as error:
            cause = error.__cause__ or error
            if isinstance(error, CantConnect) or not is_to_be_tried_again(cause):
                pool.drop_idle()
            if time.monotonic() + wait >= end:
                raise _as_busy(cause) from cause
        time.sleep(wait)
    raise AssertionError("the waits have no end")


def _waits() -> Iterator[float]:
    """Seconds before each further attempt: at once, then drawn from a range that doubles."""
    yield 0.0
    ceiling = 0.01
    while True:
        yield random.uniform(ceiling / 2, ceiling)
        ceiling = min(2 * ceiling, LONGEST_WAIT_SECONDS)


def _write_once(pool: Pool, step: Callable[[Transaction], T], seconds: float, lock_seconds: float) -> T:
    with pool.lent(seconds) as connection:
        try:
            connection.begin_writing(lock_seconds)
            result = step(PostgresTransaction(connection))
        except BaseException as error:
            _undo(connection, error)
            raise
        try:
            connection.commit_marked()
            return result
        except peewee.PeeweeException as error:
            connection.note(error)
            if not connection.is_lost:  # the server has refused, so the outcome is known
                _undo(connection, error)
                raise
            lost = error
    if _was_committed(pool, connection.writer, connection.number):
        return result
    raise _TakenBack from lost


def _read_once(pool: Pool, query: Callable[[Transaction], T], seconds: float, one_moment: bool) -> T:
    with pool.lent(seconds) as connection:
        try:
            if one_moment:
                connection.begin_reading()
            result = query(PostgresTransaction(connection))
            if one_moment:
                connection.end_reading()
            else:
                connection.take_back()
            return result
        except BaseException as error:
            _undo(connection, error)
            raise


def _undo(connection: Connection, error: BaseException) -> None:
    """Roll back.  Raises _TakenBack or a fault in the error's place where there is one."""
    connection.note(error)
    connection.take_back()
    if isinstance(error, peewee.PeeweeException):
        if connection.is_lost or is_to_be_tried_again(error):
            raise _TakenBack from error
        fault = as_fault(error)
        if fault is not error:
            raise fault from error


def _was_committed(pool: Pool, writer: int, number: int) -> bool:
    """Look up whether a transaction with an unanswered COMMIT was committed.  Raises OutcomeUnknown."""
    end = time.monotonic() + OUTCOME_SECONDS
    for wait in _waits():
        pool.drop_idle()
        with (
            contextlib.suppress(peewee.PeeweeException, CantConnect, DatabaseBusy),
            pool.lent(end - time.monotonic()) as connection,
        ):
            return connection.has_committed(writer, number)
        if time.monotonic() + wait >= end:
            raise OutcomeUnknown
        time.sleep(wait)
    raise AssertionError("the waits have no end")


def _as_busy(cause: BaseException) -> DatabaseBusy:
    collided = is_to_be_tried_again(cause)
    said = "kept colliding with other writers" if collided else f"did not answer ({in_words(cause)})"
    return DatabaseBusy(f"The database {said} for {BUSY_SECONDS:.0f} s; nothing was stored.")
