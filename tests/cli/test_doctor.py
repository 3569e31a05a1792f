"""`darkroom doctor` names every fault of a wrong set-up; a part that cannot work now exits with one sentence."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from config.settings import Settings
from supervisor.cli.doctor import doctor_liveness
from supervisor.cli.doctor.doctor import Finding, examine
from supervisor.database.interface.database import Transaction
from supervisor.health import sweep_liveness
from supervisor.objects import disk_space
from supervisor.processes.process_states import STOPPED, state_of
from supervisor.remote.breaker import Sign
from supervisor.store.limits import pauses, providers
from supervisor.store.queue import leader
from supervisor.store.recovery import sweep_runs
from tests.conftest import Clock, Store, wait_until
from tests.support.command_line import darkroom
from tests.support.databases import POSTGRESQL, Plain, fresh_settings
from tests.support.houses.parts import DARKROOM, Part
from tests.support.running_system import running_system
from tests.support.servers.postgres_databases import give_back
from tests.support.servers.postgres_server import PostgresServer, server
from tests.support.waiting import eventually
from tests.support.well import Well


def wrong(settings: Settings, part: str) -> str:
    """The sentence of the one thing that is wrong with a part; empty when it is well."""
    found = [finding for finding in examine(settings) if finding.part == part]
    assert found, f"nobody has looked at {part}"
    return " ".join(finding.sentence for finding in found if not finding.well)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_nothing_is_wrong_with_a_system_that_has_just_begun() -> None:
    with running_system(WORKER_PROCESSES="1") as system:
        done = subprocess.run(
            [DARKROOM, "doctor", "--json"], env=system.environ, capture_output=True, text=True, timeout=60
        )
        assert [finding for finding in json.loads(done.stdout) if not finding["well"]] == []
        assert (done.returncode, done.stderr) == (0, "")


# --- what moves ---


def test_missing_parts_are_named_one_by_one(settings: Settings) -> None:
    assert "start `darkroom up` or `darkroom worker`" in wrong(settings, "workers")
    assert "start `darkroom up` or `darkroom dispatcher`" in wrong(settings, "dispatcher")
    assert "No sweep has ever run" in wrong(settings, "sweep")
    assert wrong(settings, "database") == ""


def test_doctor_does_not_advise_to_start_a_part_that_already_runs(settings: Settings) -> None:
    ours = os.getpid()
    write_state(settings, up=ours)
    for part in ("workers", "dispatcher", "sweep", "broker", "web"):
        said = wrong(settings, part)
        assert f"`darkroom up` (process {ours}) runs here" in said and "start `darkroom up`" not in said, said


def test_a_process_that_a_signal_has_stopped_is_named_with_the_one_that_ends_it(settings: Settings) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        write_state(settings, up=sleeper.pid, web=sleeper.pid)
        assert "stopped" not in wrong(settings, "web")
        sleeper.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(sleeper.pid) == STOPPED, "it is stopped")
        assert f"hears no other but `kill -9 {sleeper.pid}`" in wrong(settings, "web")
        assert f"`kill -CONT {sleeper.pid}` lets it go on" in wrong(settings, "dispatcher")
    finally:
        sleeper.kill()
        sleeper.wait()


def write_state(settings: Settings, up: int, **processes: int) -> None:
    """As the supervisor of these processes does."""
    told = [
        {"name": name, "pid": pid, "state": "ready", "restarts": 0, "last_exit": None}
        for name, pid in processes.items()
    ]
    state = {"supervisor": {"pid": up}, "processes": told}
    (settings.data_dir / "processes.json").write_text(json.dumps(state))


def test_workers_that_have_gone_silent_are_not_taken_for_workers(
    settings: Settings, live_worker: Callable[..., str], clock: Clock
) -> None:
    live_worker()
    assert wrong(settings, "workers") == ""
    clock.advance(settings.lease_seconds + 1)
    assert "1 drain, or have shown no heartbeat for 10 s" in wrong(settings, "workers")


def test_a_sweep_that_went_silent_is_named_with_its_last_end(
    settings: Settings, store: Store, clock: Clock
) -> None:
    store.write(lambda tx: sweep_runs.record_by_hand(tx, {}))
    assert wrong(settings, "sweep") == ""
    clock.advance(sweep_liveness.MOST_SECONDS + 1)
    assert "run `darkroom sweep`" in wrong(settings, "sweep")


def test_the_first_sweep_after_a_start_is_awaited_and_then_missed(
    settings: Settings, store: Store, clock: Clock
) -> None:
    assert "No sweep has ever run" in wrong(settings, "sweep")
    working = Well(store, clock)
    assert wrong(settings, "sweep") == "" and sweep_codes(store) == set()
    working.passes(sweep_liveness.MOST_SECONDS + 1)
    assert "No sweep has ever run" in wrong(settings, "sweep") and sweep_codes(store) == {"sweep_none"}
    store.write(lambda tx: sweep_runs.record_by_hand(tx, {}))
    clock.advance(86_400)
    assert "run `darkroom sweep`" in wrong(settings, "sweep") and sweep_codes(store) == {"sweep_silent"}
    working.tick(None)  # it was stopped for a day, and is started again
    assert wrong(settings, "sweep") == "" and sweep_codes(store) == set()


def sweep_codes(store: Store) -> set[str]:
    """The troubles with sweeps on /ops."""
    return {each["code"] for each in doctor_liveness.house_troubles(store.database, store.settings)} & {
        "sweep_none",
        "sweep_silent",
    }


def test_a_dispatcher_with_the_lock_but_without_beats_is_not_active(store: Store) -> None:
    held = store.write(lambda tx: leader.take_over(tx, leader.read(tx), "d-1"))
    assert held is not None
    assert "No dispatcher works" in wrong(store.settings, "dispatcher")


def test_breakers_and_pauses_are_named(store: Store) -> None:
    def note(tx: Transaction) -> None:
        providers.note(tx, "studio", Sign.DOWN, probe=None, wait_seconds=60, reason="401: The key is wrong.")
        pauses.pause(tx, pauses.TYPE, "fitting", "o-oncall", "a test")

    assert {"studio", "fitting"}.isdisjoint(finding.part for finding in examine(store.settings))
    store.write(note)
    assert "has been down since 2" in wrong(store.settings, "studio")
    assert "401: The key is wrong." in wrong(store.settings, "studio")
    assert "is paused" in wrong(store.settings, "fitting")


def test_troubles_of_the_whole_system_are_shown_beside_tasks(
    store: Store, live_worker: Callable[..., str]
) -> None:
    where = {"DARKROOM_DATABASE_URL": store.settings.database_url}
    done = darkroom(store.settings.data_dir, "tasks", **where)
    assert done.returncode == 0 and "bad: No worker takes tasks" in done.stderr
    assert "bad: " not in done.stdout


# --- the database ---


def test_an_old_schema_is_named_with_the_command_that_mends_it(settings: Settings, producer: Plain) -> None:
    ((newest,),) = producer.execute("SELECT max(name) FROM migration_history").fetchall()
    producer.execute("DELETE FROM migration_history WHERE name = ?", (newest,))
    assert f"({newest} is missing); run `darkroom migrate`" in wrong(settings, "database")
    producer.execute("UPDATE migration_history SET name = '9999_next' WHERE name = '0001_first'")
    assert "upgraded by a newer Darkroom (9999_next)" in wrong(settings, "database")


@pytest.mark.sqlite_only
def test_a_damaged_file_is_named_without_a_traceback(settings: Settings) -> None:
    (settings.data_dir / "darkroom.db").write_bytes(b"not a database at all " * 500)
    assert wrong(settings, "database") == "The database can't be used: file is not a database."
    done = darkroom(settings.data_dir, "tasks")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "darkroom: The database can't be used: file is not a database.\n"


@pytest.mark.postgresql_only
@pytest.mark.parametrize(("seconds", "where"), [(4.0, "behind"), (-4.0, "ahead of")])
def test_a_clock_that_is_off_by_more_than_two_seconds_is_named(
    settings: Settings, clock: Clock, seconds: float, where: str
) -> None:
    clock.advance(0.5)
    assert wrong(settings, "clock") == ""
    clock.advance(seconds - 0.5)
    said = wrong(settings, "clock")
    assert f" s {where} the database's" in said and "NTP" in said


@pytest.fixture(scope="module")
def guarded() -> Iterator[Callable[[str, str], str]]:
    """Addresses of a server that asks user `visitor` for a password: (password, database) → address."""
    own: PostgresServer = server()
    settings = fresh_settings(Path(own.folder), kind=POSTGRESQL)
    name = settings.database_url.partition("?")[0].rpartition("/")[2]
    rules = own.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all visitor scram-sha-256\n" + before)
    with own.admin() as admin:
        admin.execute("CREATE ROLE visitor SUPERUSER LOGIN PASSWORD 'right'")
        admin.execute("SELECT pg_reload_conf()")

    def address(password: str, database: str = name) -> str:
        return f"postgresql://visitor:{password}@/{database}?host={own.folder}&port={own.port}"

    yield address
    rules.write_text(before)
    with own.admin() as admin:
        admin.execute("DROP ROLE visitor")
        admin.execute("SELECT pg_reload_conf()")
    give_back(settings.database_url)


def test_a_refused_password_or_database_ends_everything_at_once_with_one_sentence(
    guarded: Callable[..., str], tmp_path: Path
) -> None:
    def refused(url: str) -> str:
        return wrong(Settings(data_dir=tmp_path, database_url=url), "database")

    psycopg.connect(guarded("right")).close()
    sentence = "The database can't be used: it refuses the user or the password; check DARKROOM_DATABASE_URL."
    assert refused(guarded("wr0ng")) == sentence
    assert "create it with createdb" in refused(guarded("right", "nowhere"))
    parts = {}
    for name in ("web", "dispatcher"):
        (tmp_path / name).mkdir(mode=0o700)  # a file that others may read is reported before the sentence
        parts[name] = Part(name, tmp_path / name, {"DATABASE_URL": guarded("wr0ng"), "PORT": "0"})
    for name, part in parts.items():
        assert part.process.wait(90) == 2
        assert part.said() == f"darkroom {name}: {sentence}"


@pytest.mark.timeout(120)
def test_a_part_that_starts_while_postgresql_is_away_ends_with_one_sentence_to_be_started_again(
    tmp_path: Path,
) -> None:
    away = f"postgresql://nobody@/nowhere?host={tmp_path}&port=1"
    broker = f"unix://{tmp_path}/broker.sock"
    parts = {
        name: Part(name, tmp_path / name, {"DATABASE_URL": away, "BROKER_URL": broker, "PORT": "0"})
        for name in ("web", "dispatcher", "worker")
    }
    for part in parts.values():
        assert part.process.wait(60) == 1, part.said()
        assert "The database did not answer (nobody listens there; start the server, or check " in part.said()
        assert "Traceback" not in part.said(), part.said()
    assert "nobody listens there" in wrong(Settings(data_dir=tmp_path, database_url=away), "database")


@pytest.mark.parametrize("command", ["doctor", "migrate"])
def test_a_client_that_is_not_installed_is_named(tmp_path: Path, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PSYCOPG, command],
        env=os.environ
        | {"DARKROOM_DATA_DIR": str(tmp_path), "DARKROOM_DATABASE_URL": "postgresql://nobody@/x"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pip install 'darkroom-queue[postgres]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr and done.returncode == (1 if command == "doctor" else 2)


WITHOUT_PSYCOPG = "import sys; sys.modules['psycopg'] = None; from supervisor.cli.main import main; main()"


def test_a_lone_worker_with_unusable_settings_ends_at_once(tmp_path: Path) -> None:
    worker = Part("worker", tmp_path, {"TASKS__photography__PROVIDER": "x", "PROVIDERS__x__KIND": "http"})
    eventually("it says why", lambda: worker.said("darkroom: DARKROOM_PROVIDERS__x__"))
    assert worker.process.wait(25) == 2  # dramatiq by itself lets 30 s pass


# --- this host ---


def test_a_broker_that_is_away_is_named(tmp_path: Path, taken_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    away = wrong(Settings(data_dir=tmp_path, broker_url=f"redis://127.0.0.1:{port}"), "broker")
    assert "it can't be reached; check DARKROOM_BROKER_URL" in away
    assert "start `darkroom up`" in wrong(Settings(data_dir=tmp_path), "broker")


def test_a_taken_port_is_named(tmp_path: Path, taken_port: int) -> None:
    said = wrong(Settings(data_dir=tmp_path, port=taken_port), "web")
    assert said == (f"DARKROOM_PORT is {taken_port}, but another program listens there already; set another.")
    assert "is no address of this host" in wrong(
        Settings(data_dir=tmp_path, host="203.0.113.7", secret="of the tests, and of nothing else 0123"),
        "web",
    )


def test_a_disk_that_is_nearly_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(disk_space, "LEAST_BYTES", 1)
    assert disk_space.room_trouble(tmp_path / "not" / "made") is None
    monkeypatch.setattr(disk_space, "LEAST_BYTES", 2 * free)
    said = disk_space.room_trouble(tmp_path / "not" / "made")
    assert said is not None and f"The disk under {tmp_path} has only" in said and "make room" in said
    assert [f.part for f in examine(Settings(data_dir=tmp_path)) if f.part == "disk"] == ["disk"]


def test_a_missing_secret_is_named_where_others_can_reach_us(tmp_path: Path) -> None:
    done = darkroom(tmp_path, "doctor", DARKROOM_HOST="0.0.0.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("darkroom: DARKROOM_SECRET is not set") and done.stderr.count("\n") == 1
    (tmp_path / "secret").write_text("\n")
    assert "is too short (0 characters)" in wrong(Settings(data_dir=tmp_path), "settings")


def test_a_data_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        (tmp_path / "file").touch()
        said = wrong(Settings(data_dir=tmp_path / "file" / "var"), "storage")
        assert said and "Traceback" not in said
        return
    tmp_path.chmod(0o500)
    with contextlib.ExitStack() as stack:
        stack.callback(tmp_path.chmod, 0o700)
        assert "can't be written" in wrong(Settings(data_dir=tmp_path / "var"), "storage")


def test_every_finding_is_one_sentence(settings: Settings) -> None:
    for finding in examine(settings):
        assert isinstance(finding, Finding)
        assert "\n" not in finding.sentence and finding.sentence
