"""A whole system behind a real PgBouncer in transaction mode, with and without a direct connection for the listener."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.database.postgres.postgres_database import PostgresDatabase
from tests.support.databases import PlainPostgres
from tests.support.houses.instant_house import INSERT, INSTANT, Recorder, listener_up
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.pgbouncer import PGBOUNCER, PgBouncer
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.servers.postgres_server import server
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(PGBOUNCER is None and not os.environ.get("CI"), reason="there is no pgbouncer"),
]

OPEN = "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
SETTINGS = INSTANT | {
    "PROVIDERS__instant__OPTIONS__wait_seconds": "0.2",
    "WORKER_PROCESSES": "1",
    "LOG_LEVEL": "info",
}


@pytest.fixture
def bouncer() -> Iterator[PgBouncer]:
    started = PgBouncer(server().folder, server().port)
    started.start()
    yield started
    started.close()


@pytest.fixture
def direct() -> Iterator[str]:
    """The address of an empty migrated database, past any pooler."""
    taken = take_database()
    yield taken
    give_back(taken)


def pooled_url(bouncer: PgBouncer, direct: str) -> str:
    return bouncer.url(direct.partition("?")[0].rpartition("/")[2])


def one(url: str, sql: str) -> tuple[Any, ...]:
    with contextlib.closing(PlainPostgres(url)) as plain:
        row = plain.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def order(system: RunningSystem, direct: str, image: str, n: int) -> None:
    """The nth task, by HTTP or past any pooler by SQL."""
    if n % 2:
        system.order("instant", user="o-1", images=[image])
    else:
        with contextlib.closing(PlainPostgres(direct)) as producer:
            producer.execute(INSERT, ("o-1", json.dumps({"images": [image]})))


def doctor(system: RunningSystem) -> str:
    done = system.darkroom("doctor", cwd="/")
    return done.stdout + done.stderr


def refuse_unfinished_and_unpaid(url: str, count: int) -> None:
    """Every task completed, each was paid for once, and balances are the sums of the ledger."""
    assert one(url, "SELECT count(*) FILTER (WHERE status = 'completed'), count(*) FROM task_queue") == (
        count,
        count,
    )
    assert one(
        url,
        """SELECT count(*) FILTER (WHERE kind = 'debit'), count(*) FILTER (WHERE kind = 'refund')
            FROM credit_entry""",
    ) == (count, 0)
    assert one(
        url,
        """SELECT count(*) FROM account WHERE balance <>
            (SELECT sum(amount) FROM credit_entry WHERE credit_entry.user_openid = account.user_openid)""",
    ) == (0,)


def test_a_pooler_that_is_not_configured_is_noticed_and_nothing_is_prepared(
    bouncer: PgBouncer, direct: str
) -> None:
    """What a client prepares stays with a connection of the pooler, which the next statement may not get."""
    with contextlib.closing(PostgresDatabase(pooled_url(bouncer, direct))) as database:
        for _ in range(12):
            assert database.glance(lambda tx: tx.value("SELECT CAST(? AS integer)", 7)) == 7
            assert database.write_now(lambda tx: tx.value("SHOW statement_timeout")) == "30s"
        assert database.glance(lambda tx: tx.value("SELECT count(*) FROM pg_prepared_statements")) == 0
        assert database.glance(lambda tx: tx.value("SHOW statement_timeout")) == "0", (
            "it went with its transaction"
        )


def test_with_a_direct_listener_wake_ups_come_at_once_and_a_restarted_pooler_costs_nothing(
    bouncer: PgBouncer, direct: str
) -> None:
    through = pooled_url(bouncer, direct)
    with running_system(**SETTINGS, DATABASE_URL=through, DATABASE_LISTEN_URL=direct) as system:
        eventually("the web listens", lambda: listener_up(system) == 1.0)
        assert "notifications arrive" in doctor(system)
        recorder = Recorder(system, system.token("o-1"))
        image = system.upload_sample("o-1")
        count = 24
        for n in range(count):
            if n % 8 == 4:
                bouncer.stop()
                bouncer.start()
            order(system, direct, image, n)
        eventually("every task has ended", lambda: one(direct, OPEN) == (0,))
        refuse_unfinished_and_unpaid(direct, count)
        eventually("the feed has sent every one", lambda: recorder.completed() == count)
        seqs = [event["id"] for event in recorder.events]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
        assert listener_up(system) == 1.0, "the pooler's restart was none of the listener's"


def test_without_a_direct_listener_the_system_reports_no_wake_ups_and_still_serves(
    bouncer: PgBouncer, direct: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with running_system(log=log, **SETTINGS, DATABASE_URL=pooled_url(bouncer, direct)) as system:
        eventually(
            "it has said that notifications don't arrive",
            lambda: "DATABASE_LISTEN_URL may lead past it" in log.read_text(errors="replace"),
        )
        assert listener_up(system) == 0.0
        assert "DARKROOM_DATABASE_LISTEN_URL must lead to the server itself" in doctor(system)
        image = system.upload_sample("o-1")
        for n in range(12):
            order(system, direct, image, n)
        eventually("every task has ended", lambda: one(direct, OPEN) == (0,))
        refuse_unfinished_and_unpaid(direct, 12)
        assert "prepared statement" not in log.read_text(errors="replace")
