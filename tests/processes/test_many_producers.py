"""Eight producers at once, by HTTP and by SQL, on a whole running system."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from config.settings import Settings
from supervisor.security.tokens import make_user_token
from tests.support.databases import KINDS, POSTGRESQL, plain_connection
from tests.support.houses.instant_house import INSTANT, Recorder
from tests.support.running_system import REPOSITORY, SAMPLE, RunningSystem, running_system
from tests.support.servers.postgres_databases import give_back, take_database

PRODUCERS, TASKS_EACH = 8, 25


def upload(system: RunningSystem, token: str) -> str:
    request = urllib.request.Request(
        f"{system.url}/v1/images",
        SAMPLE.read_bytes(),
        {"Content-Type": "image/png", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["id"]


@pytest.fixture(params=KINDS)
def whole(request: pytest.FixtureRequest) -> Iterator[tuple[RunningSystem, Settings]]:
    """A running system on each kind of database, and where its database is."""
    if request.param == POSTGRESQL:
        url = take_database()
        with running_system(**INSTANT, DATABASE_URL=url) as system:
            yield system, Settings(data_dir=system.data_dir, database_url=url)
        give_back(url)
    else:
        with running_system(**INSTANT) as system:
            yield system, Settings(data_dir=system.data_dir)


def test_each_of_200_tasks_by_http_and_sql_is_claimed_once_paid_once_and_seen(
    whole: tuple[RunningSystem, Settings],
) -> None:
    system, settings = whole
    with contextlib.closing(plain_connection(settings)) as reader:
        secret = (system.data_dir / "secret").read_text().strip()
        users = [f"user-{n}" for n in range(PRODUCERS)]
        tokens = {user: make_user_token(secret, user, ttl_seconds=600) for user in users}
        recorders = {user: Recorder(system, tokens[user]) for user in users}
        producers = []
        for n, user in enumerate(users):
            door = ("sql", settings.database_url, user) if n % 2 else ("http", system.url, tokens[user])
            argv = [
                sys.executable,
                "-m",
                "tests.support.houses.producer",
                *door,
                upload(system, tokens[user]),
                str(TASKS_EACH),
            ]
            producers.append(subprocess.Popen(argv, cwd=REPOSITORY))
        assert [producer.wait(120) for producer in producers] == [0] * PRODUCERS

        deadline = time.monotonic() + 120
        while any(recorder.completed() < TASKS_EACH for recorder in recorders.values()):
            assert time.monotonic() < deadline, {user: each.completed() for user, each in recorders.items()}
            time.sleep(0.05)

        everything = PRODUCERS * TASKS_EACH
        assert reader.execute(
            "SELECT count(*), min(status), max(status), min(attempt), max(attempt), max(lease) FROM task_queue"
        ).fetchone() == (everything, "completed", "completed", 1, 1, 1)
        assert dict(
            reader.execute("SELECT kind, count(*) FROM credit_entry WHERE task_id IS NOT NULL GROUP BY kind")
        ) == {"debit": everything}
        assert reader.execute(
            """SELECT count(*) FROM account WHERE balance <>
                (SELECT sum(amount) FROM credit_entry WHERE credit_entry.user_openid = account.user_openid)"""
        ).fetchone() == (0,)
        for user, recorder in recorders.items():
            seqs = [event["id"] for event in recorder.events]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), user
            (last,) = reader.execute("SELECT seq FROM account WHERE user_openid = ?", (user,)).fetchone()
            assert seqs[-1] == last
