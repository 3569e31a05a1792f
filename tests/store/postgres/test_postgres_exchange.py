"""One connection to PostgreSQL: statements are sent together, prepared when frequent, and errors name the statement
that failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from config.settings import Settings
from supervisor.database.postgres import pipeline
from supervisor.database.postgres.pipeline import PREPARED_AFTER, Exchange
from supervisor.database.postgres.sql import adapt, numbered
from tests.conftest import Store
from tests.support.databases import Plain

pytestmark = pytest.mark.postgresql_only

ADD = "INSERT INTO sweep_run (minute) VALUES (?)"
COUNT = "SELECT count(*) FROM sweep_run"


@pytest.fixture
def raw(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        adapt(connection)
        yield connection


@pytest.fixture
def exchange(raw: psycopg.Connection[Any]) -> Exchange:
    return Exchange(raw, prepares=True)


def _value(exchange: Exchange, sql: str, *values: Any) -> Any:
    return exchange.answer(exchange.hand_in(sql, values)).fetchone()[0]


def test_queued_statements_are_sent_with_the_next_one_that_needs_an_answer(
    exchange: Exchange, producer: Plain
) -> None:
    added = [exchange.hand_in(ADD, (name,)) for name in ("a", "b")]
    assert producer.execute(COUNT).fetchone() == (0,)
    assert _value(exchange, COUNT) == 2
    assert [exchange.answer(each).rowcount for each in added] == [1, 1]


def test_a_failure_says_why_and_nothing_after_it_was_run(exchange: Exchange, producer: Plain) -> None:
    exchange.hand_in("BEGIN")
    for name in ("a", "a", "b"):
        exchange.hand_in(ADD, (name,))
    with pytest.raises(psycopg.errors.UniqueViolation, match="sweep_run_pkey"):
        exchange.answer(exchange.hand_in("COMMIT"))
    exchange.roll_back()
    assert _value(exchange, COUNT) == 0
    exchange.answer(exchange.hand_in(ADD, ("c",)))
    assert producer.execute(COUNT).fetchone() == (1,), "and the connection works on"


def test_frequent_statements_are_prepared_and_old_ones_give_way(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "MOST_PREPARED", 2)
    prepared = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'SELECT % + $1' ORDER BY 1"
    for number in range(3):
        for run in range(PREPARED_AFTER + 2):
            assert _value(exchange, f"SELECT {number} + ?", run) == number + run
    with_names = [row[0] for row in exchange.answer(exchange.hand_in(prepared)).fetchall()]
    assert with_names == ["SELECT 1 + $1", "SELECT 2 + $1"]
    assert _value(exchange, "SELECT 0 + ?", 5) == 5


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


def test_large_values_pass_both_ways_at_once(exchange: Exchange) -> None:
    """More than the kernel's buffers hold: a client that only writes, or only reads, waits for ever."""
    large = "x" * 3_000_000
    several = [exchange.hand_in("SELECT CAST(? AS text)", (large,)) for _ in range(6)]
    assert all(exchange.answer(each).fetchone() == (large,) for each in several)


def test_a_connection_that_is_lost_without_an_answer_is_closed(
    raw: psycopg.Connection[Any], exchange: Exchange, producer: Plain
) -> None:
    """Or its commit would count as refused, and the transaction would be run again."""
    exchange.answer(exchange.hand_in("BEGIN"))
    producer.execute("SELECT pg_terminate_backend(CAST(? AS integer))", (raw.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError):  # the first may still hear why
        while True:
            exchange.hand_in(ADD, ("a",))
            exchange.answer(exchange.hand_in("COMMIT"))
    assert raw.closed


def test_a_value_that_can_not_be_stored_is_refused_before_anything_is_sent(
    exchange: Exchange, producer: Plain
) -> None:
    with pytest.raises(psycopg.DataError):
        exchange.hand_in(ADD, ("\0",))
    assert _value(exchange, COUNT) == 0


def test_a_question_mark_in_quotes_means_itself() -> None:
    assert numbered("SELECT '?', \"?\", ? -- ?\n, ?").text == b"SELECT '?', \"?\", $1 -- ?\n, $2"


def test_a_repeated_name_is_one_parameter_and_quoted_or_cast_text_is_none(
    exchange: Exchange,
) -> None:
    sql = "SELECT :who::text || ':who' || :mark || :who -- :who"
    assert numbered(sql) == (b"SELECT $1::text || ':who' || $2 || $1 -- :who", ("who", "mark"))
    assert exchange.answer(exchange.hand_in(sql, {"mark": "!", "who": "me"})).fetchone() == ("me:who!me",)
