"""A migrated database for each test, a clock that tests move, and factories named after the state that they reach.

A test with the fixture `settings`, `database` or `store` runs once on each kind of database, unless the test or its
module is marked `sqlite_only` or `postgresql_only`.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import hypothesis
import pytest

from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.database.interface.database import Database, Transaction
from supervisor.steps.lanes import poll_seconds
from supervisor.store.queue import dispatch as dispatching
from supervisor.store.queue import workers
from supervisor.store.sql.row_isolation import Aside
from supervisor.store.tasks import admission, claims, remote_wait, user_actions
from tests.support.databases import (
    KINDS,
    POSTGRESQL,
    SQLITE,
    Plain,
    fresh_settings,
    is_postgres,
    open_quickly,
    plain_connection,
)
from tests.support.houses.web_server import Web, running_web
from tests.support.servers.broker_server import BrokerServer, broker_server
from tests.support.servers.postgres_databases import give_back
from tests.support.servers.postgres_proxy import PostgresProxy
from tests.support.workers import complete

# How long one example takes is a matter of the machine, and fails no test.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

collect_ignore = ["seed"]  # `make seed-tests` names that folder itself

T = TypeVar("T")

PARAMS = {"images": ["https://example.org/person.jpg"]}
SLOTS = 1000
DEADLINE_SECONDS = 90.0

# Forked from a server that has imported their code and opened nothing: 20 ms each instead of a second.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    [
        "tests.store.test_change_log",
        "tests.store.database.test_group_commit",
        "tests.store.schema.test_migrate",
        "tests.store.money.test_money",
        "tests.store.test_store_claims",
    ]
)


def processes(count: int) -> ProcessPoolExecutor:
    """A pool of real processes that share nothing with this one but the file system."""
    return ProcessPoolExecutor(count, mp_context=_PROCESSES)


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a named condition; fails with its name."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.002)


class Clock:
    """The database's clock, which stands still nowhere but can be moved ahead: `rule.shift`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass for every statement that asks the database for the time."""
        self._ahead += seconds
        with contextlib.closing(plain_connection(self._settings)) as connection:
            shift = "CAST(? AS text)::interval" if is_postgres(self._settings) else "?"
            connection.execute(f"UPDATE rule SET shift = {shift}", (f"{self._ahead:+.3f} seconds",))

    def now(self) -> datetime.datetime:
        """The database's time."""
        with contextlib.closing(plain_connection(self._settings)) as connection:
            now = "strftime('%Y-%m-%dT%H:%M:%fZ','now',(SELECT shift FROM rule))"
            (text,) = connection.execute(
                f"SELECT {'darkroom_now()' if is_postgres(self._settings) else now}"
            ).fetchone()
        return datetime.datetime.fromisoformat(text)


class Store:
    """A database and what a test wants to know of it."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database

    def write(self, step: Callable[[Transaction], T]) -> T:
        """A step's result, after its commit."""
        return self.database.write(step).result(timeout=60)

    def all(self, sql: str, *params: Any) -> list[dict[str, Any]]:
        return self.database.read(lambda tx: tx.all(sql, *params))

    def value(self, sql: str, *params: Any) -> Any:
        return self.database.read(lambda tx: tx.value(sql, *params))

    def task(self, task_id: str) -> dict[str, Any]:
        """The row of a task."""
        (row,) = self.all("SELECT * FROM task_queue WHERE id = ?", task_id)
        return row

    def work(self, task_id: str) -> dict[str, Any]:
        """The row of a task's work."""
        (row,) = self.all("SELECT * FROM works WHERE task_id = ?", task_id)
        return row

    def balance(self, user: str = "o-1") -> int:
        """The user's balance, which must be the sum of the ledger."""
        (row,) = self.all(
            """SELECT balance, (SELECT coalesce(sum(amount), 0) FROM credit_entry
                WHERE credit_entry.user_openid = account.user_openid) AS ledger
                FROM account WHERE user_openid = ?""",
            user,
        )
        assert row["balance"] == row["ledger"], "the balance is the sum of the ledger"
        return int(row["balance"])

    def entries(self, task_id: str) -> list[tuple[int, str, int]]:
        """(charge, kind, amount) of a task's ledger entries, in order."""
        rows = self.all(
            "SELECT charge, kind, amount FROM credit_entry WHERE task_id = ? ORDER BY id", task_id
        )
        return [(row["charge"], row["kind"], row["amount"]) for row in rows]

    def admit_waiting(self) -> int:
        """What a round of the dispatcher admits; how many there were."""
        return self.write(lambda tx: admission.admit_waiting(tx, self.settings, 1000, Aside()).get().rows)

    def dispatch(self, *workers: str) -> list[Claim]:
        """What a round of the dispatcher claims.  workers: the only ones that are given anything."""
        return self.write(lambda tx: dispatch(tx, self.settings, *workers))

    def claim_polls(self) -> list[Claim]:
        """The polls that are due, claimed."""
        return self.write(lambda tx: claim_polls(tx, self.settings))


def dispatch(tx: Transaction, settings: Settings, *workers: str) -> list[Claim]:
    """What a round of the dispatcher claims.  workers: the only ones that are given anything."""
    others = [row["id"] for row in tx.all("SELECT id FROM worker") if workers and row["id"] not in workers]
    return [claims.claim_of(row) for row in dispatching.pick_and_claim(tx, settings, shunned=others).claims]


def claim_now(tx: Transaction, task_id: str, worker_id: str, deadline_seconds: float = 630) -> Claim:
    """A ready task, claimed ahead of all others."""
    (row,) = claims.claim_for(tx, [claims.Wanted(task_id, worker_id, deadline_seconds)]).get()
    return claims.claim_of(row)


def claim_polls(tx: Transaction, settings: Settings) -> list[Claim]:
    """The due polls, claimed for the running workers."""
    again = functools.partial(poll_seconds, settings)
    rows = remote_wait.claim_due_polls(tx, remote_wait.room_for_polls(tx), again)
    return [claims.claim_of(row) for row in rows]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of the store is two tests: one for each kind of database."""
    if "database_kind" in metafunc.fixturenames:
        kinds = [kind for kind in KINDS if not _is_left_out(kind, metafunc.definition)]
        metafunc.parametrize("database_kind", kinds)


def _is_left_out(kind: str, test: pytest.Item) -> bool:
    only = [name for name in (SQLITE, POSTGRESQL) if test.get_closest_marker(f"{name}_only")]
    return bool(only) and kind not in only


@pytest.fixture
def wire(settings: Settings) -> Iterator[PostgresProxy]:
    """A wire to the test's PostgreSQL database that can be cut."""
    proxy = PostgresProxy(settings.database_url)
    yield proxy
    proxy.close()


@pytest.fixture
def settings(tmp_path: Path, database_kind: str) -> Iterator[Settings]:
    """Defaults, in a folder of the test's own, with a migrated database."""
    chosen = fresh_settings(tmp_path, kind=database_kind)
    yield chosen
    if is_postgres(chosen):
        give_back(chosen.database_url)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = open_quickly(settings)
    yield opened
    opened.close()


@pytest.fixture
def store(settings: Settings, database: Database) -> Store:
    return Store(settings, database)


@pytest.fixture
def clock(settings: Settings) -> Clock:
    return Clock(settings)


@pytest.fixture
def producer(settings: Settings) -> Iterator[Plain]:
    """A plain connection to the same database."""
    with contextlib.closing(plain_connection(settings)) as connection:
        yield connection


@pytest.fixture
def live_worker(store: Store) -> Callable[..., str]:
    """Registers a worker process; its id."""

    def make(worker_id: str = "worker-1", slots: int = SLOTS) -> str:
        if store.value("SELECT 1 FROM worker WHERE id = ?", worker_id) is None:
            store.write(lambda tx: workers.register(tx, worker_id, host="here", pid=1, slots=slots))
        return worker_id

    return make


@pytest.fixture
def pending_task(producer: Plain) -> Callable[..., str]:
    """Written by plain SQL and not admitted yet; its id."""

    def make(user: str = "o-1", type_: str = "photography", params: str | None = None) -> str:
        (task_id,) = producer.execute(
            "INSERT INTO task_queue (user_openid, type, params) VALUES (?, ?, ?) RETURNING id",
            (user, type_, params or '{"images":["https://example.org/person.jpg"]}'),
        ).fetchone()
        return str(task_id)

    return make


@pytest.fixture
def admitted_task(store: Store) -> Callable[..., str]:
    """Submitted and paid for; its id."""

    def make(
        user: str = "o-1",
        *,
        count: int = 1,
        priority: int = 0,
        type_: str = "photography",
        run_after: str | None = None,
    ) -> str:
        images = PARAMS["images"] * (2 if type_ == "fitting" else 1)
        new = user_actions.NewTask(user, type_, {"images": images, "count": count}, priority, run_after)
        return str(store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"])

    return make


@pytest.fixture
def claimed_task(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> Callable[..., Claim]:
    """In a worker's hands, and no other task with it; the claim."""

    def make(user: str = "o-1", *, worker: str = "worker-1", **more: Any) -> Claim:
        live_worker(worker)
        task_id = admitted_task(user, **more)
        return store.write(lambda tx: claim_now(tx, task_id, worker))

    return make


@pytest.fixture
def handed_off_task(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., str]:
    """Waiting for a remote service, its poll due now; its id."""

    def make(user: str = "o-1", *, poll_in_seconds: float = 0, **more: Any) -> str:
        claim = claimed_task(user, **more)
        store.write(
            lambda tx: remote_wait.hand_off(
                tx, claim.task_id, claim.lease, poll_in_seconds=poll_in_seconds, remote_limit_seconds=3600
            )
        )
        return claim.task_id

    return make


@pytest.fixture
def polled_task(store: Store, handed_off_task: Callable[..., str]) -> Callable[..., tuple[str, int]]:
    """In the hands of a worker that asks its service; (id, lease)."""

    def make(user: str = "o-1", **more: Any) -> tuple[str, int]:
        task_id = handed_off_task(user, **more)
        (poll,) = [each for each in store.claim_polls() if each.task_id == task_id]
        return task_id, poll.lease

    return make


@pytest.fixture
def completed_task(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., str]:
    """Finished with one picture; its id."""

    def make(user: str = "o-1", *, missing: int = 0, **more: Any) -> str:
        claim = claimed_task(user, **more)
        made = [{"key": f"results/{claim.task_id}.jpg", "width": 4, "height": 3}]
        store.write(lambda tx: complete(tx, claim.task_id, claim.lease, made, missing))
        return claim.task_id

    return make


@pytest.fixture
def failed_task(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., str]:
    """Failed in its first attempt and refunded; its id."""

    def make(user: str = "o-1", **more: Any) -> str:
        claim = claimed_task(user, **more)
        store.write(
            lambda tx: claims.fail(tx, claim.task_id, claim.lease, "invalid_input", "This can't be made.")
        )
        return claim.task_id

    return make


@pytest.fixture
def cancelled_task(store: Store, admitted_task: Callable[..., str]) -> Callable[..., str]:
    """Cancelled while it waited, and refunded; its id."""

    def make(user: str = "o-1", **more: Any) -> str:
        task_id = admitted_task(user, **more)
        store.write(lambda tx: user_actions.cancel(tx, task_id))
        return task_id

    return make


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    """A running web part over a fresh SQLite database; a module that needs other settings has its own `web`."""
    async with running_web(tmp_path) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that opens as many connections as are asked for."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture(scope="module")
def running_server() -> Iterator[BrokerServer]:
    """A broker's server of the module's own."""
    with broker_server() as server:
        yield server


@pytest.fixture
def server(running_server: BrokerServer) -> BrokerServer:
    """The same, with nothing in it."""
    running_server.flush()
    return running_server
