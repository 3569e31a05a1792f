"""Statements that are sent to the server together, and their answers.

libpq's pipeline is driven here directly: psycopg's own sends each statement by itself and waits at the socket for each,
which costs a dispatcher's round more than its statements.  Statements leave in one write, followed by a Sync: the
server counts the time of an idle transaction from a Sync on, until something follows.  So they may also be sent before
their answers are needed, and the server works on them while this process goes on; if it stands still then, the server
ends its transaction, as it would between a question and the next.

A statement that was run PREPARED_AFTER times is prepared.  psycopg would drop all that is prepared after a ROLLBACK,
and a round without work ends with one.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import abc, generators, pq
from psycopg.adapt import PyFormat, Transformer

PREPARED_AFTER = 5  # runs: a rare statement is not worth the server's memory
MOST_PREPARED = 200  # the least recently used statements are dropped

_FAILED, _NOT_RUN = pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.PIPELINE_ABORTED
_HAS_ROWS = pq.ExecStatus.TUPLES_OK
Types = tuple[int, ...]


class Values(NamedTuple):
    """The values of a statement as the server wants them."""

    dumped: Sequence[Any] = ()
    types: Types = ()
    formats: Sequence[Any] | None = None


class Answer:
    """A statement and, once the server has given it, its answer, as a DB-API cursor.

    The rows may be read after another thread has taken the connection: nothing of theirs is shared with it.
    """

    __slots__ = ("_loads", "_next", "result", "text", "values")

    def __init__(self, text: bytes, values: Values) -> None:
        self.text, self.values = text, values
        self.result: Any = None
        self._loads: Any = None
        self._next = 0

    def take(self, result: Any, raw: psycopg.Connection[Any]) -> None:
        """The server's result has come, on this connection."""
        self.result = result
        if result.status == _HAS_ROWS:
            self._loads = Transformer(raw)
            self._loads.set_pgresult(result)

    @property
    def description(self) -> list[tuple[str]]:
        """(name,) of each column."""
        result = self.result
        return [] if result is None else [((result.fname(n) or b"").decode(),) for n in range(result.nfields)]

    @property
    def rowcount(self) -> int:
        """How many rows it returned or changed."""
        return int(
            self.result.ntuples if self.result.status == _HAS_ROWS else self.result.command_tuples or 0
        )

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""
        if self._next >= self.result.ntuples:
            return None
        self._next += 1
        return self._loads.load_row(self._next - 1, tuple)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that are left."""
        first, self._next = self._next, self.result.ntuples
        return self._loads.load_rows(first, self._next, tuple) if self._loads is not None else []

    def close(self) -> None:
        """The rows are in this process already."""


class _Command(NamedTuple):
    """A message to the server that it answers.  answer: that takes the result.  prepares: of a statement's Parse."""

    answer: Answer | None = None
    prepares: tuple[bytes, Types] | None = None


_SYNC, _DROP = _Command(), _Command()


class Exchanges:
    """Of one connection.  prepares: whether statements are prepared there."""

    def __init__(self, raw: psycopg.Connection[Any], *, prepares: bool) -> None:
        self._raw, self._pgconn, self._prepares = raw, raw.pgconn, prepares
        self._dumps: abc.Transformer = Transformer(raw)
        self._runs: collections.OrderedDict[tuple[bytes, Types], int] = collections.OrderedDict()
        self._names: collections.OrderedDict[tuple[bytes, Types], bytes] = collections.OrderedDict()
        self._dropped: list[bytes] = []
        self._awaited: collections.deque[_Command] = collections.deque()
        self._named = 0

    def statement(self, text: bytes, values: Sequence[Any]) -> Answer:
        """A statement to be sent.

        Raises psycopg.Error, or UnicodeError, for a value that can't be sent: before the statement stands among others,
        so that those are sent all the same.  One of them may be the BEGIN or the SAVEPOINT of whoever goes on.
        """
        if not values:
            return Answer(text, Values())
        dumped = self._dumps.dump_sequence(values, [PyFormat.AUTO] * len(values))
        return Answer(text, Values(dumped, self._dumps.types or (), self._dumps.formats))

    def send(self, several: Sequence[Answer]) -> None:
        """Send statements, and wait for no answer.  Raises psycopg.Error."""
        pgconn = self._pgconn
        with self._closed_when_cut_off():
            if not self._awaited:
                pgconn.enter_pipeline_mode()
                self._send_drops()
            for each in several:
                self._send(each)
            self._end_part()
            if (
                pgconn.flush()
            ):  # half of them, without their Sync, would hold their locks while this process stood still
                self._raw.wait(generators.send(pgconn))

    def read(self, until: Answer | None = None) -> None:
        """Read the answers of the statements that were sent, all or up to those that were sent with this one.

        Raises the psycopg.Error of the first one that failed, once all answers are read: those after it were not run.
        """
        if not self._awaited:
            return
        with self._closed_when_cut_off():
            failed = self._raw.wait(self._answered(until))
            if not self._awaited:
                self._pgconn.exit_pipeline_mode()
        if failed is not None:
            raise failed

    @contextlib.contextmanager
    def _closed_when_cut_off(self) -> Iterator[None]:
        """What is left in the connection then is answers to nobody."""
        try:
            yield
        except BaseException:
            self._awaited.clear()
            self._raw.close()
            raise

    def _send(self, each: Answer) -> None:
        values, types, formats = each.values
        key = (each.text, types)
        name = self._names.get(key)
        if name is None and self._is_to_be_prepared(key):
            name = self._new_name(key)
            self._pgconn.send_prepare(name, each.text, param_types=types)
            self._awaited.append(_Command(prepares=key))
        if name is None:
            self._pgconn.send_query_params(each.text, values, param_types=types, param_formats=formats)
        else:
            self._names.move_to_end(key)
            self._pgconn.send_query_prepared(name, values, param_formats=formats)
        self._awaited.append(_Command(each))

    def _end_part(self) -> None:
        self._pgconn.pipeline_sync()
        self._awaited.append(_SYNC)

    def _is_to_be_prepared(self, key: tuple[bytes, Types]) -> bool:
        """Count a run of a statement that is not prepared; whether it is prepared now."""
        if not self._prepares:
            return False
        runs = self._runs.pop(key, 0)
        if runs >= PREPARED_AFTER:
            return True
        self._runs[key] = runs + 1
        if len(self._runs) > MOST_PREPARED:
            self._runs.popitem(last=False)
        return False

    def _new_name(self, key: tuple[bytes, Types]) -> bytes:
        self._named += 1
        self._names[key] = name = b"darkroom_%d" % self._named
        if len(self._names) > MOST_PREPARED:
            self._dropped.append(self._names.popitem(last=False)[1])
        return name

    def _send_drops(self) -> None:
        """Outside a transaction: in one that failed, nothing would be dropped."""
        if self._dropped and self._pgconn.transaction_status == pq.TransactionStatus.IDLE:
            dropped, self._dropped = self._dropped, []
            for name in dropped:
                self._pgconn.send_query_params(b"DEALLOCATE " + name, None)
                self._awaited.append(_DROP)
            self._end_part()  # or it would belong to the transaction that begins next, and be its first query

    def _answered(self, until: Answer | None) -> Generator[Any, Any, psycopg.Error | None]:
        """Read answers up to a Sync; the error of the first statement that failed."""
        failed: psycopg.Error | None = None
        while self._awaited:
            results = yield from generators.fetch_many(self._pgconn)
            if not results:
                raise failed or psycopg.OperationalError("the connection was lost in the middle of an answer")
            command, result = self._awaited.popleft(), results[0]
            if result.status in (_FAILED, _NOT_RUN):
                # A drop has a part of its own; a cancel may hit it, and what follows is run nevertheless.
                if failed is None and result.status == _FAILED and command is not _DROP:
                    failed = psycopg.errors.error_from_result(result, encoding=self._pgconn._encoding)
                if command.prepares is not None:
                    self._names.pop(command.prepares, None)
            elif command.answer is not None:
                command.answer.take(result, self._raw)
            elif command is _SYNC and failed is None and until is not None and until.result is not None:
                break
        return failed
