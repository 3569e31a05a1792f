"""Wake-ups: a process is notified at once of another one's commit."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from config.settings import Settings
from supervisor.database.interface.wakeups import Wakeups
from supervisor.database.sqlite import sqlite_wakeups
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.database.sqlite.sqlite_wakeups import HAS_INOTIFY, SAFETY_SECONDS, SqliteWakeups
from supervisor.store.queue import wake_counters
from tests.conftest import DEADLINE_SECONDS

pytestmark = pytest.mark.sqlite_only

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'photography', '{}')"


@pytest.fixture(params=["inotify", "polling"])
def wakeups(
    request: pytest.FixtureRequest, database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wakeups]:
    """Both ways of noticing a commit, where the system has both."""
    if request.param == "inotify" and not HAS_INOTIFY:
        pytest.skip("this system has no inotify")
    monkeypatch.setattr(sqlite_wakeups, "HAS_INOTIFY", request.param == "inotify")
    made = SqliteWakeups(database)
    made.wait(0)
    yield made
    made.close()


def _quiet(wakeups: Wakeups) -> None:
    """Read the wake-ups of earlier commits."""
    while wakeups.wait(0.05):
        pass


def test_a_commit_by_a_plain_connection_wakes(wakeups: Wakeups, producer: sqlite3.Connection) -> None:
    for _ in range(5):
        _quiet(wakeups)
        producer.execute(INSERT)
        assert wakeups.wait(DEADLINE_SECONDS)


def test_a_commit_by_another_process_wakes_a_waiting_process(wakeups: Wakeups, settings: Settings) -> None:
    _quiet(wakeups)
    path = str(settings.data_dir / "darkroom.db")
    program = f"import sqlite3; c = sqlite3.connect({path!r}, 15); c.execute({INSERT!r}); c.commit()"
    with subprocess.Popen([sys.executable, "-c", program]) as other:
        assert wakeups.wait(DEADLINE_SECONDS)
        assert other.wait(DEADLINE_SECONDS) == 0


def test_a_process_that_looks_after_each_wait_misses_no_commit(
    wakeups: Wakeups, database: SqliteDatabase
) -> None:
    """The event comes when the log is written, the commit when the disk has it: on a slow disk the first look is
    too soon and no second event follows, so a wait that ends for nothing must be followed by a look as well."""
    for _ in range(5):
        _quiet(wakeups)
        before = database.glance(wake_counters.read).dispatch
        writer = threading.Thread(target=_insert_from_a_thread, args=(str(database.path),))
        writer.start()
        end = time.monotonic() + DEADLINE_SECONDS
        while database.glance(wake_counters.read).dispatch == before:
            assert time.monotonic() < end
            wakeups.wait(SAFETY_SECONDS)
        writer.join()


def _insert_from_a_thread(path: str) -> None:
    connection = sqlite3.connect(path, timeout=15)
    connection.execute(INSERT)
    connection.commit()
    connection.close()


def test_no_commit_means_no_wake_up(wakeups: Wakeups) -> None:
    _quiet(wakeups)
    begun = time.monotonic()
    assert not wakeups.wait(0.1)
    assert time.monotonic() - begun >= 0.09


def test_a_commit_that_nobody_needs_ends_no_wait_and_is_heard_when_somebody_does(
    wakeups: Wakeups, producer: sqlite3.Connection
) -> None:
    _quiet(wakeups)
    wakeups.heeds_commits = False
    producer.execute(INSERT)
    assert not wakeups.wait(0.3)
    wakeups.heeds_commits = True
    assert wakeups.wait(DEADLINE_SECONDS)


@pytest.fixture
def watched(database: SqliteDatabase) -> Iterator[SqliteWakeups]:
    """Wake-ups by inotify."""
    if not HAS_INOTIFY:
        pytest.skip("this system has no inotify")
    made = SqliteWakeups(database)
    made.wait(0)
    yield made
    made.close()


def test_a_listener_is_woken_when_a_commit_is_visible_and_not_when_its_first_bytes_are_written(
    watched: SqliteWakeups, producer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk takes milliseconds for the rest; a listener that read in vain meanwhile came too late after it."""
    _quiet(watched)
    before, looks = watched.version(), 0

    def version() -> int:  # of a slow disk
        nonlocal looks
        looks += 1
        return before if looks <= 10 else before + 1

    watched.hear_visible(0)
    monkeypatch.setattr(watched, "version", version)
    monkeypatch.setattr(watched, "_version", before)
    producer.execute(INSERT)
    assert watched.hear_visible(DEADLINE_SECONDS)
    assert looks == 11


def test_a_listener_waits_for_a_commit_that_does_not_end_no_longer_than_for_none(
    watched: SqliteWakeups, producer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quiet(watched)
    monkeypatch.setattr(watched, "version", lambda: 7)
    monkeypatch.setattr(watched, "_version", 7)
    producer.execute(INSERT)
    assert watched.hear_visible(DEADLINE_SECONDS)


def test_an_interrupt_ends_the_wait_for_the_end_of_a_commit(
    watched: SqliteWakeups, producer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _quiet(watched)

    def version() -> int:
        watched.interrupt()
        return 7

    monkeypatch.setattr(watched, "version", version)
    monkeypatch.setattr(watched, "_version", 7)
    monkeypatch.setattr(sqlite_wakeups, "VISIBLE_SECONDS", (DEADLINE_SECONDS * 2,))
    monkeypatch.setattr(watched, "safety_seconds", DEADLINE_SECONDS * 3)
    producer.execute(INSERT)
    begun = time.monotonic()
    assert watched.hear_visible(DEADLINE_SECONDS)
    assert time.monotonic() - begun < DEADLINE_SECONDS


def test_an_interrupt_ends_the_wait_at_once_even_one_given_before(wakeups: Wakeups) -> None:
    _quiet(wakeups)
    wakeups.interrupt()
    begun = time.monotonic()
    assert wakeups.wait(DEADLINE_SECONDS)
    later = threading.Timer(0.05, wakeups.interrupt)
    later.start()
    assert wakeups.wait(DEADLINE_SECONDS)
    assert time.monotonic() - begun < DEADLINE_SECONDS / 2
    later.join()
    for _ in range(100_000):
        wakeups.interrupt()  # a full pipe is no error: the waiter has enough to wake up for
    assert wakeups.wait(0)


async def test_listening_yields_after_commits_and_ends_cleanly(
    wakeups: Wakeups, producer: sqlite3.Connection, database: SqliteDatabase
) -> None:
    found = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        listening = wakeups.listen()
        producer.execute(INSERT)
        async for _ in listening:
            found = await database.read_async(lambda tx: tx.value("SELECT count(*) FROM task_queue"))
            if found == 3:
                break
            producer.execute(INSERT)
        await listening.aclose()  # type: ignore[attr-defined]
    assert found == 3
    assert not [thread for thread in threading.enumerate() if thread.name == "wakeups"]


async def test_a_commit_without_a_wake_up_is_found_by_the_regular_look(
    wakeups: Wakeups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any notification the listener still looks."""
    monkeypatch.setattr(wakeups, "_wait_for_event", lambda seconds: time.sleep(seconds))
    monkeypatch.setattr(wakeups, "_poll", lambda seconds: time.sleep(seconds))
    async with asyncio.timeout(DEADLINE_SECONDS):
        listening = wakeups.listen()
        await anext(listening)
        await anext(listening)
        await listening.aclose()  # type: ignore[attr-defined]
