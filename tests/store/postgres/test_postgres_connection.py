"""One connection to PostgreSQL: answers are awaited together, frequent statements are prepared, and errors name the
statement that failed."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from config.settings import Settings
from supervisor.database.interface.database import Transaction
from supervisor.database.interface.errors import DatabaseError, DataError, IntegrityError, OperationalError
from supervisor.database.postgres import exchange
from supervisor.database.postgres.connection import Connection
from supervisor.database.postgres.exchange import PREPARED_AFTER
from supervisor.database.postgres.sql import numbered
from tests.conftest import Store, wait_until
from tests.support.databases import Plain

pytestmark = pytest.mark.postgresql_only

ADD = "INSERT INTO sweep_run (minute) VALUES (?)"
COUNT = "SELECT count(*) FROM sweep_run"


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    with contextlib.closing(Connection(settings.database_url, pooled=False)) as opened:
        yield opened


def _value(connection: Connection, sql: str, *values: Any) -> Any:
    return connection.execute(sql, values).fetchone()[0]


def test_queued_statements_are_sent_with_the_next_one_that_needs_an_answer(
    connection: Connection, producer: Plain
) -> None:
    added = [connection.hand_in(ADD, (name,)) for name in ("a", "b")]
    assert producer.execute(COUNT).fetchone() == (0,)
    assert _value(connection, COUNT) == 2
    assert [connection.answer(each).rowcount for each in added] == [1, 1]


def test_a_failure_says_why_and_nothing_after_it_was_run(connection: Connection, producer: Plain) -> None:
    connection.hand_in("BEGIN")
    for name in ("a", "a", "b"):
        connection.hand_in(ADD, (name,))
    with pytest.raises(IntegrityError, match="sweep_run_pkey"):
        connection.execute("COMMIT")
    connection.take_back()
    assert _value(connection, COUNT) == 0
    connection.execute(ADD, ("c",))
    assert producer.execute(COUNT).fetchone() == (1,), "and the connection works on"


def test_a_process_that_freezes_in_a_transaction_holds_its_locks_no_longer_than_a_transaction_may_idle(
    connection: Connection, producer: Plain
) -> None:
    """Also with further statements handed in: the server counts only the time after the last message of a pipeline."""
    connection.execute("SET idle_in_transaction_session_timeout = 500")
    connection.begin_writing(30)
    connection.execute("SELECT pg_advisory_xact_lock(4711), pg_sleep(0.1)")  # its answer is waited for
    connection.hand_in(ADD, ("a",))
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted"
    wait_until(lambda: producer.execute(held).fetchone() == (0,), "the server has ended its transaction")
    with pytest.raises(OperationalError) as ended:
        connection.commit_marked()
    connection.note(ended.value)
    assert connection.is_lost


def test_a_process_that_freezes_after_statements_sent_ahead_holds_its_locks_no_longer_than_a_transaction_may_idle(
    connection: Connection, producer: Plain
) -> None:
    """Each part that is sent ahead ends with a Sync, from which on the server counts."""
    connection.execute("SET idle_in_transaction_session_timeout = 500")
    connection.begin_writing(30)
    connection.hand_in("SELECT pg_advisory_xact_lock(4711)")
    connection.send_now()
    connection.hand_in(ADD, ("a",))
    connection.send_now()
    ends = "SELECT count(*) FROM pg_stat_activity WHERE pid = CAST(? AS integer)"
    pid = connection._raw.info.backend_pid
    wait_until(
        lambda: producer.execute(ends, (pid,)).fetchone() == (0,), "the server has ended its transaction"
    )
    with pytest.raises(OperationalError) as ended:
        connection.commit_marked()
    connection.note(ended.value)
    assert connection.is_lost and producer.execute(COUNT).fetchone() == (0,)


def test_statements_sent_ahead_are_run_in_their_order_and_answered_when_they_are_asked(
    connection: Connection, producer: Plain
) -> None:
    connection.begin_writing(30)
    first = connection.hand_in(ADD, ("a",))
    connection.send_now()
    second = connection.hand_in(COUNT)
    connection.send_now()
    third = connection.hand_in(ADD, ("b",))
    assert connection.answer(second).fetchone() == (1,) and first.rowcount == 1
    connection.commit_marked()
    assert third.rowcount == 1 and producer.execute(COUNT).fetchone() == (2,)


def test_rows_are_read_whole_while_another_thread_uses_the_connection(connection: Connection) -> None:
    """A step's answers are read after its connection went back to the pool."""
    rows: tuple[tuple[Any, ...], ...] = (("a", 1), (2, "b", True))
    answers = [
        connection.execute("SELECT 'a', 1 FROM generate_series(1, 20000)"),
        connection.execute("SELECT 2, 'b', true FROM generate_series(1, 20000)"),
    ]
    wrong: list[Any] = []

    def read(number: int) -> None:
        try:
            while (found := answers[number].fetchone()) is not None:
                if found != rows[number]:
                    wrong.append(found)
        except Exception as error:  # noqa: BLE001  a thread's own would be lost
            wrong.append(error)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    switched_after = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
    finally:
        sys.setswitchinterval(switched_after)
    assert not wrong


def test_a_failure_of_a_statement_sent_ahead_is_raised_by_the_next_answer_and_nothing_is_stored(
    connection: Connection, producer: Plain
) -> None:
    for end in (connection.commit_marked, connection.take_back):
        connection.begin_writing(30)
        for name in ("a", "a"):
            connection.hand_in(ADD, (name,))
        connection.send_now()
        connection.hand_in(ADD, ("b",))
        connection.send_now()
        if end == connection.commit_marked:
            with pytest.raises(IntegrityError, match="sweep_run_pkey"):
                end()
        connection.take_back()
        assert _value(connection, COUNT) == 0 == producer.execute(COUNT).fetchone()[0]


def test_what_is_prepared_outlives_a_transaction_that_is_rolled_back(connection: Connection) -> None:
    """An idle dispatcher rolls back its rounds: nothing would ever be prepared for the next start."""
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT 7 + $1'"
    for run in range(PREPARED_AFTER + 2):
        assert _value(connection, "SELECT 7 + ?", run) == 7 + run
    for _ in range(2):
        connection.begin_writing(30)
        connection.execute(COUNT)
        connection.take_back()
        assert _value(connection, "SELECT 7 + ?", 1) == 8
        assert _value(connection, prepared) == 1


def test_a_failure_in_a_transaction_is_raised_by_the_next_answer(
    connection: Connection, producer: Plain
) -> None:
    connection.begin_writing(30)
    handed_in = [connection.hand_in(ADD, (name,)) for name in ("a", "a", "b")]
    with pytest.raises(IntegrityError, match="sweep_run_pkey"):
        connection.answer(handed_in[0])
    connection.take_back()
    assert _value(connection, COUNT) == 0
    connection.begin_writing(30)
    connection.hand_in(ADD, ("d",))
    connection.commit_marked()
    assert producer.execute(COUNT).fetchone() == (1,), "and the connection works on"


def test_a_transaction_that_is_given_up_with_statements_handed_in_leaves_nothing(
    connection: Connection, producer: Plain
) -> None:
    connection.begin_writing(30)
    connection.hand_in(ADD, ("a",))
    connection.take_back()
    assert _value(connection, COUNT) == 0 == producer.execute(COUNT).fetchone()[0]


def test_frequent_statements_are_prepared_and_old_ones_give_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MOST_PREPARED", 2)
    connection = Connection(settings.database_url, pooled=False)
    prepared = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'SELECT % + $1' ORDER BY 1"
    for number in range(3):
        for run in range(PREPARED_AFTER + 2):
            assert _value(connection, f"SELECT {number} + ?", run) == number + run
    connection.execute(prepared)  # the oldest gives way when the next new statement comes
    with_names = [row[0] for row in connection.execute(prepared).fetchall()]
    assert with_names == ["SELECT 1 + $1", "SELECT 2 + $1"]
    assert _value(connection, "SELECT 0 + ?", 5) == 5
    connection.close()


def test_a_read_of_one_moment_begins_also_where_an_old_prepared_statement_gives_way(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropping it takes a snapshot, and after that no transaction can choose another isolation."""
    monkeypatch.setattr(exchange, "MOST_PREPARED", 4)
    with contextlib.closing(Connection(settings.database_url, pooled=False)) as connection:
        for number in range(6):
            for _ in range(PREPARED_AFTER + 2):
                connection.begin_reading()
                assert _value(connection, f"SELECT {number} + ?", 1) == number + 1
                connection.end_reading()


def test_a_plan_that_a_migration_has_made_stale_is_made_anew(store: Store, producer: Plain) -> None:
    def read() -> list[dict[str, Any]]:
        return store.database.read(lambda tx: tx.all("SELECT * FROM moved"))

    producer.execute("CREATE TABLE moved AS SELECT 1 AS a")
    try:
        for _ in range(PREPARED_AFTER + 2):
            assert read() == [{"a": 1}]
        producer.execute("ALTER TABLE moved ADD COLUMN b INTEGER DEFAULT 2")
        assert read() == [{"a": 1, "b": 2}]
    finally:
        producer.execute("DROP TABLE moved")


def test_large_values_pass_both_ways_at_once(connection: Connection) -> None:
    """More than the kernel's buffers hold: a client that only writes, or only reads, waits for ever."""
    large = "x" * 3_000_000
    several = [connection.hand_in("SELECT CAST(? AS text)", (large,)) for _ in range(6)]
    connection.send_now()
    assert connection._raw.pgconn.flush() == 0, "all of it has left, with its Sync"
    assert all(connection.answer(each).fetchone() == (large,) for each in several)


def test_a_connection_that_is_lost_without_an_answer_is_closed(
    connection: Connection, producer: Plain
) -> None:
    """Or its commit would count as refused, and the transaction would be run again."""
    connection.execute("BEGIN")
    pid = _value(connection, "SELECT pg_backend_pid()")
    producer.execute("SELECT pg_terminate_backend(CAST(? AS integer))", (pid,))
    with pytest.raises(OperationalError) as lost:
        while True:
            connection.hand_in(ADD, ("a",))
            connection.execute("COMMIT")
    connection.note(lost.value)
    assert connection.is_lost


@pytest.mark.parametrize("before", [[], ["BEGIN", "SELECT 1"]])
def test_a_value_that_can_not_be_stored_is_refused_and_the_connection_works_on(
    before: list[str], connection: Connection
) -> None:
    for statement in before:
        connection.hand_in(statement)
    with pytest.raises(DataError) as refused:
        connection.execute(ADD, ("\0",))
    connection.note(refused.value)
    connection.take_back()
    assert not connection.is_lost and _value(connection, COUNT) == 0


@pytest.mark.parametrize("value", ["\0", "\ud800", object()])
def test_a_value_that_can_not_be_sent_takes_no_other_statement_with_it(
    store: Store, producer: Plain, value: Any
) -> None:
    """Whoever goes on after it, as the store does with one row of many, has still its transaction and savepoint."""

    def step(tx: Transaction) -> None:
        tx.send("SAVEPOINT apart")
        with pytest.raises((DatabaseError, UnicodeError)):
            tx.run(ADD, value)
        tx.execute("ROLLBACK TO SAVEPOINT apart")
        tx.run(ADD, "a")

    def given_up(tx: Transaction) -> None:
        with pytest.raises((DatabaseError, UnicodeError)):
            tx.run(ADD, value)
        tx.run(ADD, "b")
        raise LookupError

    store.database.write_now(step)
    with pytest.raises(LookupError):
        store.database.write_now(given_up)
    assert producer.execute("SELECT minute FROM sweep_run").fetchall() == [("a",)]


def test_nothing_is_committed_after_a_transaction_that_did_not_begin(
    connection: Connection, producer: Plain
) -> None:
    """A cancel may hit BEGIN; what was sent after it is then in no transaction."""
    connection.hand_in("SELECT 1 / 0")  # in place of BEGIN
    connection.send_now()
    connection.hand_in(ADD, ("a",))
    with pytest.raises(DataError, match="division by zero"):
        connection.commit_marked()
    connection.take_back()
    assert _value(connection, COUNT) == 0 == producer.execute(COUNT).fetchone()[0]


def test_an_old_prepared_statement_that_could_not_be_dropped_fails_no_transaction(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, producer: Plain
) -> None:
    """Or a transaction that was committed would count as refused."""
    monkeypatch.setattr(exchange, "MOST_PREPARED", 1)
    with contextlib.closing(Connection(settings.database_url, pooled=False)) as connection:
        for number in range(2):
            for _ in range(PREPARED_AFTER + 1):
                assert _value(connection, f"SELECT {number} + ?", 1) == number + 1
        connection._raw.execute("DEALLOCATE ALL", prepare=False)  # the drop will fail, as after a cancel
        for statement in ("BEGIN", f"{ADD[:-2]}'a')"):
            connection.hand_in(statement)
        connection.execute("COMMIT")
        assert producer.execute(COUNT).fetchone() == (1,)


def test_a_failure_is_not_logged_by_the_driver_too(
    connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(50):  # whether a failure is known before the last statement is sent is chance
        for statement in ("BEGIN", "SELECT 1 / 0", *["SELECT 1"] * 20):
            connection.hand_in(statement)
        with pytest.raises(DataError, match="division by zero"):
            connection.execute("COMMIT")
        connection.take_back()
    assert not caplog.records


def test_a_question_mark_in_quotes_means_itself() -> None:
    assert numbered("SELECT '?', \"?\", ? -- ?\n, ?").text == b"SELECT '?', \"?\", $1 -- ?\n, $2"


def test_a_repeated_name_is_one_parameter_and_quoted_or_cast_text_is_none(
    connection: Connection,
) -> None:
    sql = "SELECT :who::text || ':who' || :mark || :who -- :who"
    assert numbered(sql) == (b"SELECT $1::text || ':who' || $2 || $1 -- :who", ("who", "mark"))
    assert connection.execute(sql, {"mark": "!", "who": "me"}).fetchone() == ("me:who!me",)
