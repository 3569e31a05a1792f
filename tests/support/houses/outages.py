"""A whole Darkroom on PostgreSQL and Valkey; both are taken away again and again during work."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from config.settings import Settings
from supervisor.schema.migrate import migrate
from tests.support.houses.parts import faulty_type
from tests.support.models.exactly_once import OPEN_TASKS, faults_in
from tests.support.running_system import RunningSystem, running_system
from tests.support.servers.broker_server import BrokerServer, broker_server
from tests.support.servers.postgres_server import PostgresServer

USERS = 10
WORK_SECONDS = 0.2
LIFTED = {"CREDITS__ENABLED": "true", "CREDITS__SIGNUP_GRANT": "1000"}
DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
MOST_SECONDS = 300.0
AWAY_SECONDS = 20.0

INSERT = """INSERT INTO task_queue (user_openid, type, params)
    SELECT (%(users)s::text[])[1 + n %% cardinality(%(users)s::text[])], 'noted',
        jsonb_build_object('images', jsonb_build_array((%(images)s::text[])[1 + n %% cardinality(%(users)s::text[])]))
    FROM generate_series(1, %(rows)s) AS n"""


@dataclass(frozen=True)
class Seen:
    """The end of the tasks. runs: {requests to the service for a task: tasks}.  faults: see faults_in.

    took_seconds: from the first task to the end of the last.
    """

    tasks: int
    outages: Counter[str]
    took_seconds: float
    runs: Counter[int]
    faults: dict[str, list[object]]

    def __str__(self) -> str:
        outages = ", ".join(f"{count} x {kind}" for kind, count in self.outages.items())
        runs = ", ".join(f"{tasks} run {times} x" for times, tasks in sorted(self.runs.items()))
        faults = "; ".join(f"{claim}: {len(rows)}" for claim, rows in self.faults.items()) or "none"
        return f"{self.tasks} tasks in {self.took_seconds:.1f} s with {outages}; {runs}; faults: {faults}"


class Shop:
    """The servers and the system between them."""

    def __init__(
        self, postgres: PostgresServer, broker: BrokerServer, system: RunningSystem, url: str, notes: Path
    ) -> None:
        self.postgres, self.broker, self.system, self.url = postgres, broker, system, url
        self._notes = notes
        self.users = [f"o-{n}" for n in range(USERS)]
        self._images = [system.upload_sample(user) for user in self.users]

    # --- what can happen to PostgreSQL ---

    def restart_postgres(self) -> None:
        self.postgres.stop()
        self.postgres.start()

    def crash_postgres(self) -> None:
        self.postgres.stop(crash=True)
        self.postgres.start()

    def leave_postgres_away(self) -> None:
        """Longer than a worker goes on without a heartbeat."""
        self.postgres.stop()
        time.sleep(AWAY_SECONDS)
        self.postgres.start()

    def terminate_backends(self) -> None:
        with self.postgres.admin() as admin:
            others = "backend_type = 'client backend' AND pid <> pg_backend_pid()"
            admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}".encode())

    # --- and to the broker ---

    def restart_broker(self) -> None:
        self.broker.restart()

    def flush_broker(self) -> None:
        self.broker.flush()

    def order(self, count: int) -> None:
        """So many tasks by one plain statement, committed or not at all."""
        with psycopg.connect(self.url) as plain:
            plain.execute(INSERT.encode(), {"users": self.users, "images": self._images, "rows": count})

    def work_through(self, tasks: int, outages: list[tuple[str, Callable[[Shop], None]]]) -> Seen:
        """Order a batch of tasks for each outage, which strikes when half of them are at work or over."""
        began, batch = time.monotonic(), tasks // len(outages)
        before = self._calls()
        for n, (_, strike) in enumerate(outages, 1):
            self.order(batch)
            _until(lambda: (self._calls() - before).total() >= (n - 0.5) * batch)  # noqa: B023  called at once
            strike(self)
        _until(self._is_idle)
        return Seen(
            tasks,
            Counter(kind for kind, _ in outages),
            time.monotonic() - began,
            Counter((self._calls() - before).values()),
            faults_in(self.url),
        )

    def _calls(self) -> Counter[str]:
        """How often the service was asked for each task."""
        lines = (line.split() for line in self._notes.read_text().splitlines())
        return Counter(task for task, what in lines if what == "call")

    def _is_idle(self) -> bool:
        with psycopg.connect(self.url) as plain:
            return plain.execute(OPEN_TASKS.encode()).fetchone() == (0,)


POSTGRES_OUTAGES = [
    ("restart of PostgreSQL", Shop.restart_postgres),
    ("all its backends terminated", Shop.terminate_backends),
    ("crash of PostgreSQL", Shop.crash_postgres),
]
LONG_OUTAGE = [(f"PostgreSQL away for {AWAY_SECONDS:g} s", Shop.leave_postgres_away)]
BROKER_OUTAGES = [("restart of the broker", Shop.restart_broker), ("broker flushed", Shop.flush_broker)]


@contextlib.contextmanager
def opened_shop(**settings: str) -> Iterator[Shop]:
    """Servers of its own, since they will be ill-treated.  settings: names without DARKROOM_, over ours."""
    with contextlib.ExitStack() as ends:
        postgres = PostgresServer(**DURABLE)
        ends.callback(postgres.close)
        url = postgres.url(postgres.create_database())
        broker = ends.enter_context(broker_server())
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="dr-outage-")))
        migrate(Settings(data_dir=folder, database_url=url))
        chosen = {"DATABASE_URL": url, "BROKER_URL": broker.address, **LIFTED}
        chosen |= faulty_type("noted", folder / "notes", wait_seconds=str(WORK_SECONDS))
        system = ends.enter_context(running_system(log=folder / "up.log", **chosen, **settings))
        yield Shop(postgres, broker, system, url, folder / "notes")


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + MOST_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"The tasks were not over after {MOST_SECONDS:g} s.")
        time.sleep(0.02)
