"""Real hosts, each with a network of its own; one is cut off during its work.

PostgreSQL and Valkey on the first, web, dispatcher and scheduler on the second, a worker on each of two more.
LEASE_SECONDS and the times that depend on it are the defaults. The service is on every host, so a host that is cut off
can finish its tasks. The tasks end without pictures: a picture that cannot be recorded is given up after ten seconds
(CORRECTNESS 8), and this test needs a late result that reaches the database.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import psycopg
import pytest

from config.settings import Settings
from supervisor.database.postgres.connection import Connection
from supervisor.schema.migrate import migrate
from supervisor.security.tokens import make_user_token
from tests.support.hosts.network import Host, Network, network
from tests.support.houses.parts import SECRET, Part, faulty_type
from tests.support.models.exactly_once import OPEN_TASKS, faults_in
from tests.support.running_system import SAMPLE
from tests.support.servers.broker_server import BrokerServer
from tests.support.servers.postgres_server import PostgresServer
from tests.support.waiting import eventually

STORE, FRONT, CUT, OTHER = "store", "front", "worker-1", "worker-2"
ADDRESS, FRONT_ADDRESS = "10.77.0.1", "10.77.0.2"
TASKS = 8
WORK_SECONDS = 6.0
ELSEWHERE_SECONDS = 25.0
UNLOCKED_SECONDS = 10.0

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'slow', %s)"

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@contextlib.contextmanager
def database_on(host: Host, folder: Path) -> Iterator[tuple[str, str]]:
    """A migrated database: its address for this process, by a way that no cut touches, and for the hosts."""
    with contextlib.closing(host.on(PostgresServer, listen_addresses=ADDRESS)) as server:
        with (server.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.77.0.0/24 trust\n")
        with server.admin() as admin:
            admin.execute("SELECT pg_reload_conf()")
        name = server.create_database()
        migrate(Settings(data_dir=folder, database_url=server.url(name)))
        yield server.url(name), f"postgresql://darkroom@{ADDRESS}:{server.port}/{name}"


class Hosts:
    """The whole of it."""

    def __init__(self, net: Network, folder: Path, ends: contextlib.ExitStack) -> None:
        self.net, self.folder, self._ends = net, folder, ends
        self.notes = folder / "notes"
        self.database_url, address = ends.enter_context(database_on(net.hosts[STORE], folder))
        self._start_broker(net.hosts[STORE])
        self._settings = {
            "DATABASE_URL": address,
            "BROKER_URL": f"redis://{ADDRESS}:6379/0",
            "STORAGE_URL": f"file://{folder}/files",
            "HOST": FRONT_ADDRESS,
            "WORKER_THREADS": str(TASKS // 2),  # neither host can take all
            "LIMITS__RUNNING_TASKS_PER_USER": "0",
            **faulty_type("slow", self.notes, wait_seconds=str(WORK_SECONDS), pictures="none"),
        }
        self.web = self.start("web", FRONT)
        self.parts = [self.start(name, FRONT) for name in ("dispatcher", "scheduler")]
        self.workers = {name: self.start("worker", name) for name in (CUT, OTHER)}
        self.sql = ends.enter_context(psycopg.connect(self.database_url, autocommit=True))
        for name in self.workers:
            eventually(f"{name} lives", lambda: self.worker_ids(name))  # noqa: B023  called at once

    def start(self, part: str, host: str) -> Part:
        """A part on a host, until all ends."""
        started = self.net.hosts[host].on(Part, part, self.folder / host, self._settings)
        self._ends.callback(started.kill)
        return started

    def _start_broker(self, host: Host) -> None:
        own = self.folder / "broker"
        own.mkdir()
        broker = BrokerServer(own, "--port", "6379", "--bind", ADDRESS, "--protected-mode", "no")
        host.on(broker.start)
        self._ends.callback(broker.stop)

    def all(self, sql: str) -> list[tuple[Any, ...]]:
        return self.sql.execute(sql.encode()).fetchall()

    def worker_ids(self, host: str) -> list[str]:
        """The worker processes that live on a host, as the database knows them."""
        return [row[0] for row in self.all(f"SELECT id FROM worker WHERE host = '{host}' AND state = 'live'")]

    def tasks_of(self, worker_id: str) -> set[str]:
        """What a worker is at work on, by the database."""
        of = f"WHERE status = 'processing' AND worker_id = '{worker_id}'"
        return {row[0] for row in self.all(f"SELECT id FROM task_queue {of}")}

    def noted(self, what: str) -> Counter[str]:
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return Counter(task for task, noted in lines if noted == what)

    def upload(self) -> str:
        headers = {
            "Authorization": f"Bearer {make_user_token(SECRET, 'o-1', ttl_seconds=60)}",
            "Content-Type": "image/png",
        }
        request = urllib.request.Request(f"{self.web.url}/v1/images", SAMPLE.read_bytes(), headers)
        return str(json.loads(self.net.hosts[FRONT].on(_answer, request))["id"])


def _answer(request: urllib.request.Request) -> bytes:
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with network(STORE, FRONT, CUT, OTHER) as net, contextlib.ExitStack() as ends:
        folder = Path(tempfile.mkdtemp(prefix="dk-hosts-"))
        ends.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            yield Hosts(net, folder, ends)
        finally:
            for log in sorted(folder.glob("*/*.log")):  # pytest shows them where the test fails
                print(f"--- {log.relative_to(folder)}\n{log.read_text(errors='replace')[-6000:]}")


def test_tasks_of_a_host_that_is_cut_off_run_elsewhere_and_its_late_results_are_refused(hosts: Hosts) -> None:
    params = json.dumps({"images": [hosts.upload()]})
    (lost_id,), (other_id,) = hosts.worker_ids(CUT), hosts.worker_ids(OTHER)
    for _ in range(TASKS):
        hosts.sql.execute(INSERT, (params,))
    eventually("all are at work", lambda: len(hosts.noted("call")) == TASKS)
    lost = hosts.tasks_of(lost_id)
    assert lost and hosts.tasks_of(other_id), "both hosts are at work"

    hosts.net.cut(CUT)
    cut_at = time.monotonic()
    by_other = f"lease = 2 AND worker_id = '{other_id}'"
    taken_over = f"SELECT id FROM task_queue WHERE {by_other} OR (lease = 2 AND status = 'completed')"
    eventually("the lost ones run elsewhere", lambda: {row[0] for row in hosts.all(taken_over)} == lost)
    seconds = time.monotonic() - cut_at
    print(f"{len(lost)} of {TASKS} tasks run elsewhere {seconds:.1f} s after their host was cut off")
    assert seconds <= ELSEWHERE_SECONDS
    eventually("all are completed", lambda: hosts.all(OPEN_TASKS) == [(0,)])
    assert hosts.noted("done") == Counter({task: 2 if task in lost else 1 for task in hosts.noted("call")}), (
        "the host that was cut off has finished its tasks too"
    )
    before = hosts.all("SELECT max(log_id), count(*) FROM work_change")

    hosts.net.mend(CUT)
    worker = hosts.workers[CUT]
    mended_at = time.monotonic()
    eventually(
        "each late result is refused",
        lambda: all(
            any(task in line for line in worker.said("result_dropped").splitlines()) for task in lost
        ),
    )
    eventually("the worker ends, since it was given up", lambda: worker.process.poll() is not None)
    print(
        f"late results refused and the old worker gone {time.monotonic() - mended_at:.1f} s after the cable was back"
    )
    assert worker.said("marked this worker dead")
    assert hosts.all("SELECT max(log_id), count(*) FROM work_change") == before, (
        "no client received anything new"
    )
    assert faults_in(hosts.database_url) == {}
    shown = "SELECT attempt, lease, deaths, failures, count(*) FROM task_queue GROUP BY 1, 2, 3, 4 ORDER BY 1"
    assert hosts.all(shown) == [(1, 1, 0, 0, TASKS - len(lost)), (2, 2, 1, 0, len(lost))]

    hosts.start("worker", CUT)  # as systemd does
    eventually("another worker lives on that host", lambda: hosts.worker_ids(CUT) not in ([], [lost_id]))


def test_locks_of_a_host_that_is_cut_off_are_gone_before_its_tasks_are_rescued_though_they_wait_for_each_other(
    tmp_path: Path,
) -> None:
    lock = "SELECT 1 FROM account WHERE user_openid = 'o-1' FOR UPDATE"
    with (
        network(STORE, CUT) as net,
        database_on(net.hosts[STORE], tmp_path) as (url, address),
        psycopg.connect(url, autocommit=True) as plain,
    ):
        plain.execute("INSERT INTO account (user_openid) VALUES ('o-1')")
        connections = [
            net.hosts[CUT].on(functools.partial(Connection, address, pooled=False)) for _ in range(3)
        ]

        def take_the_lock(connection: Connection) -> None:
            with contextlib.suppress(peewee.PeeweeException):
                connection.begin_writing(600.0)
                connection.execute(lock)

        take_the_lock(connections[0])
        others = [threading.Thread(target=take_the_lock, args=(each,)) for each in connections[1:]]
        for other in others:
            other.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        eventually(
            "the others wait for the first", lambda: plain.execute(waiting.encode()).fetchone() == (2,)
        )

        net.cut(CUT)
        cut_at = time.monotonic()
        plain.execute(lock.encode())
        seconds = time.monotonic() - cut_at
        print(f"the lock of a host that was cut off was free after {seconds:.1f} s")
        for other in others:
            other.join()
        assert seconds < UNLOCKED_SECONDS
