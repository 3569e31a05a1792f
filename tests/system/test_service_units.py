"""A host that boots while a server is away: when it comes back, the units start every part."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playhouse.migrations import Runner

from supervisor.processes.launcher import PROGRAMS
from supervisor.schema.migrate import HISTORY, VERSIONS, known_versions
from supervisor.schema.postgres.postgres_functions import functions
from supervisor.schema.postgres.postgres_transaction import SchemaDatabase
from tests.support import waiting
from tests.support.houses.parts import DARKROOM
from tests.support.houses.service_units import ServiceUnit
from tests.support.servers.broker_server import BrokerServer, broker_server
from tests.support.servers.postgres_server import PostgresServer

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
PARTS = ("web", "dispatcher", "scheduler", "worker@")

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

eventually = functools.partial(waiting.eventually, seconds=200.0)  # three parts start side by side

Start = Callable[..., ServiceUnit]


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def broker() -> Iterator[BrokerServer]:
    with broker_server() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a unit of deploy/systemd by its name."""
    units: list[ServiceUnit] = []

    def make(name: str, **settings: str) -> ServiceUnit:
        units.append(ServiceUnit(SYSTEMD / f"darkroom-{name}.service", tmp_path / name.strip("@"), settings))
        return units[-1]

    yield make
    for unit in units:
        unit.stop()


def old_database(postgres: PostgresServer) -> str:
    """The address of a database that an upgrade is pending for."""
    url = postgres.url(postgres.create_database())
    with contextlib.closing(SchemaDatabase(url)) as database:
        database.connect()
        for statement in functions("public"):
            database.execute_sql(statement)
        Runner(database, directory=str(VERSIONS), table_name=HISTORY).up(known_versions()[0])
    return url


def test_a_host_that_boots_while_postgresql_is_away_and_an_upgrade_is_pending_comes_up(
    postgres: PostgresServer, broker: BrokerServer, start: Start
) -> None:
    settings = {"DATABASE_URL": old_database(postgres), "BROKER_URL": broker.address, "PORT": "0"}
    postgres.stop()
    migrate = start("migrate", **settings)
    eventually("migrate says why it waits", lambda: migrate.said("Waiting until it can be used"))
    assert migrate.is_up and migrate.ends == []
    postgres.start()
    eventually("it has migrated", lambda: migrate.has_ended_well)
    assert migrate.ends == [0] and len(migrate.said("Waiting").splitlines()) == 1
    parts = {name: start(name, **settings) for name in PARTS}
    eventually("web serves", lambda: parts["web"].said("serving on"))
    eventually("the dispatcher works", lambda: parts["dispatcher"].said("dispatcher_leads"))
    eventually("the worker works", lambda: parts["worker@"].said("worker_started"))
    assert all(part.is_up and part.ends == [] for part in parts.values())


def test_the_whole_system_on_one_host_waits_for_its_database(
    postgres: PostgresServer, broker: BrokerServer, tmp_path: Path
) -> None:
    url = old_database(postgres)
    postgres.stop()
    settings = {"DATABASE_URL": url, "BROKER_URL": broker.address, "PORT": "0", "WORKER_PROCESSES": "1"}
    unit = ServiceUnit(SYSTEMD / "darkroom.service", tmp_path, settings)
    try:
        eventually("it says why it waits", lambda: unit.said("not_migrated_yet"))
        assert unit.is_up and unit.ends == []
        postgres.start()
        eventually("every part is ready", lambda: unit.said("ready http://"))
        assert unit.ends == []
    finally:
        unit.stop()


def test_migrate_waits_for_the_configured_time(tmp_path: Path) -> None:
    environ = {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    environ["DARKROOM_DATABASE_URL"] = f"postgresql://darkroom@/none?host={tmp_path}"
    for seconds, status in (("0", 1), ("3", 1), ("nan", 2), ("-1", 2), ("soon", 2)):
        done = subprocess.run(
            [DARKROOM, "migrate", "--wait", seconds], env=environ, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        if status == 1:
            assert "nobody listens there" in done.stderr
            assert ("Waiting until it can be used" in done.stderr) == (seconds == "3")


def test_parts_that_find_an_old_schema_are_started_again_until_a_migration(
    postgres: PostgresServer, broker: BrokerServer, start: Start
) -> None:
    settings = {"DATABASE_URL": old_database(postgres), "BROKER_URL": broker.address, "PORT": "0"}
    parts = {name: start(name, **settings) for name in ("web", "dispatcher", "worker@")}
    for name, part in parts.items():
        eventually(f"{name} has ended", lambda part=part: part.ends)
        assert set(part.ends) == {1} and not part.is_down
        assert "is not up to date (0002_" in part.said() and "run `darkroom migrate`" in part.said()
    assert eventually("it has migrated", lambda migrate=start("migrate", **settings): migrate.has_ended_well)
    eventually("web serves", lambda: parts["web"].said("serving on"))
    eventually("the dispatcher works", lambda: parts["dispatcher"].said("dispatcher_leads"))
    eventually("the worker works", lambda: parts["worker@"].said("worker_started"))


def test_the_scheduler_waits_for_a_broker_that_is_away_and_is_started_again_when_it_goes(
    postgres: PostgresServer, broker: BrokerServer, start: Start
) -> None:
    broker.stop()
    scheduler = start("scheduler", BROKER_URL=broker.address)
    eventually("it says why it waits", lambda: scheduler.said("The broker does not answer"))
    assert scheduler.is_up and scheduler.ends == []
    broker.start()
    eventually(
        "it schedules", lambda: scheduler.said("Scheduler ready") or scheduler.said("Starting Periodiq")
    )
    assert scheduler.ends == []


def test_an_import_that_fails_does_not_look_like_wrong_settings(tmp_path: Path) -> None:
    """Half an upgrade: 2 would keep the worker down for good.  dramatiq itself says 2."""
    for program, status in (([PROGRAMS / "dramatiq"], 1), (["-m", "dramatiq"], 2)):
        done = subprocess.run(
            [sys.executable, *program, "a_module_that_is_not_there", "--processes", "1"],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert "a_module_that_is_not_there" in done.stdout + done.stderr


@pytest.mark.parametrize("part", ["web", "dispatcher", "worker"])
def test_wrong_settings_end_a_part_with_status_2(tmp_path: Path, part: str) -> None:
    environ = {"DARKROOM_CONFIG": "", "DARKROOM_DATA_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for wrong in ({"DARKROOM_PORT": "eighty"}, {"DARKROOM_DATABASE_URL": "mysql://here"}):
        done = subprocess.run(
            [DARKROOM, part], env=environ | wrong, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 2, done.stderr
    done = subprocess.run(
        [DARKROOM, part], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and "There is no database" in done.stderr, "it may be made by now"
