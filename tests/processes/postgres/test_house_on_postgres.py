"""`darkroom up` on PostgreSQL: submit, feed, drain, and a database server that goes away during work."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from tests.conftest import wait_until
from tests.support.databases import PlainPostgres
from tests.support.houses.instant_house import INSERT, INSTANT, Recorder, listener_up
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.servers.postgres_server import server


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    taken = take_database()
    yield taken
    give_back(taken)


@pytest.fixture(scope="module")
def system(url: str) -> Iterator[RunningSystem]:
    waiting = {"PROVIDERS__instant__OPTIONS__wait_seconds": "0.2"}
    with running_system(**(INSTANT | waiting), DATABASE_URL=url) as running:
        yield running


@pytest.fixture
def producer(url: str) -> Iterator[PlainPostgres]:
    with contextlib.closing(PlainPostgres(url)) as plain:
        yield plain


def test_tasks_by_http_and_sql_are_made_and_seen_on_the_feed(
    system: RunningSystem, producer: PlainPostgres
) -> None:
    recorder = Recorder(system, system.token("o-1"))
    image = system.upload_sample("o-1")
    system.order("instant", user="o-1", images=[image])
    producer.execute(INSERT, ("o-1", json.dumps({"images": [image]})))
    wait_until(lambda: recorder.completed() == 2, "both are completed on the feed")
    seqs = [event["id"] for event in recorder.events]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    rows = producer.execute(
        "SELECT status, attempt, lease FROM task_queue WHERE user_openid = 'o-1'"
    ).fetchall()
    assert rows == [("completed", 1, 1)] * 2
    wait_until(lambda: listener_up(system) == 1.0, "the web listens")


def test_the_doctor_finds_all_well(system: RunningSystem) -> None:
    said = system.darkroom("doctor", cwd=system.data_dir)
    assert "notifications arrive" in said.stdout and "PostgreSQL" in said.stdout, said.stdout + said.stderr


def test_a_server_that_crashes_and_restarts_amid_work_costs_no_task_and_no_credit(
    system: RunningSystem, producer: PlainPostgres, url: str
) -> None:
    image = system.upload_sample("o-2")
    recorder = Recorder(system, system.token("o-2"))
    count = 24
    for n in range(count):
        if n % 8 == 4:
            server().stop(crash=n == 4)
            server().start()
        system.order("instant", user="o-2", images=[image])

    def finished() -> bool:
        with contextlib.closing(PlainPostgres(url)) as plain:
            (left,) = plain.execute(
                "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
            ).fetchone() or (1,)
        return left == 0

    wait_until(finished, "every task has ended")
    with contextlib.closing(PlainPostgres(url)) as plain:
        rows = plain.execute(
            """SELECT status, count(*) FROM task_queue WHERE user_openid = 'o-2' GROUP BY status"""
        ).fetchall()
        assert rows == [("completed", count)]
        ledger = plain.execute(
            """SELECT count(*) FILTER (WHERE kind = 'debit'), count(*) FILTER (WHERE kind = 'refund')
                FROM credit_entry WHERE user_openid = 'o-2'"""
        ).fetchone()
        assert ledger == (count, 0)
        balances = plain.execute(
            """SELECT count(*) FROM account WHERE balance <>
                (SELECT sum(amount) FROM credit_entry WHERE credit_entry.user_openid = account.user_openid)"""
        ).fetchone()
        assert balances == (0,)
    wait_until(lambda: recorder.completed() == count, "the feed has sent every one")
    wait_until(lambda: listener_up(system) == 1.0, "the web listens again")
