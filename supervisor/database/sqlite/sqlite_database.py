"""SQLite for many processes and threads: one writer at a time, in order, with group commit.

WAL mode with `synchronous=FULL`: commits survive a power failure.  SQLite's own busy handler is unfair under load (a
starved process waited 5 s while the others made 1,900 commits a second), so our processes first queue at a file lock.
The busy time-out waits for programs that do not use this lock.

Reads go through a few connections that all threads share: one for each thread would keep its page cache and its
descriptors for as long as the thread lives, and a process makes threads for an hour.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import peewee

from supervisor.core.errors import DatabaseBusy, SettingFault
from supervisor.database.interface.database import (
    READER_THREADS,
    BatchedStep,
    Database,
    Dialect,
    Transaction,
    read_answers,
)

T = TypeVar("T")

BUSY_TIMEOUT_SECONDS = 15
MOST_STEPS_A_COMMIT = 128
MOST_READERS = READER_THREADS + 2  # beside slow queries in all reader threads, other threads still read
PRAGMAS = {"journal_mode": "wal", "synchronous": "full", "temp_store": "memory", "cache_size": -16000}

# Other programs may store text that is not UTF-8; such a row must not stop its readers.
READABLE_TEXT = functools.partial(str, encoding="utf-8", errors="replace")

_TIME = "strftime('%Y-%m-%dT%H:%M:%fZ','now',(SELECT shift FROM rule){})"
SQLITE = Dialect(
    "sqlite",
    now=_TIME.format(""),
    moment=_TIME.format(""),
    in_seconds=_TIME.format(", {seconds} || ' seconds'"),
    index_hint=" INDEXED BY {}",
    for_update="",
    for_update_of="",
    for_update_of_free="",
    for_free_key_share="",
    named_lock="",
    writes_within_queries=False,
    has_many_writers=False,
    as_text="{time}",
    # A Julian day as a double is exact to some 40 microseconds; the times themselves are whole milliseconds.
    seconds_between="round((julianday({later}) - julianday({earlier})) * 86400.0, 3)",
    shifted="strftime('%Y-%m-%dT%H:%M:%fZ', {time}, {seconds} || ' seconds')",
    greatest="max",
    least="min",
    json_array="json_array",
    json_group="json_group_array",
    texts="json_each({array})",
    rows="json_each({array})",
    is_one_of="{column} IN (SELECT value FROM json_each({array}))",
    texts_of="json_each({column}, '$.{name}')",
    as_json="{text}",
    as_time="{text}",
    lines="group_concat({texts}, char(10))",
    padded="printf('%0{digits}d', {number})",
    new_epoch="lower(hex(randomblob(6)))",
)

DURABILITIES = ("full", "normal")


def sqlite_file(url: str) -> tuple[Path, str]:
    """(path, synchronous) of `sqlite:///path` or `sqlite:///path?synchronous=normal`.  Raises SettingFault.

    normal: a commit does not wait for the disk, so a power failure, and nothing else, may undo the last commits.
    """
    if not url.startswith("sqlite:///"):
        scheme = url.partition("://")[0]
        raise SettingFault(
            f"DATABASE_URL begins with '{scheme}://', but this version stores in sqlite:/// files only."
        )
    path, _, options = url.removeprefix("sqlite:///").partition("?")
    synchronous = options.removeprefix("synchronous=") if options else "full"
    if synchronous not in DURABILITIES:
        raise SettingFault(
            f"DATABASE_URL ends with '?{options}', but may end with ?synchronous=full or ?synchronous=normal."
        )
    return Path(path), synchronous


class _Step(NamedTuple):
    """A queued step.  order_key: steps with the same one run in the order of the calls."""

    step: Callable[[Transaction], Any]
    future: concurrent.futures.Future[Any]
    order_key: str | None = None


_Done = tuple["concurrent.futures.Future[Any]", Any, Exception | None]


class SqliteDatabase(Database):
    """A SQLite file.  synchronous: one of DURABILITIES."""

    def __init__(self, path: str | Path, *, synchronous: str = "full") -> None:
        super().__init__()
        self.path = Path(path)
        self._pragmas = {**PRAGMAS, "synchronous": synchronous}
        self._turn = threading.Lock()  # its holder may use the writing connection
        self._steps: queue.SimpleQueue[_Step | None] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._writer: peewee.SqliteDatabase | None = None
        self._lock_file: int | None = None
        # The last one that was given back is the next one taken, so no more are opened than read at the same time.
        self._free_readers: queue.LifoQueue[peewee.SqliteDatabase] = queue.LifoQueue()
        for _ in range(MOST_READERS):
            self._free_readers.put(self._unopened())
        self._mine = _ReaderOfThread()
        self._looking = threading.Lock()  # its holder may use the connection for `data_version`
        self._look = self._unopened()

    def write(
        self,
        step: Callable[[Transaction], T],
        *,
        order_key: str | None = None,
        lock_seconds: float | None = None,
    ) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        if self._thread is None:
            with self._start:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._write_steps, name="db-writer", daemon=True)
                    self._thread.start()
        self._steps.put(_Step(step, future, order_key))
        return future

    def write_now(self, step: Callable[[Transaction], T], *, lock_seconds: float | None = None) -> T:
        try:
            with self._turn, self._immediate() as transaction:
                return step(transaction)
        except (peewee.OperationalError, sqlite3.OperationalError) as error:
            raise _as_fault(error) from error

    def read(self, query: Callable[[Transaction], T]) -> T:
        with self._reading() as database, _named_by_peewee(), database.atomic():
            return query(Transaction(database.execute_sql, SQLITE))

    def glance(self, query: Callable[[Transaction], T]) -> T:
        with self._reading() as database, _named_by_peewee():
            return query(Transaction(database.execute_sql, SQLITE))

    def data_version(self) -> int:
        """A number that changes when another connection has committed (`PRAGMA data_version`).

        Only numbers of one connection can be compared, so it has its own.
        """
        with self._looking:
            self._connect_if_closed(self._look)
            return int(self._look.execute_sql("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
            self._thread = None
        self._stop_readers()
        self._close_readers()
        with self._looking:
            self._look.close()
        with self._turn:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._lock_file is not None:
                os.close(self._lock_file)
                self._lock_file = None

    def _write_steps(self) -> None:
        """The writer thread: one transaction for all waiting steps."""
        while (first := self._steps.get()) is not None:
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while len(batch) < MOST_STEPS_A_COMMIT:
                    waiting = self._steps.get_nowait()
                    if waiting is None:
                        self._steps.put(None)
                        break
                    batch.append(waiting)
            self._commit(batch)

    def _commit(self, batch: list[_Step]) -> None:
        """Run a batch in one transaction and settle its futures after the commit."""
        done: list[_Done] = []
        try:
            with self._turn, self._immediate() as transaction:
                wanted = [each for each in batch if each.future.set_running_or_notify_cancel()]
                for several in _alike(wanted):
                    done += self._run(transaction, several, alone=len(wanted) == 1)
        except BaseException as error:  # noqa: BLE001  the waiting caller must get every error of its step
            cause = error.__cause__ if isinstance(error, _BrokenTransaction) and error.__cause__ else error
            for _, future, _ in batch:
                if not future.cancelled() and not future.done():
                    future.set_exception(_as_fault(cause))
            return
        for future, result, failure in done:
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(_as_fault(failure))

    def _run(self, transaction: Transaction, several: Sequence[_Step], *, alone: bool) -> list[_Done]:
        """Run one step, or several of one kind: in one statement for all, and each by itself if that fails."""
        first = several[0].step
        if len(several) > 1 and isinstance(first, BatchedStep):
            items = [each.step.item for each in several if isinstance(each.step, BatchedStep)]
            try:
                with self._savepoint(transaction, alone=False):
                    answers = read_answers(first.together(transaction, items))
            except _BrokenTransaction:
                raise
            except Exception:  # noqa: BLE001, S110  whose it is will be seen when each runs by itself
                pass
            else:
                return [_told(each, answer) for each, answer in zip(several, answers, strict=True)]
        done: list[_Done] = []
        for each in several:
            try:
                with self._savepoint(transaction, alone=alone):
                    done.append((each.future, each.step(transaction), None))
            except _BrokenTransaction:
                raise
            except Exception as error:
                if alone:
                    raise
                done.append((each.future, None, error))
        return done

    @contextlib.contextmanager
    def _savepoint(self, transaction: Transaction, *, alone: bool) -> Iterator[None]:
        """One step's savepoint; a single step in its transaction needs none."""
        if alone:
            yield
            return
        transaction.execute("SAVEPOINT step")
        try:
            yield
        except Exception as error:
            if not self._writing().connection().in_transaction:
                # Disk full and I/O errors roll the whole transaction back, not just this step.
                raise _BrokenTransaction from error
            transaction.execute("ROLLBACK TO step")
            transaction.execute("RELEASE step")
            raise
        transaction.execute("RELEASE step")

    @contextlib.contextmanager
    def _immediate(self) -> Iterator[Transaction]:
        """An IMMEDIATE transaction behind the file lock; needs `_turn`."""
        database = self._writing()
        assert self._lock_file is not None
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            database.execute_sql("BEGIN IMMEDIATE")
            try:
                yield Transaction(database.execute_sql, SQLITE)
                database.execute_sql("COMMIT")
            except BaseException:
                if database.connection().in_transaction:
                    database.execute_sql("ROLLBACK")
                raise
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _writing(self) -> peewee.SqliteDatabase:
        if self._writer is None:
            self._lock_file = os.open(
                self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
            writer = self._unopened()
            self._connect(writer)
            self._writer = writer
        return self._writer

    @contextlib.contextmanager
    def _reading(self) -> Iterator[peewee.SqliteDatabase]:
        """A connection for this thread alone until the block ends; a query that reads again has the same one."""
        if self._mine.reader is not None:
            yield self._mine.reader
            return
        reader = self._free_readers.get()
        try:
            self._connect_if_closed(reader)
            self._mine.reader = reader
            yield reader
        finally:
            self._mine.reader = None
            self._free_readers.put(reader)

    def _close_readers(self) -> None:
        """Close the reading connections after the reads under way.  (A connection that is closed while another thread
        reads with it crashes the process.)"""
        with self._start:  # two that close would each wait for what the other has taken
            readers = [self._free_readers.get() for _ in range(MOST_READERS)]
            for reader in readers:
                reader.close()
                self._free_readers.put(reader)

    def _unopened(self) -> peewee.SqliteDatabase:
        return peewee.SqliteDatabase(
            str(self.path),
            pragmas=self._pragmas,
            timeout=BUSY_TIMEOUT_SECONDS,
            thread_safe=False,  # each is used by one thread at a time, which another may follow
            check_same_thread=False,
        )

    def _connect_if_closed(self, database: peewee.SqliteDatabase) -> None:
        if database.is_closed():
            self._connect(database)

    def _connect(self, database: peewee.SqliteDatabase) -> None:
        database.connect()
        database.connection().text_factory = READABLE_TEXT


class _ReaderOfThread(threading.local):
    """reader: the connection with which this thread reads just now."""

    reader: peewee.SqliteDatabase | None = None


def _alike(batch: Sequence[_Step]) -> list[list[_Step]]:
    """The steps in their running order.  Steps of one kind run as one, unless a step would overtake, or join, another
    step with its order key."""
    runs: list[list[_Step]] = []
    open_runs: dict[Any, int] = {}  # the last run of each kind
    last: dict[str, int] = {}  # the run with the last step with each order key
    for each in batch:
        kind = each.step.together if isinstance(each.step, BatchedStep) else None
        place = open_runs.get(kind, -1) if kind is not None else -1
        if place < 0 or (each.order_key is not None and last.get(each.order_key, -1) >= place):
            place = len(runs)
            runs.append([])
            if kind is not None:
                open_runs[kind] = place
        runs[place].append(each)
        if each.order_key is not None:
            last[each.order_key] = place
    return runs


def _told(step: _Step, answer: Any) -> _Done:
    return (step.future, None, answer) if isinstance(answer, Exception) else (step.future, answer, None)


class _BrokenTransaction(Exception):
    """The database itself has rolled the whole transaction back; no step of the batch is stored."""


_PASSING = ("locked", "disk is full", "disk I/O error")
# SQLite's errors when it can't write for now, with a sentence for people.
_NOT_NOW = {
    "locked": f"The database was locked by another program for over {BUSY_TIMEOUT_SECONDS} s; nothing was stored.",
    "disk is full": "The disk that holds the database is full; nothing was stored.  Free some space.",
    "disk I/O error": "The disk that holds the database fails; nothing was stored.  See the system's log.",
    "unable to open database file": "The database file can't be opened; nothing was stored.  See its folder's rights.",
    "readonly database": "The database file can't be written; nothing was stored.  See its rights.",
}


def is_passing(error: BaseException) -> bool:
    """Whether the file can't be written only for now: it is locked, or its disk is full or fails."""
    said = str(error)
    return isinstance(error, peewee.OperationalError) and any(mark in said for mark in _PASSING)


def _as_fault(error: BaseException) -> BaseException:
    """DatabaseBusy for errors that may pass or that a person can remove; any other error, under peewee's name."""
    if isinstance(error, (peewee.OperationalError, sqlite3.OperationalError)):
        for said, sentence in _NOT_NOW.items():
            if said in str(error):
                fault = DatabaseBusy(sentence)
                fault.__cause__ = error
                return fault
    return peewee.OperationalError(str(error)) if isinstance(error, sqlite3.OperationalError) else error


@contextlib.contextmanager
def _named_by_peewee() -> Iterator[None]:
    """peewee translates errors only when a statement begins; an error at a later row has sqlite3's own class."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise peewee.OperationalError(str(error)) from error
