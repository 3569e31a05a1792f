"""The interface to a database: steps to write, queries to read.

A *step* is a function of a `Transaction` that either does all of its work or, by raising, none of it.
`write` joins the waiting steps of all threads of this process into one transaction, with a savepoint for each (group
commit); a step that raises undoes only itself.  A step's result is returned only after the commit.  Steps must be
short: they hold the only writer's lock, so they do no I/O.

On PostgreSQL several transactions run at once, and a transaction runs again after a deadlock or a lost connection.
So a step does nothing but read and write through its Transaction: it takes nothing from a queue, sets no attribute, and
uses only its arguments.

*Not* promised: the order of steps, even of one caller that does not wait between them, unless they name the same
`order_key`.
"""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

A = TypeVar("A")
T = TypeVar("T")
Row = dict[str, Any]
Parameters = Sequence[Any] | Mapping[str, Any]

READER_THREADS = 4


@dataclasses.dataclass(frozen=True)
class Dialect:
    """The SQL of one database where standard SQL does not suffice.

    now: the database's own clock.  moment: the same, read once for all rows of a statement.  in_seconds: template with
    {seconds}, the time so many seconds from now.  index_hint: names the index for a query, if the planner would not
    choose it by itself.
    for_update: ends a SELECT of rows that the same transaction changes later; empty where there is only one writer.
    for_update_of: the same, but locks only rows of the table {}.
    for_update_of_free: the same, leaving out rows of the table {} that another transaction has locked.
    for_free_key_share: ends a SELECT of rows of the table {} that must not be locked for update before the transaction
    ends, leaving out those that are.
    named_lock: a statement that waits until no other transaction holds `:name`, then holds it to the transaction's end.
    writes_within_queries: a query may change rows of several tables, each in a part of its WITH.
    has_many_writers: several transactions write at the same time, so other transactions may have locked a row, and a
    row that every transaction changes would let only one of them work.
    as_text: template with {time}.  seconds_between: template with {earlier} and {later}.  shifted: template with {time}
    and {seconds}.  greatest, least: the scalar functions' names.
    json_array, json_group: the functions that make an array of some values, and of a column's values.
    texts, rows: templates of tables with one column, `value`: the texts, or the arrays, in a JSON {array}.
    is_one_of: template of the condition that a {column} is one of the texts in a JSON {array}.
    texts_of: the same for the member {name} of a JSON {column}.  as_json, as_time: templates that convert a {text} to
    the type of such a column.
    lines: template that joins a column's {texts} as lines.  padded: template of a {number} as text with so many
    {digits}.  new_epoch: the value that gives each account another epoch.
    """

    name: str
    now: str
    moment: str
    in_seconds: str
    index_hint: str
    for_update: str
    for_update_of: str
    for_update_of_free: str
    for_free_key_share: str
    named_lock: str
    writes_within_queries: bool
    has_many_writers: bool
    as_text: str
    seconds_between: str
    shifted: str
    greatest: str
    least: str
    json_array: str
    json_group: str
    texts: str
    rows: str
    is_one_of: str
    texts_of: str
    as_json: str
    as_time: str
    lines: str
    padded: str
    new_epoch: str


class BuiltStatement(Protocol):
    """A statement with a different text for each database."""

    def spelled(self, dialect: Dialect) -> str:
        """The text for this database."""


Text = str | BuiltStatement


class PendingResult:
    """A query with rows that are needed later.  answer: returns the DB-API cursor, once."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._answer = answer

    def all(self) -> list[Row]:
        """Every row as a dict of column names."""
        with contextlib.closing(self._answer()) as cursor:
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def one(self) -> Row | None:
        """The first row, or None."""
        with contextlib.closing(self._answer()) as cursor:
            names, row = [column[0] for column in cursor.description], cursor.fetchone()
        return None if row is None else dict(zip(names, row, strict=True))

    def value(self) -> Any:
        """The first column of the first row, or None."""
        with contextlib.closing(self._answer()) as cursor:
            row = cursor.fetchone()
        return None if row is None else row[0]


class Pending(Generic[T]):
    """An answer that is needed later: its queries are sent with the next statement.  make: reads it, once."""

    def __init__(self, make: Callable[[], T]) -> None:
        self.get = functools.cache(make)


class Transaction:
    """SQL inside one transaction, or inside one consistent read.

    A parameter is written `:name` in a statement and given by that name.  (A statement without a name in it may use
    `?`, as tests do.)  `now` and `moment` are SQL expressions (Dialect).
    Cursors are closed at once: one left open by an error would keep its snapshot, and the next BEGIN would fail.
    """

    def __init__(self, execute: Callable[[str, Parameters], Any], dialect: Dialect) -> None:
        self._execute = execute
        self.dialect = dialect
        self.now, self.moment, self.for_update = dialect.now, dialect.moment, dialect.for_update

    def by_index(self, name: str) -> str:
        """The text after a table's name in FROM that makes a query use this index."""
        return self.dialect.index_hint.format(name)

    def for_update_of_free(self, table: str) -> str:
        """Like `for_update`, leaving out rows of this table that another transaction has locked, instead of waiting."""
        return self.dialect.for_update_of_free.format(table)

    def for_update_of(self, table: str) -> str:
        """Like `for_update`, where a SELECT has other sources than this table."""
        return self.dialect.for_update_of.format(table)

    def for_free_key_share(self, table: str) -> str:
        """Ends a SELECT of rows of this table: a `for_update` of these rows waits for this transaction.

        Rows that another transaction has locked for update are left out.
        """
        return self.dialect.for_free_key_share.format(table)

    def lock_name(self, name: str) -> None:
        """Wait until no other transaction holds this name, then hold it to the end of the transaction."""
        if self.dialect.named_lock:
            self.execute(self.dialect.named_lock, name=name)

    def in_seconds(self, seconds: str) -> str:
        """SQL for the time so many seconds from now; `seconds` is a SQL expression."""
        return self.dialect.in_seconds.format(seconds=seconds)

    def ago(self, seconds: str) -> str:
        """SQL for the time so many seconds before now; `seconds` is a SQL expression."""
        return self.in_seconds(f"(0 - {seconds})")

    def texts(self, array: str) -> str:
        """SQL for a table of the texts (`value`) in a JSON array; `array` is a SQL expression."""
        return self.dialect.texts.format(array=array)

    def is_one_of(self, column: str, array: str) -> str:
        """SQL for: this column is one of the texts in a JSON array.  An index of the column is used."""
        return self.dialect.is_one_of.format(column=column, array=array)

    def rows(self, array: str) -> str:
        """SQL for a table of the arrays (`value`) in a JSON array: `value ->> 0` is the first member of one, a text."""
        return self.dialect.rows.format(array=array)

    def as_json(self, text: str) -> str:
        """SQL that makes a text the value of a JSON column."""
        return self.dialect.as_json.format(text=text)

    def as_time(self, text: str) -> str:
        """SQL that makes a text the value of a column of times."""
        return self.dialect.as_time.format(text=text)

    def as_text(self, time: str) -> str:
        """SQL for a time as the text for users; `time` is a SQL expression."""
        return self.dialect.as_text.format(time=time)

    def seconds_between(self, earlier: str, later: str) -> str:
        """SQL for the seconds from one time to another, a float; both are SQL expressions."""
        return self.dialect.seconds_between.format(earlier=earlier, later=later)

    def seconds_since(self, time: str) -> str:
        """SQL for the age of a time; 0 for a time in the future, since the clock may have been set back."""
        return f"CASE WHEN {time} > {self.moment} THEN 0.0 ELSE {self.seconds_between(time, self.moment)} END"

    def shifted(self, time: str, seconds: str) -> str:
        """SQL for a time some seconds after another; both are SQL expressions."""
        return self.dialect.shifted.format(time=time, seconds=seconds)

    def greatest(self, *values: str) -> str:
        """SQL for the largest of some expressions, none of which is NULL."""
        return f"{self.dialect.greatest}({', '.join(values)})"

    def least(self, *values: str) -> str:
        """SQL for the smallest of some expressions, none of which is NULL."""
        return f"{self.dialect.least}({', '.join(values)})"

    def text_of(self, sql: Text) -> str:
        """The statement's text for this database."""
        return sql if isinstance(sql, str) else sql.spelled(self.dialect)

    def execute(self, sql: Text, /, *values: Any, **named: Any) -> Any:
        """Run one statement; the DB-API cursor."""
        return self._execute(self.text_of(sql), named or values)

    def run(self, sql: Text, /, *values: Any, **named: Any) -> int:
        """Run one statement; the number of rows it touched."""
        return int(self.execute(sql, *values, **named).rowcount)

    def send(self, sql: Text, /, *values: Any, **named: Any) -> None:
        """Run one statement when its row count is not needed.

        It is sent to a server together with the next statement; if it fails, the next statement or the commit raises.
        """
        self.execute(sql, *values, **named)

    def ask(self, sql: Text, /, *values: Any, **named: Any) -> PendingResult:
        """A query with rows that are needed later; it is sent to a server together with the next statement.

        If the database is not a server, the query runs when its rows are read.
        """
        return PendingResult(lambda: self.execute(sql, *values, **named))

    def send_now(self) -> None:
        """Let a server begin with the statements that wait for the next one, while this process goes on.

        Until the first answer was read, statements after it must only read.
        """

    def change(self, sql: Text, /, *values: Any, **named: Any) -> Pending[list[Row]]:
        """One statement that writes, with rows that are read later, perhaps only after the commit.

        It is sent to a server together with the next statement or the commit, where an error of it is raised.  Its rows
        are a DatabaseError if the answer to the commit was lost.
        """
        rows = self.all(sql, *values, **named)
        return Pending(lambda: rows)

    def all(self, sql: Text, /, *values: Any, **named: Any) -> list[Row]:
        """Every row as a dict of column names."""
        return self.ask(sql, *values, **named).all()

    def one(self, sql: Text, /, *values: Any, **named: Any) -> Row | None:
        """The first row, or None."""
        return self.ask(sql, *values, **named).one()

    def value(self, sql: Text, /, *values: Any, **named: Any) -> Any:
        """The first column of the first row, or None."""
        return self.ask(sql, *values, **named).value()


Answers = Sequence[T | Exception] | Pending[Sequence[T | Exception]]


def read_answers(answers: Answers[T]) -> Sequence[T | Exception]:
    """The answers of a kind of step, in the order of their items."""
    return answers.get() if isinstance(answers, Pending) else answers


class BatchedStep(Generic[A, T]):
    """A step of a kind that is merged: all waiting steps of the kind run as one, in the same statements.

    together: handles each of the given items or leaves it untouched, and returns the answers in their order, perhaps to
    be read only after the commit.  An answer that is an exception is raised to the caller of that item.  name: of the
    kind, for the log.
    """

    def __init__(
        self,
        name: str,
        together: Callable[[Transaction, Sequence[A]], Answers[T]],
        item: A,
    ) -> None:
        self.__name__, self.together, self.item = name, together, item

    def __call__(self, tx: Transaction) -> T:
        (answer,) = read_answers(self.together(tx, [self.item]))
        if isinstance(answer, Exception):
            raise answer
        return answer


class Database(abc.ABC):
    """One database, opened on first use, so that it may be made before a fork.

    runs_side_by_side: whether a step may run while another of this process is not committed yet.
    """

    runs_side_by_side = False

    def __init__(self) -> None:
        self._readers: concurrent.futures.ThreadPoolExecutor | None = None

    @abc.abstractmethod
    def write(
        self,
        step: Callable[[Transaction], T],
        *,
        order_key: str | None = None,
        lock_seconds: float | None = None,
    ) -> concurrent.futures.Future[T]:
        """Hand a step to the writer; its result comes after the commit.

        order_key: the id of the one task that the step concerns.  Steps with the same key are committed in the order of
        the calls; those with several keys may share a transaction.  Another name than a task's id may be a key; its
        steps must lock nothing that others wait for.
        lock_seconds: so long the step may wait for a row that another transaction has locked; then it fails with
        RowsLocked.  None: for as long as callers wait, while other steps go on.
        The future raises the step's exception, or DatabaseBusy if no lock could be obtained in time.
        """

    @abc.abstractmethod
    def write_now(self, step: Callable[[Transaction], T], *, lock_seconds: float | None = None) -> T:
        """Run one step in a transaction of its own on the calling thread, which it may block.  lock_seconds: as in
        `write`."""

    @abc.abstractmethod
    def read(self, query: Callable[[Transaction], T]) -> T:
        """Run a query on one snapshot, on the calling thread, which it may block."""

    @abc.abstractmethod
    def glance(self, query: Callable[[Transaction], T]) -> T:
        """Run a query of one statement without a transaction; the statement is its own snapshot."""

    @abc.abstractmethod
    def close(self) -> None:
        """Finish all steps that were passed in, close every connection."""

    async def write_async(
        self,
        step: Callable[[Transaction], T],
        *,
        order_key: str | None = None,
        lock_seconds: float | None = None,
    ) -> T:
        """`write`, awaited.  A cancelled caller does not take the step back: it is committed or not as a whole."""
        return await asyncio.wrap_future(self.write(step, order_key=order_key, lock_seconds=lock_seconds))

    async def read_async(self, query: Callable[[Transaction], T]) -> T:
        """`read` in one of a few reader threads."""
        if self._readers is None:
            self._readers = concurrent.futures.ThreadPoolExecutor(
                READER_THREADS, thread_name_prefix="db-reader"
            )
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read, query)

    def _stop_readers(self) -> None:
        if self._readers is not None:
            self._readers.shutdown(wait=True)
            self._readers = None


def is_postgres(url: str) -> bool:
    """Whether a DATABASE_URL names PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))
