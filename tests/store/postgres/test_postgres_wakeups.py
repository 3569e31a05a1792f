"""Wake-ups of PostgreSQL: a listener is notified of every commit, and reports when it cannot listen."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import supervisor.database.postgres.postgres_wakeups
from config.settings import Settings
from supervisor.database.interface.wakeups import SOMETHING, Heard, Wakeups
from supervisor.database.open_wakeups import dispatch_wakeups, feed_wakeups
from supervisor.database.postgres.postgres_wakeups import PostgresWakeups
from supervisor.store.queue import workers
from tests.conftest import DEADLINE_SECONDS, Store, wait_until
from tests.support.databases import Plain
from tests.support.houses.web_server import until
from tests.support.servers.postgres_proxy import PostgresProxy
from tests.support.servers.postgres_server import server

pytestmark = pytest.mark.postgresql_only

INSERT = "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', 'photography', '{}')"


@pytest.fixture(autouse=True)
def rare_rescans(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what wakes is the notification."""
    monkeypatch.setattr(supervisor.database.postgres.postgres_wakeups, "RESCAN_SECONDS", 3600.0)


@pytest.fixture
def dispatch(store: Store) -> Iterator[Wakeups]:
    made = dispatch_wakeups(store.database, store.settings)
    yield made
    made.close()


@pytest.fixture
def feed(store: Store) -> Iterator[Wakeups]:
    made = feed_wakeups(store.database, store.settings)
    yield made
    made.close()


def _listening(wakeups: Wakeups) -> None:
    """Wait until it listens, and take what that alone has said."""
    wait_until(lambda: wakeups.wait(0.01) or wakeups.is_listening, "the listener listens")
    while wakeups.wait(0.05):
        pass
    assert wakeups.is_listening


def test_a_commit_by_any_program_wakes_the_dispatcher(dispatch: Wakeups, producer: Plain) -> None:
    for _ in range(5):
        _listening(dispatch)
        producer.execute(INSERT)
        assert dispatch.wait(DEADLINE_SECONDS)


def test_no_commit_means_no_wake_up(dispatch: Wakeups, feed: Wakeups) -> None:
    for wakeups in (dispatch, feed):
        _listening(wakeups)
        begun = time.monotonic()
        assert not wakeups.wait(0.1)
        assert time.monotonic() - begun >= 0.09


def test_the_feed_is_notified_of_the_users_with_changes(
    feed: Wakeups, admitted_task: Callable[..., str]
) -> None:
    _listening(feed)
    admitted_task("o-1")
    assert feed.hear(DEADLINE_SECONDS) == Heard(frozenset({"o-1"}))
    with server().admin() as admin:
        admin.execute("SELECT 1")  # a commit without a change
    assert feed.hear(0.05) is None


def test_changes_without_a_reader_and_without_work_wake_no_process(
    dispatch: Wakeups, feed: Wakeups, store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker()
    _listening(dispatch)
    _listening(feed)
    store.write(lambda tx: workers.beat(tx, "worker-1", 0))
    assert dispatch.hear(0.1) is None and feed.hear(0.1) is None


def test_a_user_id_too_long_for_a_notification_wakes_every_process(feed: Wakeups, producer: Plain) -> None:
    _listening(feed)
    producer.execute("SELECT pg_notify('darkroom_feed', '')")
    assert feed.hear(DEADLINE_SECONDS) == SOMETHING


def test_an_interrupt_ends_the_wait_even_one_given_before(dispatch: Wakeups) -> None:
    _listening(dispatch)
    dispatch.interrupt()
    assert dispatch.wait(DEADLINE_SECONDS)
    assert not dispatch.wait(0)


def test_a_listener_that_was_cut_off_listens_again_and_looks_at_everything(
    dispatch: Wakeups, producer: Plain, caplog: pytest.LogCaptureFixture
) -> None:
    """Notifications meanwhile are lost, so a wake-up comes first afterwards."""
    caplog.set_level(logging.INFO, "darkroom.listener")
    _listening(dispatch)
    server().stop()
    wait_until(lambda: dispatch.wait(0.01) and not dispatch.is_listening, "the loss is noticed")
    server().start()
    wait_until(lambda: dispatch.wait(0.01) and dispatch.is_listening, "it listens again")
    said = [record.getMessage() for record in caplog.records]
    assert [("trying again" in each, "listening for" in each) for each in said] == [
        (False, True), (True, False), (False, True)
    ], said  # fmt: skip


def test_a_listener_behind_a_pooler_says_so_and_looks_now_and_then(
    wire: PostgresProxy, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor.database.postgres.postgres_wakeups, "PROBE_SECONDS", 0.3)
    monkeypatch.setattr(supervisor.database.postgres.postgres_wakeups, "TRY_DEAF_AGAIN_SECONDS", 0.3)
    wire.swallows_notifications = True
    deaf = PostgresWakeups(wire.url, "darkroom_dispatch")
    try:
        wait_until(
            lambda: deaf.wait(0.01) and "DATABASE_LISTEN_URL" in caplog.text,
            "it reports that it cannot listen",
        )
        assert not deaf.is_listening
        for _ in range(4):
            assert deaf.wait(DEADLINE_SECONDS), "it looks all the same"
        assert caplog.text.count("DATABASE_LISTEN_URL") == 1, "once"
        wire.swallows_notifications = False
        wait_until(lambda: deaf.wait(0.01) and deaf.is_listening, "it hears now")
    finally:
        deaf.close()


def test_a_server_that_is_away_at_the_start_is_waited_for(
    wire: PostgresProxy, caplog: pytest.LogCaptureFixture
) -> None:
    wire.refuses = True
    waiting = PostgresWakeups(wire.url, "darkroom_dispatch")
    try:
        wait_until(lambda: waiting.wait(0.01) and "does not answer" in caplog.text, "it says that it waits")
        wire.refuses = False
        wait_until(lambda: waiting.wait(0.01) and waiting.is_listening, "it listens")
    finally:
        waiting.close()


async def test_listening_yields_the_users_with_changes_and_ends_cleanly(
    feed: Wakeups, store: Store, admitted_task: Callable[..., str]
) -> None:
    heard: set[str] = set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        listening: Any = feed.listen()
        assert await anext(listening) == SOMETHING, "at the start anything may have changed"
        await until(lambda: feed.is_listening, "the listener listens")
        for user in ("o-1", "o-2"):
            await asyncio.to_thread(admitted_task, user)
        async for each in listening:
            heard |= each.users or frozenset()
            if heard == {"o-1", "o-2"}:
                break
        await listening.aclose()


def test_a_rescan_comes_without_notifications(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor.database.postgres.postgres_wakeups, "RESCAN_SECONDS", 0.1)
    with contextlib.closing(feed_wakeups(store.database, store.settings)) as feed:
        wait_until(lambda: feed.wait(0.01) and feed.is_listening, "it listens")
        began = time.monotonic()
        assert all(feed.wait(DEADLINE_SECONDS) for _ in range(4)) and feed.is_listening
        assert time.monotonic() - began < supervisor.database.postgres.postgres_wakeups.PING_SECONDS, (
            "no ping woke it"
        )


def pings(store: Store) -> int:
    """How many sessions of this database have said their word last."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'SELECT 1'"
    return int(store.value(sql))


@pytest.mark.parametrize("minutes", ["the server's", "a proxy's"])
def test_a_listener_without_notifications_for_long_is_not_cut_off(
    store: Store,
    producer: Plain,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    minutes: str,
) -> None:
    """`idle_session_timeout` ends a session that is idle, and many a proxy one on which nothing is said."""
    name = store.settings.database_url.partition("?")[0].rpartition("/")[2]
    if minutes == "the server's":
        producer.execute(f"ALTER DATABASE {name} SET idle_session_timeout = '500ms'")
    else:
        monkeypatch.setattr(supervisor.database.postgres.postgres_wakeups, "PING_SECONDS", 0.1)
    feed = feed_wakeups(store.database, store.settings)
    try:
        wait_until(lambda: feed.wait(0.01) or feed.is_listening, "the listener listens")
        if minutes == "the server's":
            time.sleep(1.5)  # the limit itself, three times over
        else:
            wait_until(lambda: pings(store) == 1, "a word is said")
            wait_until(lambda: feed.wait(0.05), "and what may have been missed is looked for")
        assert feed.is_listening
        assert not [record for record in caplog.records if "does not answer" in record.getMessage()]
    finally:
        feed.close()
        with server().admin() as admin:  # the database is another test's next
            admin.execute(
                f"ALTER DATABASE {store.settings.database_url.partition('?')[0].rpartition('/')[2]} RESET ALL"
            )


def test_what_nobody_has_foreseen_leaves_no_listener_deaf(
    feed: Wakeups, monkeypatch: pytest.MonkeyPatch, admitted_task: Callable[..., str]
) -> None:
    as_ever, failed = PostgresWakeups._hears, list[None]()

    def hears(self: PostgresWakeups, connection: Any) -> bool:
        if not failed:
            failed.append(None)
            raise ZeroDivisionError
        return as_ever(self, connection)

    monkeypatch.setattr(PostgresWakeups, "_hears", hears)
    wait_until(lambda: (feed.wait(0.01), feed.is_listening)[1], "it listens")
    _listening(feed)
    admitted_task("o-1")
    assert feed.hear(DEADLINE_SECONDS) == Heard(frozenset({"o-1"})) and failed
