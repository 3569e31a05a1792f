"""The statements of one connection: frequent ones are prepared, and several are sent in one round trip.

A statement is queued, and sent together with all queued ones when its answer is needed.  So BEGIN is sent with the
first query, a write with unread answer with the statement after it, and the last write with COMMIT.  psycopg's cursors
are not used: they cost several times as much time as the server needs for such a statement.  Its connections, adapters
and errors are used.

libpq's blocking wait in a pipeline holds the interpreter's lock, so this module waits for the socket instead.
"""

from __future__ import annotations

import collections
import functools
import select
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import PyFormat, Transformer

from supervisor.database.interface.database import Parameters
from supervisor.database.postgres.errors import STALE_PLAN
from supervisor.database.postgres.sql import numbered

PREPARED_AFTER = 5  # runs: a rare statement is not worth the server's memory
MOST_PREPARED = 200  # the least recently used statements are dropped
MOST_COUNTED = 500  # the number of statements that are counted
_GOOD = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})


class Answer:
    """The server's answer to a statement, as a DB-API cursor.  rowcount: of rows returned or touched, else -1."""

    __slots__ = ("_left", "_names", "rowcount")

    def __init__(self, names: list[str], rows: list[Any], rowcount: int) -> None:
        self._names, self._left, self.rowcount = names, rows, rowcount

    @property
    def description(self) -> list[tuple[str]]:
        """(name,) of each column."""
        return [(name,) for name in self._names]

    def fetchone(self) -> Any:
        """The next row, or None."""
        return self._left.pop(0) if self._left else None

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        rows, self._left = self._left, []
        return rows

    def close(self) -> None:
        """Nothing is held."""


class Statement:
    """A queued statement with its values dumped.  answer: None until it was sent."""

    __slots__ = ("answer", "formats", "text", "types", "values")

    def __init__(self, text: bytes, values: Any, types: Any, formats: Any) -> None:
        self.text, self.values, self.types, self.formats = text, values, types, formats
        self.answer: Answer | None = None


class Exchange:
    """The statements of one connection in autocommit mode.  prepares: whether sessions keep prepared statements.

    Every method that sends may raise psycopg.Error: the error of the first failed statement among those sent together;
    the statements after it were not run.
    """

    def __init__(self, raw: psycopg.Connection[Any], *, prepares: bool) -> None:
        self._libpq = raw.pgconn
        self._adapt = Transformer.from_context(raw)
        self._prepares = prepares
        self._runs: collections.OrderedDict[tuple[bytes, Any], int] = collections.OrderedDict()
        self._names: collections.OrderedDict[tuple[bytes, Any], bytes] = collections.OrderedDict()
        self._named = 0
        self._waiting: list[Statement] = []
        self._socket = select.poll()
        self._socket.register(self._libpq.socket, select.POLLIN)

    def hand_in(self, sql: str, values: Parameters = ()) -> Statement:
        """A statement, with `:name` or `?` for its values."""
        text, names = numbered(sql)
        ordered = [values[name] for name in names] if isinstance(values, Mapping) else values
        dumped = self._adapt.dump_sequence(ordered, _formats(len(ordered)))
        statement = Statement(text, dumped, self._adapt.types, self._adapt.formats)
        self._waiting.append(statement)
        return statement

    def answer(self, statement: Statement) -> Answer:
        """Its answer; all queued statements are sent."""
        if statement.answer is None:
            self.send()
        assert statement.answer is not None
        return statement.answer

    def send(self) -> None:
        """Send the queued statements.  After an error that is not an answer of the server, the connection is closed."""
        several, self._waiting = self._waiting, []
        try:
            if len(several) == 1:
                self._send_alone(several[0])
            elif several:
                self._send_together(several)
        except psycopg.Error as error:
            if not error.sqlstate:
                self._libpq.finish()
            elif error.sqlstate == STALE_PLAN:
                self._names.clear()  # they are prepared anew, under other names
            raise

    def roll_back(self) -> None:
        """End the transaction, if the server has begun one; drop the queued statements."""
        self._waiting = []
        if self._libpq.transaction_status != pq.TransactionStatus.IDLE:
            _checked(self._libpq.exec_(b"ROLLBACK"))

    def _send_alone(self, one: Statement) -> None:
        name = self._name_of(one)
        if name is None:
            result = self._libpq.exec_params(one.text, one.values, one.types, one.formats)
        else:
            result = self._libpq.exec_prepared(name, one.values, one.formats)
        one.answer = self._loaded(_checked(result))

    def _send_together(self, several: list[Statement]) -> None:
        names = [self._name_of(each) for each in several]  # this may prepare some, and wait
        self._libpq.enter_pipeline_mode()
        for each, name in zip(several, names, strict=True):
            if name is None:
                self._libpq.send_query_params(each.text, each.values, each.types, each.formats)
            else:
                self._libpq.send_query_prepared(name, each.values, each.formats)
        self._libpq.pipeline_sync()
        self._flush()
        results = [self._next_result() for _ in several]
        self._next_result()  # of the sync
        self._libpq.exit_pipeline_mode()
        for each, result in zip(several, results, strict=True):
            each.answer = self._loaded(_checked(result))

    def _flush(self) -> None:
        """Pass everything to the kernel, and read the server's answers meanwhile: otherwise both could wait for each
        other."""
        while self._libpq.flush():
            self._socket.modify(self._libpq.socket, select.POLLIN | select.POLLOUT)
            if any(event & ~select.POLLOUT for _, event in self._socket.poll()):
                self._libpq.consume_input()
            self._socket.modify(self._libpq.socket, select.POLLIN)

    def _next_result(self) -> Any:
        """The result of the next statement in the pipeline.  Raises if the connection was lost without an answer."""
        result = self._awaited_result()
        if result is None:
            raise psycopg.OperationalError("the connection was lost in the middle of an answer")
        if result.status == pq.ExecStatus.FATAL_ERROR and self._libpq.status == pq.ConnStatus.BAD:
            raise _error_of(result)
        if result.status != pq.ExecStatus.PIPELINE_SYNC:
            self._awaited_result()  # None ends the answer to one statement
        return result

    def _awaited_result(self) -> Any:
        while self._libpq.is_busy():
            self._socket.poll()
            self._libpq.consume_input()
        return self._libpq.get_result()

    def _name_of(self, statement: Statement) -> bytes | None:
        """The statement's name on the server; None if it is not prepared."""
        if not self._prepares:
            return None
        known = (statement.text, statement.types)
        if known in self._names:
            self._names.move_to_end(known)
            return self._names[known]
        runs = self._runs[known] = self._runs.pop(known, 0) + 1
        if len(self._runs) > MOST_COUNTED:
            self._runs.popitem(last=False)
        if runs <= PREPARED_AFTER:
            return None
        del self._runs[known]
        name = self._names[known] = self._prepare(statement)
        return name

    def _prepare(self, statement: Statement) -> bytes:
        if len(self._names) == MOST_PREPARED:
            _, oldest = self._names.popitem(last=False)
            _checked(self._libpq.exec_(b"DEALLOCATE " + oldest))
        self._named += 1
        name = b"darkroom_%d" % self._named
        _checked(self._libpq.prepare(name, statement.text, statement.types))
        return name

    def _loaded(self, result: Any) -> Answer:
        touched = result.command_tuples
        rowcount = -1 if touched is None else touched
        if result.status != pq.ExecStatus.TUPLES_OK:
            return Answer([], [], rowcount)
        self._adapt.set_pgresult(result)
        names = [result.fname(place).decode() for place in range(result.nfields)]
        return Answer(names, self._adapt.load_rows(0, result.ntuples, tuple), rowcount)


@functools.cache
def _formats(count: int) -> list[PyFormat]:
    return [PyFormat.AUTO] * count


def _checked(result: Any) -> Any:
    """The result of a successful statement.  Raises the server's error."""
    if result.status not in _GOOD:
        raise _error_of(result)
    return result


def _error_of(result: Any) -> psycopg.Error:
    error = errors.error_from_result(result)
    # No answer from the server: the connection is lost.
    return error if error.sqlstate else psycopg.OperationalError(str(error))
