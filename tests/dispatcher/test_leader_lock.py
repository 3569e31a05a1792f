"""The lock that ends with the process that holds it, on each kind of database."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from supervisor.database.interface.leader_lock import LeaderLock
from supervisor.database.open_leader_lock import open_leader_lock
from supervisor.database.postgres import postgres_leader_lock
from supervisor.processes.parent_death import dying_with_us
from tests.conftest import Store
from tests.support.waiting import eventually

HOLDER = """
import sys, threading
from config.load_settings import load_settings
from supervisor.database.open_database import open_database
from supervisor.database.postgres import postgres_leader_lock
from supervisor.database.open_leader_lock import open_leader_lock
settings = load_settings()
lock = open_leader_lock(open_database(settings), settings, lambda: None)
while not lock.seek():
    threading.Event().wait(0.01)
print("held", flush=True)
threading.Event().wait()
"""
OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
def make(store: Store) -> Iterator[Callable[..., LeaderLock]]:
    made: list[LeaderLock] = []

    def one(on_change: Callable[[], None] = lambda: None) -> LeaderLock:
        made.append(open_leader_lock(store.database, store.settings, on_change))
        return made[-1]

    yield one
    for lock in made:
        lock.close()


def test_one_process_holds_the_lock_and_its_release_gives_it_to_the_next(
    make: Callable[..., LeaderLock],
) -> None:
    one, other = make(), make()
    eventually("the first has it", one.seek)
    assert not any(other.seek() for _ in range(50))
    assert one.is_held
    one.give_up()
    eventually("the second has it", other.seek)
    eventually("the first knows", lambda: not one.is_held)
    assert not any(one.seek() for _ in range(50))


def test_it_is_free_as_soon_as_its_holders_process_is_killed(
    make: Callable[..., LeaderLock], store: Store
) -> None:
    environ = {f"DARKROOM_{name}": value for name, value in _told(store).items()}
    holder = subprocess.Popen(
        dying_with_us([sys.executable, "-c", HOLDER]), env=environ, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        lock = make()
        assert not any(lock.seek() for _ in range(50))
        holder.kill()
    eventually("it is free", lock.seek)


@pytest.mark.postgresql_only
def test_a_broken_connection_loses_the_lock_reports_it_and_regains_it(
    make: Callable[..., LeaderLock], store: Store
) -> None:
    changes: list[bool] = []
    lock = make(lambda: changes.append(lock.is_held))
    eventually("it is held", lock.seek)
    with contextlib.closing(psycopg.connect(store.settings.database_url, autocommit=True)) as server:
        assert server.execute(OTHERS).fetchall() == [(True,)]
    eventually("it knows", lambda: changes[:2] == [True, False])
    eventually("it has it again", lock.seek)


@pytest.mark.sqlite_only
def test_without_a_lock_file_no_process_holds_the_lock(
    store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from supervisor.database.sqlite.sqlite_leader_lock import SqliteLeaderLock

    lock = SqliteLeaderLock(tmp_path_factory.mktemp("empty") / "no such folder" / "darkroom.db")
    assert not lock.seek()
    assert not lock.is_held
    lock.close()


def _told(store: Store) -> dict[str, str]:
    return {
        "CONFIG": "",
        "DATA_DIR": str(store.settings.data_dir),
        "DATABASE_URL": store.settings.database_url,
    }


@pytest.mark.postgresql_only
def test_what_nobody_has_foreseen_does_not_end_the_thread_that_has_the_lock(
    make: Callable[..., LeaderLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_leader_lock, "AGAIN_SECONDS", 0.01)
    as_ever, failed = postgres_leader_lock.open_session, list[None]()

    def open_session(url: str) -> Any:
        if not failed:
            failed.append(None)
            raise ZeroDivisionError
        return as_ever(url)

    monkeypatch.setattr(postgres_leader_lock, "open_session", open_session)
    eventually("it has the lock", make().seek)
    assert failed
