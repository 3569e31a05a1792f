"""Two webs, two dispatchers, three workers and two schedulers at once, over PostgreSQL, Valkey and one store.

Each is a process with a data folder of its own, as on a host of its own; they share the servers of four settings.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supervisor.security.tokens import make_user_token
from tests.support.houses.instant_house import Recorder
from tests.support.houses.parts import DARKROOM, SECRET, Part, faulty_type
from tests.support.models.exactly_once import OPEN_TASKS, faults_in
from tests.support.running_system import SAMPLE
from tests.support.servers.broker_server import broker_server
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.waiting import eventually

USERS = ("o-1", "o-2", "o-3", "o-4")
TASKS_EACH = 15
BULK_USERS, BULK_ROWS = 20, 2000

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES (%s, 'noted', %s)"
BULK = """INSERT INTO task_queue (user_openid, type, params)
    SELECT 'bulk-' || n %% cardinality(%(images)s::text[]), 'noted',
        jsonb_build_object('images', jsonb_build_array((%(images)s::text[])[1 + n %% cardinality(%(images)s::text[])]))
    FROM generate_series(1, %(rows)s) AS n"""

pytestmark = pytest.mark.timeout(240)


class Several:
    """The parts, and what a test does with them."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.database_url = settings["DATABASE_URL"]
        self.notes = folder / "notes"
        settings = settings | faulty_type("noted", self.notes)
        self.producer = psycopg.connect(self.database_url, autocommit=True)
        self.parts: list[Part] = []
        for name, count in (("web", 2), ("dispatcher", 2), ("worker", 3), ("scheduler", 2)):
            self.parts += [Part(name, folder / f"{name}-{n}", settings) for n in range(count)]
        self.webs = self.named("web")

    def wait_until_ready(self) -> None:
        for web in self.webs:
            eventually(f"{web.url} is ready", lambda: self._is_ready(web.url))  # noqa: B023  called at once
        eventually(
            "three workers live", lambda: self.one("SELECT count(*) FROM worker WHERE state = 'live'") == 3
        )

    def _is_ready(self, url: str) -> bool:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            return bool(answer.status == 200)

    def named(self, name: str) -> list[Part]:
        return [part for part in self.parts if part.log.stem == name]

    def one(self, sql: str) -> Any:
        """The first value of a query."""
        (value,) = self.producer.execute(sql.encode()).fetchone() or (None,)
        return value

    def ask(
        self, web: Part, path: str, user: str, body: bytes | None = None, kind: str = "", role: str = "user"
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {make_user_token(SECRET, user, ttl_seconds=600, role=role)}"}
        headers |= {"Content-Type": kind} if kind else {}
        with urllib.request.urlopen(
            urllib.request.Request(web.url + path, body, headers), timeout=60
        ) as answer:
            return dict(json.load(answer))

    def troubles(self) -> list[str]:
        """The codes of what /ops says is wrong."""
        told = self.ask(self.webs[0], "/v1/ops/overview", "o-oncall", role="operator")
        return [each["code"] for each in told["troubles"]]

    def working_dispatcher(self) -> Part:
        working = self.one("SELECT holder FROM dispatcher")
        (leader,) = [part for part in self.named("dispatcher") if part.said(working)]
        return leader

    def upload(self, web: Part, user: str) -> str:
        return str(self.ask(web, "/v1/images", user, SAMPLE.read_bytes(), "image/png")["id"])

    def calls(self) -> Counter[str]:
        """How often the service was asked for each task."""
        return Counter(
            line.split()[0] for line in self.notes.read_text().splitlines() if line.endswith(" call")
        )

    def is_idle(self) -> bool:
        return self.one(OPEN_TASKS) == 0

    def stop(self) -> None:
        self.producer.close()
        for part in reversed(self.parts):
            part.kill()


@pytest.fixture(scope="module")
def several() -> Iterator[Several]:
    folder = Path(tempfile.mkdtemp(prefix="dk-several-"))
    url = take_database()
    parts = None
    try:
        with broker_server() as broker:
            settings = {
                "DATABASE_URL": url,
                "BROKER_URL": broker.address,
                "STORAGE_URL": f"file://{folder}/files",
                "PORT": "0",
                "WORKER_THREADS": "4",
                "CREDITS__SIGNUP_GRANT": "1000",
            }
            parts = Several(folder, settings)
            try:
                parts.wait_until_ready()
                yield parts
            finally:
                parts.stop()
    finally:
        if parts is not None:
            for part in parts.parts:  # pytest shows them where a test fails
                print(
                    f"--- {part.log}\n{part.said('[warning')}\n{part.said('[error')}\n{part.said()[-2000:]}"
                )
        give_back(url)
        shutil.rmtree(folder, ignore_errors=True)


def _without_signatures(event: dict[str, Any]) -> dict[str, Any]:
    """An event without the parts of its links that each web signs for itself."""
    event = json.loads(json.dumps(event))
    for change in event["docChanges"]:
        for image in change["doc"]["images"]:
            image["url"] = image["url"].partition("?")[0]
    return event


def test_each_task_is_claimed_once_and_both_webs_tell_the_same_feed(several: Several) -> None:
    tokens = {user: make_user_token(SECRET, user, ttl_seconds=600) for user in USERS}
    feeds = {user: [Recorder(web, tokens[user]) for web in several.webs] for user in USERS}
    for user in USERS:
        params = {"images": [several.upload(several.webs[0], user)]}
        for n in range(TASKS_EACH):
            if n % 2:
                order = json.dumps({"type": "noted", "params": params}).encode()
                several.ask(several.webs[n // 2 % 2], "/v1/tasks", user, order, "application/json")
            else:
                several.producer.execute(INSERT, (user, json.dumps(params)))
    for user, both in feeds.items():
        for feed in both:
            eventually(f"{user} has heard of all", lambda: feed.completed() == TASKS_EACH)  # noqa: B023

    assert faults_in(several.database_url) == {}
    assert (
        several.one("SELECT count(*) FROM task_queue WHERE attempt = 1 AND lease = 1")
        == len(USERS) * TASKS_EACH
    )
    assert set(several.calls().values()) == {1} and len(several.calls()) == len(USERS) * TASKS_EACH
    assert (
        several.one("SELECT sum(amount) FROM credit_entry WHERE kind = 'debit'") == -len(USERS) * TASKS_EACH
    )
    for user, (one, other) in feeds.items():
        seqs = [event["id"] for event in one.events]
        assert seqs == list(range(several.one(f"SELECT seq FROM account WHERE user_openid = '{user}'") + 1))
        assert [_without_signatures(e) for e in one.events] == [_without_signatures(e) for e in other.events]
    link = feeds["o-1"][0].events[-1]["docChanges"][0]["doc"]["images"][0]["url"]
    for web in several.webs:  # a link that one web signed is good at the other
        with urllib.request.urlopen(web.url + link, timeout=30) as answer:
            assert answer.read()[:2] == b"\xff\xd8"


def test_each_minute_is_swept_once_though_both_schedulers_fire(several: Several) -> None:
    workers, schedulers = several.named("worker"), several.named("scheduler")

    def lines(parts: list[Part], what: str) -> int:
        return sum(len(part.said(what).splitlines()) for part in parts)

    for scheduler in schedulers:
        eventually(f"{scheduler.log} has fired", lambda: scheduler.said("Scheduling Actor(sweep)"))  # noqa: B023
    fired = lines(schedulers, "Scheduling Actor(sweep)")
    eventually("workers have heard each of them", lambda: lines(workers, ":sweep() scheduled at") >= fired)
    runs = "SELECT count(*) FROM sweep_run WHERE finished_at IS NOT NULL"
    eventually("as many sweeps as minutes", lambda: lines(workers, " swept ") == several.one(runs) > 0)


def test_a_frozen_dispatcher_beside_a_standby_delays_nothing_and_fires_no_alert(several: Several) -> None:
    """The standby is active, so nothing is wrong; the dispatcher that wakes finds that it was declared dead and becomes
    the standby."""
    params = json.dumps({"images": [several.upload(several.webs[0], "o-1")]})
    frozen = several.working_dispatcher()
    os.kill(frozen.process.pid, signal.SIGSTOP)
    try:
        several.producer.execute(INSERT, ("o-1", params))
        eventually("the order is made without it", several.is_idle)
        other = several.working_dispatcher()
        assert other is not frozen
        assert several.troubles() == []
        doctor = subprocess.run([DARKROOM, "doctor"], env=frozen.environ, capture_output=True, text=True)
        assert re.search(r"^ok +dispatcher +one works$", doctor.stdout, re.MULTILINE), doctor.stdout
    finally:
        os.kill(frozen.process.pid, signal.SIGCONT)
    eventually("it stands by", lambda: frozen.said("dispatcher_stands_by"))
    assert several.working_dispatcher() is other
    several.producer.execute(INSERT, ("o-1", params))
    eventually("orders are made", several.is_idle)
    assert faults_in(several.database_url) == {}
    assert set(several.calls().values()) == {1}


@pytest.mark.system  # though it needs nothing of the system: it takes as long as the rest of this file
def test_2000_rows_of_one_plain_statement_are_made_once_each_while_the_working_dispatcher_dies(
    several: Several,
) -> None:
    images = [several.upload(several.webs[n % 2], f"bulk-{n}") for n in range(BULK_USERS)]
    done_before = several.one("SELECT count(*) FROM task_queue")
    several.producer.execute(BULK.encode(), {"images": images, "rows": BULK_ROWS})
    eventually(
        "some are made",
        lambda: several.one("SELECT count(*) FROM task_queue WHERE status = 'completed'") > done_before + 50,
    )
    working = several.one("SELECT holder FROM dispatcher")
    several.working_dispatcher().kill()
    eventually("all are made", several.is_idle, 120)
    assert faults_in(several.database_url) == {}
    assert several.one("SELECT count(*) FROM task_queue") == done_before + BULK_ROWS
    again = "SELECT id, attempt, lease, deaths, failures FROM task_queue WHERE (attempt, lease) <> (1, 1)"
    assert several.producer.execute(again.encode()).fetchall() == []
    assert set(several.calls().values()) == {1}
    assert several.one("SELECT holder FROM dispatcher") not in (working, None)
