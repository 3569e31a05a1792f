"""Writing to PostgreSQL: each step is stored once or not at all, whatever happens to its connection."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import peewee
import pytest

from config.settings import Settings
from supervisor.core.errors import DatabaseBusy, OutcomeUnknown
from supervisor.database.interface.database import BatchedStep, Transaction
from supervisor.database.open_database import open_database
from supervisor.database.postgres import transactions
from supervisor.database.postgres.postgres_database import WRITER_THREADS, PostgresDatabase
from supervisor.store.queue import leader
from supervisor.store.tasks import user_actions
from tests.conftest import wait_until
from tests.support.databases import Plain
from tests.support.servers.postgres_proxy import PostgresProxy
from tests.support.servers.postgres_server import server

pytestmark = pytest.mark.postgresql_only


@pytest.fixture
def wired(wire: PostgresProxy) -> Iterator[PostgresDatabase]:
    """The database at the far end of the wire."""
    opened = PostgresDatabase(wire.url)
    yield opened
    opened.close()


def _add(tx: Transaction, name: str) -> str:
    tx.execute("INSERT INTO sweep_run (minute) VALUES (?)", name)  # its key refuses a second one
    return name


def _names(producer: Plain) -> set[str]:
    return {row[0] for row in producer.execute("SELECT minute FROM sweep_run").fetchall()}


def _add_many(database: PostgresDatabase, count: int) -> list[Future[str]]:
    return [database.write(lambda tx, n=n: _add(tx, f"{n}")) for n in range(count)]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_connection_cut_at_the_commit_neither_loses_nor_doubles_a_step(
    moment: str, wire: PostgresProxy, wired: PostgresDatabase, producer: Plain
) -> None:
    """'after': the server has stored it and we never hear; 'before': it was never asked."""
    numbers = itertools.count()
    cuts: list[int] = []

    def cut() -> str | None:
        if (number := next(numbers)) % 3:
            return None
        cuts.append(number)
        return moment

    wire.cut = cut
    assert [each.result(90) for each in _add_many(wired, 40)] == [f"{n}" for n in range(40)]
    assert len(cuts) >= 10 and _names(producer) == {f"{n}" for n in range(40)}


def test_an_unknown_outcome_is_reported_as_such(
    wire: PostgresProxy, wired: PostgresDatabase, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "OUTCOME_SECONDS", 0.3)
    wired.write_now(lambda tx: _add(tx, "first"))

    def cut() -> str:
        wire.refuses = True
        return "after"

    wire.cut = cut
    with pytest.raises(OutcomeUnknown, match="look before you try again"):
        wired.write(lambda tx: _add(tx, "second")).result(90)
    assert _names(producer) == {"first", "second"}
    wire.refuses, wire.cut = False, lambda: None
    assert wired.write(lambda tx: _add(tx, "third")).result(90) == "third"


def test_backends_terminated_at_random_neither_lose_nor_double_a_step(
    database: PostgresDatabase, producer: Plain
) -> None:
    ended = threading.Event()
    killed = []

    def kill() -> None:
        with server().admin() as admin:
            while not ended.wait(0.03):
                killed.extend(
                    admin.execute(
                        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                            WHERE application_name LIKE 'darkroom%%' AND random() < 0.5"""
                    ).fetchall()
                )

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        added = 0
        while len(killed) <= 5 or not added:
            futures = [database.write(lambda tx, n=n: _add(tx, f"{n}")) for n in range(added, added + 200)]
            assert [each.result(90) for each in futures] == [f"{n}" for n in range(added, added + 200)]
            added += 200
        read = [database.read(lambda tx: tx.value("SELECT count(*) FROM sweep_run")) for _ in range(20)]
    finally:
        ended.set()
        killer.join()
    assert read == [added] * 20
    assert _names(producer) == {f"{n}" for n in range(added)}


@pytest.mark.parametrize("crash", [True, False])
def test_a_restart_of_the_server_neither_loses_nor_doubles_a_step(
    crash: bool, database: PostgresDatabase, settings: Settings
) -> None:
    futures = _add_many(database, 200)
    futures[20].result(90)
    server().stop(crash=crash)
    late = database.write(lambda tx: _add(tx, "late"))
    server().start()
    assert [each.result(90) for each in futures] == [f"{n}" for n in range(200)]
    assert late.result(90) == "late"
    assert database.read(lambda tx: tx.value("SELECT count(*) FROM sweep_run")) == 201


def test_steps_that_deadlock_are_run_again_and_both_are_stored(
    database: PostgresDatabase, producer: Plain
) -> None:
    for name in "ab":
        producer.execute("INSERT INTO sweep_run (minute, counts) VALUES (?, '{}')", (name,))
    both_hold_one = threading.Barrier(2)
    runs: list[str] = []

    def cross(tx: Transaction, names: str) -> None:
        runs.append(names)
        is_first_run = runs.count(names) == 1
        for name in names:
            tx.execute(
                """UPDATE sweep_run SET counts = jsonb_set(counts, ARRAY[CAST(? AS text)], 'true')
                    WHERE minute = ?""",
                names, name,
            )  # fmt: skip
            if is_first_run and name == names[0]:
                both_hold_one.wait(30)

    crossing = [database.write(lambda tx, names=names: cross(tx, names)) for names in ("ab", "ba")]
    for each in crossing:
        each.result(90)
    assert len(runs) >= 3, "one of them was run again"
    rows = database.read(lambda tx: tx.all("SELECT DISTINCT counts FROM sweep_run"))
    assert [row["counts"] for row in rows] == ['{"ab": true, "ba": true}']


def test_a_step_that_fails_leaves_nothing_and_harms_no_other(
    database: PostgresDatabase, producer: Plain
) -> None:
    def half(tx: Transaction) -> None:
        _add(tx, "half")
        raise ValueError("after writing")

    def twice(tx: Transaction) -> None:
        _add(tx, "one")

    first = database.write(lambda tx: _add(tx, "one"))
    assert first.result(90) == "one"
    with pytest.raises(ValueError, match="after writing"):
        database.write(half).result(90)
    with pytest.raises(peewee.IntegrityError):
        database.write(twice).result(90)
    names = [
        database.write(lambda tx, n=n: _add(tx, f"after {n}")).result(90) for n in range(10)
    ]  # by every writer
    assert _names(producer) == {"one", *names}


def test_a_step_that_continues_after_an_error_does_not_count_as_stored(
    database: PostgresDatabase, producer: Plain
) -> None:
    def stubborn(tx: Transaction) -> None:
        _add(tx, "before")
        with contextlib.suppress(peewee.PeeweeException):
            tx.execute("SELECT 1 / 0")

    with pytest.raises(peewee.InternalError, match="went on after an error"):
        database.write_now(stubborn)
    assert _names(producer) == set()


def test_steps_of_a_queue_are_stored_in_their_order(database: PostgresDatabase, producer: Plain) -> None:
    order: list[int] = []

    def note(tx: Transaction, n: int) -> None:
        tx.value("SELECT pg_sleep(?)", random.uniform(0, 0.002))
        order.append(n)

    beside = [database.write(lambda tx: tx.value("SELECT pg_sleep(0.001)")) for _ in range(30)]
    futures = [database.write(lambda tx, n=n: note(tx, n), order_key="t-1") for n in range(40)]
    assert futures[17].cancel()
    for each in [*beside, *futures[:17], *futures[18:]]:
        each.result(90)
    assert order == [*range(17), *range(18, 40)]


def test_steps_that_name_no_task_run_side_by_side(database: PostgresDatabase) -> None:
    """Two that wait for each other can only both end if they run at once."""
    meeting = threading.Barrier(2)
    both = [database.write(lambda tx: meeting.wait(30)) for _ in range(2)]
    assert sorted(each.result(90) for each in both) == [0, 1]


@contextlib.contextmanager
def gathering(database: PostgresDatabase) -> Iterator[None]:
    """While this lasts every writer is busy, so that submitted steps gather."""
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def busy(tx: Transaction) -> None:
        begun.release()
        go_on.wait(30)

    held = [database.write(busy) for _ in range(WRITER_THREADS)]
    for _ in held:
        assert begun.acquire(timeout=90)
    try:
        yield
    finally:
        go_on.set()
        for each in held:
            each.result(90)


def test_steps_of_tasks_that_wait_share_a_transaction(database: PostgresDatabase) -> None:
    def whose(tx: Transaction) -> Any:
        return tx.value("SELECT CAST(pg_current_xact_id() AS text)")

    with gathering(database):
        joined = [database.write(whose, order_key=f"t-{n}") for n in range(60)]
    with gathering(database):
        apart = [database.write(whose) for _ in range(20)]
    assert len({each.result(90) for each in joined}) <= 4, "sixty in as few as may be"
    assert len({each.result(90) for each in apart}) == 20, "the locks of these are unknown"


def test_one_that_fails_among_many_takes_only_itself_back(
    database: PostgresDatabase, producer: Plain
) -> None:
    def half(tx: Transaction) -> None:
        _add(tx, "half")
        raise ValueError("after writing")

    with gathering(database):
        futures: list[Future[Any]] = [
            database.write(lambda tx, n=n: half(tx) if n == 7 else _add(tx, f"{n}"), order_key=f"t-{n}")
            for n in range(20)
        ]
    with pytest.raises(ValueError, match="after writing"):
        futures[7].result(90)
    names = {each.result(90) for n, each in enumerate(futures) if n != 7}
    assert names == _names(producer) == {f"{n}" for n in range(20)} - {"7"}


def test_tasks_of_the_same_users_in_any_order_never_deadlock(
    database: PostgresDatabase, settings: Settings, admitted_task: Callable[..., str], producer: Plain
) -> None:
    """Two processes' worth of writers change the tasks of two users crosswise, many at a time."""
    mine = [admitted_task(f"o-{n % 2}") for n in range(24)]
    other = PostgresDatabase(settings.database_url)
    before = producer.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()

    def cancel(tx: Transaction, task_id: str) -> str:
        return str(user_actions.cancel(tx, task_id)["status"])

    with gathering(database), gathering(other):
        futures = [
            (database, other)[n % 3 == 0].write(lambda tx, each=each: cancel(tx, each), order_key=each)
            for n, each in enumerate(random.sample(mine, len(mine)))
        ]
    assert {each.result(90) for each in futures} == {"cancelled"}
    other.close()
    after = producer.execute(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert after == before


def test_closing_finishes_the_submitted_steps(settings: Settings, producer: Plain) -> None:
    database = PostgresDatabase(settings.database_url)
    futures = [database.write(lambda tx, n=n: _add(tx, f"{n}"), order_key=f"{n % 3}") for n in range(60)]
    database.close()
    assert all(each.done() for each in futures) and len(_names(producer)) == 60


def test_a_process_keeps_its_limit_of_connections(settings: Settings, producer: Plain) -> None:
    database = PostgresDatabase(settings.database_url, connections=3)
    counted = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND application_name LIKE 'darkroom%'"""

    def busy(tx: Transaction) -> Any:
        tx.value("SELECT pg_sleep(0.01)")
        return tx.value(counted)

    with ThreadPoolExecutor(12) as threads:
        seen = list(threads.map(lambda n: (database.write_now, database.read)[n % 2](busy), range(36)))
    assert max(seen) <= 2 and len(seen) == 36, "besides the one that counts"
    database.close()
    wait_until(lambda: producer.execute(counted).fetchone()[0] == 0, "every connection is closed")


def test_a_server_that_is_away_is_reported_in_a_sentence(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "BUSY_SECONDS", 0.3)
    nowhere = open_database(settings.database_url.replace("port=5432", "port=5433"))
    for ask in (
        lambda: nowhere.write_now(lambda tx: None),
        lambda: nowhere.write(lambda tx: None).result(90),
        lambda: nowhere.read(lambda tx: None),
        lambda: nowhere.glance(lambda tx: None),
    ):
        with pytest.raises(DatabaseBusy, match=r"did not answer \(.*nothing was stored"):
            ask()
    nowhere.close()


def test_a_statement_that_takes_too_long_is_reported_in_a_sentence(database: PostgresDatabase) -> None:
    def slow(tx: Transaction) -> None:
        tx.execute("SET LOCAL statement_timeout = 20")
        tx.execute("SELECT pg_sleep(30)")

    with pytest.raises(DatabaseBusy, match="took too long"):
        database.write_now(slow)
    assert database.write_now(lambda tx: tx.value("SELECT 1")) == 1


def test_a_read_is_one_moment_and_writes_nothing(database: PostgresDatabase, producer: Plain) -> None:
    def count_twice(tx: Transaction) -> tuple[int, int]:
        before = tx.value("SELECT count(*) FROM sweep_run")
        producer.execute("INSERT INTO sweep_run (minute) VALUES ('between')")
        return before, tx.value("SELECT count(*) FROM sweep_run")

    assert database.read(count_twice) == (0, 0)
    assert database.glance(lambda tx: tx.value("SELECT count(*) FROM sweep_run")) == 1


def test_a_forked_child_opens_connections_of_its_own(database: PostgresDatabase) -> None:
    mine = database.write(lambda tx: tx.value("SELECT pg_backend_pid()")).result(90)
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            theirs = database.write(lambda tx: tx.value("SELECT pg_backend_pid()")).result(90)
            os.write(telling, f"{theirs}".encode())
        finally:
            os._exit(0)
    os.close(telling)
    assert os.waitpid(child, 0)[1] == 0
    theirs = int(os.read(told, 100))
    os.close(told)
    assert theirs != mine
    assert database.write(lambda tx: tx.value("SELECT pg_backend_pid()")).result(90) == mine


def test_behind_a_pooler_nothing_of_a_session_is_relied_on(settings: Settings) -> None:
    """Statements are not prepared, and the time-outs come with each transaction."""
    pooled = PostgresDatabase(settings.database_url, pooled=True)
    for _ in range(12):
        pooled.glance(lambda tx: tx.value("SELECT ?", 1))
    assert pooled.glance(lambda tx: tx.value("SELECT count(*) FROM pg_prepared_statements")) == 0
    assert pooled.write_now(lambda tx: tx.value("SHOW statement_timeout")) == "30s"
    assert pooled.glance(lambda tx: tx.value("SHOW statement_timeout")) == "0"
    pooled.close()
    direct = PostgresDatabase(settings.database_url)
    for _ in range(12):
        direct.glance(lambda tx: tx.value("SELECT ?", 1))
    assert direct.glance(lambda tx: tx.value("SELECT count(*) FROM pg_prepared_statements")) > 0
    assert direct.glance(lambda tx: tx.value("SHOW statement_timeout")) == "30s"
    direct.close()


def test_the_name_of_each_connection_names_its_owner(database: PostgresDatabase) -> None:
    name = database.glance(lambda tx: tx.value("SHOW application_name"))
    assert name.startswith("darkroom ") and name.endswith(f" {os.getpid()}")


def test_a_standby_steps_in_only_after_the_working_ones_transaction(database: PostgresDatabase) -> None:
    """The active dispatcher decides while no other process can become active."""
    seen = database.read(leader.read)
    held = database.write_now(lambda tx: leader.take_over(tx, seen, "one"))
    assert held is not None
    inside, taken = threading.Event(), threading.Event()

    def decide(tx: Transaction) -> bool:
        assert leader.is_held(tx, held).get()
        inside.set()
        return taken.wait(0.2)

    deciding = database.write(decide)
    assert inside.wait(30)
    begun = time.monotonic()
    other = database.write_now(lambda tx: leader.take_over(tx, held, "other"))
    taken.set()
    assert other is not None and time.monotonic() - begun > 0.1
    assert deciding.result(90) is False
    assert database.write_now(lambda tx: leader.is_held(tx, held).get()) is False


def test_steps_that_are_alike_are_done_in_one_go_and_a_refusal_reaches_its_own_caller(
    database: PostgresDatabase,
) -> None:
    asked: list[list[int]] = []

    def halve(tx: Transaction, numbers: Sequence[int]) -> list[int | ValueError]:
        asked.append(list(numbers))
        return [n // 2 if n % 2 == 0 else ValueError(f"{n} is odd") for n in numbers]

    with gathering(database):
        futures = [database.write(BatchedStep("halved", halve, n), order_key=f"{n}") for n in range(8)]
    assert [futures[n].result(90) for n in range(0, 8, 2)] == [0, 1, 2, 3]
    for n in range(1, 8, 2):
        with pytest.raises(ValueError, match=f"{n} is odd"):
            futures[n].result(90)
    assert len(asked) <= WRITER_THREADS, "a statement for each thread at most, not for each step"
