"""Writing to SQLite: one writer at a time, in order, many steps in a commit, each independent of the others."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import peewee
import pytest

import supervisor.database.sqlite.sqlite_database as sqlite_database
from supervisor.core.errors import DatabaseBusy
from supervisor.database.interface.database import BatchedStep
from supervisor.database.open_database import open_database
from supervisor.database.sqlite.sqlite_database import MOST_READERS, SqliteDatabase
from tests.conftest import plain_connection, processes, wait_until

pytestmark = pytest.mark.sqlite_only


def _add(tx: Any, name: str) -> str:
    tx.execute("INSERT INTO sweep_run (minute) VALUES (?)", name)
    return name


def _names(producer: sqlite3.Connection) -> list[str]:
    return [row[0] for row in producer.execute("SELECT minute FROM sweep_run ORDER BY rowid")]


@contextlib.contextmanager
def gathering(database: SqliteDatabase) -> Iterator[None]:
    """While this lasts the writer waits for its turn, so that submitted steps gather."""
    database.write(lambda tx: None).result(timeout=90)
    lock = os.open(f"{database.path}.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    first = database.write(lambda tx: None)
    wait_until(database._steps.empty, "the writer has taken the first step")
    try:
        yield
    finally:
        os.close(lock)
        first.result(timeout=90)


def test_steps_that_wait_are_committed_together(database: SqliteDatabase) -> None:
    with gathering(database):
        futures = [database.write(lambda tx: (id(tx), tx.value("SELECT 1"))) for _ in range(100)]
    transactions = {future.result(timeout=90)[0] for future in futures}
    assert len(transactions) == 1


def test_a_step_that_fails_takes_only_itself_back(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    def half(tx: Any) -> None:
        _add(tx, "half")
        raise ValueError("after writing")

    def refused(tx: Any) -> None:
        _add(tx, "refused")
        tx.execute("INSERT INTO task_queue (user_openid, type, params) VALUES ('o', 'p', 'no json')")

    with gathering(database):
        futures: list[Future[Any]] = [
            database.write(lambda tx: _add(tx, "one")),
            database.write(half),
            database.write(refused),
            database.write(lambda tx: _add(tx, "two")),
        ]
    assert [futures[0].result(30), futures[3].result(30)] == ["one", "two"]
    with pytest.raises(ValueError, match="after writing"):
        futures[1].result(30)
    with pytest.raises(peewee.IntegrityError, match="params must be a JSON object"):
        futures[2].result(30)
    assert _names(producer) == ["one", "two"]


def test_a_lonely_step_that_fails_leaves_nothing(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    def half(tx: Any) -> None:
        _add(tx, "half")
        raise ValueError("after writing")

    with pytest.raises(ValueError, match="after writing"):
        database.write(half).result(30)
    with pytest.raises(ValueError, match="after writing"):
        database.write_now(half)
    assert _names(producer) == []


class Adding:
    """A kind of step that adds names, and notes those of each run; it refuses `wrong`, and `bad` is its end."""

    def __init__(self) -> None:
        self.runs: list[list[str]] = []

    def step(self, name: str) -> Any:
        return BatchedStep("added", self.together, name)

    def together(self, tx: Any, names: Sequence[str]) -> list[Any]:
        self.runs.append(list(names))
        for name in names:
            if name != "wrong":
                _add(tx, name)
            if name == "bad":
                raise ValueError("after writing")
        return [KeyError(name) if name == "wrong" else name for name in names]


def test_steps_that_are_alike_are_run_as_one_each_with_its_own_answer(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    adding = Adding()
    with gathering(database):
        futures = [database.write(adding.step(name), order_key=name) for name in ("a", "wrong", "b")]
    assert (futures[0].result(30), futures[2].result(30)) == ("a", "b")
    with pytest.raises(KeyError):
        futures[1].result(30)
    assert adding.runs == [["a", "wrong", "b"]]
    assert _names(producer) == ["a", "b"]


def test_a_failing_step_among_equal_ones_undoes_only_itself(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    adding = Adding()
    with gathering(database):
        futures = [database.write(adding.step(name), order_key=name) for name in ("a", "bad", "b")]
    with pytest.raises(ValueError, match="after writing"):
        futures[1].result(30)
    assert (futures[0].result(30), futures[2].result(30)) == ("a", "b")
    assert _names(producer) == ["a", "b"]


def test_equal_steps_keep_the_order_of_their_queue(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    adding, other = Adding(), Adding()
    with gathering(database):
        futures = [
            database.write(adding.step("a1"), order_key="a"),
            database.write(other.step("b1"), order_key="b"),
            database.write(adding.step("b2"), order_key="b"),
            database.write(adding.step("c1"), order_key="c"),
            database.write(adding.step("c2"), order_key="c"),
        ]
    for future in futures:
        future.result(30)
    assert adding.runs == [["a1"], ["b2", "c1"], ["c2"]]
    assert _names(producer) == ["a1", "b1", "b2", "c1", "c2"]


def test_results_come_after_the_commit(database: SqliteDatabase) -> None:
    """A step that is reported as done is visible from any other connection."""
    seen: list[bool] = []

    def look(future: Future[str]) -> None:
        with contextlib.closing(sqlite3.connect(database.path, timeout=0)) as other:
            seen.append(future.result() in _names(other))

    with gathering(database):
        futures = [database.write(lambda tx, n=n: _add(tx, f"{n}")) for n in range(20)]
        for future in futures:
            future.add_done_callback(look)
    for future in futures:
        future.result(timeout=90)
    wait_until(lambda: len(seen) == 20, "every callback has run")
    assert all(seen)


def test_a_step_whose_caller_gave_up_in_time_is_not_run(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    with gathering(database):
        futures = [database.write(lambda tx, n=n: _add(tx, f"{n}")) for n in range(3)]
        assert futures[1].cancel()
    assert futures[2].result(30) == "2" and _names(producer) == ["0", "2"]


def test_a_full_disk_fails_with_a_sentence_and_the_next_write_works(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    pages = database.write(lambda tx: tx.value("PRAGMA page_count")).result(30)
    database.write(lambda tx: tx.value(f"PRAGMA max_page_count = {pages + 2}")).result(30)
    big = "x" * 200_000
    with gathering(database):
        futures = [database.write(lambda tx, n=n: _add(tx, n)) for n in ("before", big, "after")]
    with pytest.raises(DatabaseBusy, match="disk that holds the database is full"):
        futures[1].result(30)
    stored = _names(producer)
    for name, future in (("before", futures[0]), ("after", futures[2])):
        assert (future.exception(30) is None) == (name in stored), "told what happened"
    assert big not in stored
    database.write(lambda tx: _add(tx, "small")).result(30)
    assert "small" in _names(producer)


def test_a_lock_timeout_is_reported_and_nothing_is_stored(
    settings: Any, monkeypatch: pytest.MonkeyPatch, producer: sqlite3.Connection
) -> None:
    monkeypatch.setattr(sqlite_database, "BUSY_TIMEOUT_SECONDS", 0.1)
    database = SqliteDatabase(settings.data_dir / "darkroom.db")
    producer.execute("BEGIN IMMEDIATE")
    for write in (
        lambda: database.write(lambda tx: _add(tx, "a")).result(30),
        lambda: database.write_now(_b),
    ):
        with pytest.raises(DatabaseBusy, match="nothing was stored"):
            write()
    producer.execute("COMMIT")
    assert _names(producer) == []
    database.write(lambda tx: _add(tx, "c")).result(30)
    assert _names(producer) == ["c"]
    database.close()


def _b(tx: Any) -> None:
    _add(tx, "b")


def test_a_reader_that_fails_half_way_does_not_stop_the_writer(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    """A cursor left open by an error would keep its snapshot, and the next BEGIN IMMEDIATE would fail."""
    for n in range(10):
        producer.execute("INSERT INTO sweep_run (minute) VALUES (?)", (f"{n}",))
    kept = []

    def stumble(tx: Any) -> None:
        tx.one("SELECT * FROM sweep_run")
        tx.value("SELECT minute FROM sweep_run")
        raise ValueError("with the frame of the query still in the traceback")

    for _ in range(3):
        try:
            database.write(stumble).result(30)
        except ValueError as error:
            kept.append(error)
        producer.execute("UPDATE sweep_run SET counts = '{}'")
    database.write(lambda tx: _add(tx, "after")).result(30)
    assert "after" in _names(producer)


@pytest.mark.parametrize("way", ["read", "glance", "write_now", "write"])
def test_an_error_that_comes_with_a_later_row_has_the_name_of_any_other(
    database: SqliteDatabase, way: str
) -> None:
    """A disk that failed half-way through an answer was a 500: sqlite3's own error names were unknown here."""

    def fails_late(tx: Any) -> Any:
        return tx.all("SELECT json(n) FROM (SELECT '1' AS n UNION ALL SELECT '2' UNION ALL SELECT 'no JSON')")

    with pytest.raises(peewee.OperationalError, match="malformed JSON"):
        result = getattr(database, way)(fails_late)
        result.result(30)


def test_text_that_is_not_utf8_is_readable(database: SqliteDatabase, producer: sqlite3.Connection) -> None:
    producer.execute("INSERT INTO sweep_run (minute) VALUES (CAST(x'61ff62' AS TEXT))")
    assert database.read(lambda tx: tx.value("SELECT minute FROM sweep_run")) == "a\ufffdb"
    assert database.write(lambda tx: tx.value("SELECT minute FROM sweep_run")).result(30) == "a\ufffdb"


def test_an_accepted_order_survives_loss_of_power(settings: Any) -> None:
    """As far as a program can say it: synchronous=FULL (2) on the writing connection, in WAL mode."""
    database = open_database(settings.database_url)
    assert database.write(lambda tx: tx.value("PRAGMA synchronous")).result(30) == 2
    assert database.write_now(lambda tx: tx.value("PRAGMA synchronous")) == 2
    assert database.read(lambda tx: tx.value("PRAGMA journal_mode")) == "wal"
    database.close()


def test_a_database_is_opened_on_first_use_only(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "nothing.db")
    assert list(tmp_path.iterdir()) == []
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_closing_finishes_the_submitted_steps(settings: Any, producer: sqlite3.Connection) -> None:
    database = SqliteDatabase(settings.data_dir / "darkroom.db", synchronous="normal")
    futures = [database.write(lambda tx, n=n: _add(tx, f"{n}")) for n in range(300)]
    database.close()
    assert all(future.done() for future in futures)
    assert len(_names(producer)) == 300


def test_a_read_is_one_moment(database: SqliteDatabase, producer: sqlite3.Connection) -> None:
    def count_twice(tx: Any) -> tuple[int, int]:
        before = tx.value("SELECT count(*) FROM sweep_run")
        producer.execute("INSERT INTO sweep_run (minute) VALUES ('between')")
        return before, tx.value("SELECT count(*) FROM sweep_run")

    assert database.read(count_twice) == (0, 0)
    assert database.glance(lambda tx: tx.value("SELECT count(*) FROM sweep_run")) == 1


def test_threads_of_a_process_share_its_writer(
    database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    def work(name: str) -> None:
        for n in range(25):
            write: Callable[..., Any] = (
                database.write_now if n % 5 == 0 else lambda s: database.write(s).result(30)
            )
            write(lambda tx, n=n: _add(tx, f"{name}-{n}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(_names(producer)) == 100


# --- several processes ---

WRITES = 40


def _write_from_a_process(path: Path, name: str) -> int:
    """Hand in steps and wait for each fifth; how many were refused."""
    database = SqliteDatabase(path)
    refused = 0
    futures = []
    for n in range(WRITES):
        futures.append(database.write(lambda tx, n=n: _add(tx, f"{name}-{n}")))
        if n % 5 == 0:
            refused += futures[-1].exception(timeout=60) is not None
    refused += sum(future.exception(timeout=60) is not None for future in futures)
    database.close()
    return refused


def test_four_processes_and_a_plain_connection_write_and_none_is_locked_out(
    settings: Any, producer: sqlite3.Connection
) -> None:
    path = settings.data_dir / "darkroom.db"
    with processes(4) as pool:
        running = [pool.submit(_write_from_a_process, path, name) for name in "abcd"]
        plain = 0
        while not all(each.done() for each in running):
            producer.execute("INSERT INTO sweep_run (minute) VALUES (?)", (f"plain-{plain}",))
            plain += 1
        assert [each.result(timeout=60) for each in running] == [0, 0, 0, 0]
    names = _names(producer)
    assert len(names) == 4 * WRITES + plain == len(set(names))
    for name in "abcd":
        mine = [each for each in names if each.startswith(f"{name}-")]
        assert mine == [f"{name}-{n}" for n in range(WRITES)], "in the order they were handed in"


def test_a_database_is_closed_after_the_reads_of_other_threads(database: SqliteDatabase) -> None:
    """A connection that is closed while another thread reads with it crashes the process."""
    within, may_go_on = threading.Event(), threading.Event()

    def query(tx: Any) -> Any:
        within.set()
        may_go_on.wait(90)
        return tx.value("SELECT 1")

    with ThreadPoolExecutor(2) as threads:
        reading = threads.submit(database.read, query)
        assert within.wait(90)
        closing = threads.submit(database.close)
        closed_too_early = wait([closing], timeout=0.5).done
        may_go_on.set()
        assert not closed_too_early
        assert reading.result(timeout=90) == 1
        closing.result(timeout=90)


def _connections(database: SqliteDatabase) -> int:
    """SQLite has one descriptor of the file for each connection."""
    files = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return files.count(str(database.path))


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_threads_that_read_one_after_the_other_have_one_connection(database: SqliteDatabase) -> None:
    database.read(lambda tx: tx.value("SELECT 1"))
    before = _connections(database)
    for _ in range(20):
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(database.read, lambda tx: tx.value("SELECT 1")).result(timeout=90) == 1
    assert _connections(database) == before


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted in /proc")
def test_many_threads_that_read_at_once_have_few_connections(database: SqliteDatabase) -> None:
    before = _connections(database)
    all_are_there = threading.Barrier(40, timeout=90)

    def read(n: int) -> Any:
        all_are_there.wait()
        return [database.read(lambda tx: tx.value("SELECT ?", n)) for _ in range(20)]

    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(read, range(40), timeout=90))
    assert answers == [[n] * 20 for n in range(40)]
    assert _connections(database) <= before + MOST_READERS


def test_a_query_reads_again_while_every_connection_is_in_use(database: SqliteDatabase) -> None:
    all_are_used = threading.Barrier(MOST_READERS, timeout=90)

    def query(tx: Any) -> Any:
        all_are_used.wait()
        return database.read(lambda again: again.value("SELECT 1"))

    with ThreadPoolExecutor(MOST_READERS) as threads:
        reading = [threads.submit(database.read, query) for _ in range(MOST_READERS)]
        assert [each.result(timeout=90) for each in reading] == [1] * MOST_READERS


KILLED = """
import sys, time
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
def step(tx):
    tx.execute("INSERT INTO sweep_run (minute) VALUES ('half')")
    print("inside", flush=True)
    time.sleep(60)
SqliteDatabase(sys.argv[1]).write(step).result()
"""


def test_a_process_killed_in_its_transaction_leaves_nothing_and_holds_nothing(
    settings: Any, database: SqliteDatabase, producer: sqlite3.Connection
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(settings.data_dir / "darkroom.db")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"inside\n"
    waiting = database.write(lambda tx: _add(tx, "next"))
    process.kill()
    process.wait(30)
    process.stdout.close()
    assert waiting.result(timeout=90) == "next"
    assert _names(producer) == ["next"]


def test_a_plain_writer_with_the_contracts_time_out_waits_its_turn(
    settings: Any, database: SqliteDatabase
) -> None:
    with contextlib.closing(plain_connection(settings)) as plain:
        for n in range(30):
            future = database.write(lambda tx, n=n: _add(tx, f"ours-{n}"))
            plain.execute("INSERT INTO sweep_run (minute) VALUES (?)", (f"theirs-{n}",))
            future.result(timeout=90)
        assert len(_names(plain)) == 60
