"""An upgrade under load: databases of earlier releases, with tasks in every state, while producers, users and a worker
of that release go on.  Acknowledged orders are there afterwards, and the new release finishes them all.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from supervisor.schema.migrate import known_versions
from tests.support.command_line import darkroom
from tests.support.databases import POSTGRESQL, SQLITE, is_postgres, plain_connection
from tests.support.providers.instant_provider import ONE_PIXEL
from tests.support.running_system import running_system
from tests.support.waiting import eventually
from tests.upgrade.dumps import restored

OLD = {SQLITE: "0003-sqlite", POSTGRESQL: "0007-postgresql"}
ENOUGH = 10  # acknowledged writes of producers, before and after
# Each pause of a producer is longer than the last by this: a slow machine, which takes longer for everything here, must
# finish all their tasks afterwards.
LONGER_SECONDS = 0.02
HELD_BACK = 4  # tasks that the old worker ends only after the upgrade

NOW = {SQLITE: "strftime('%Y-%m-%dT%H:%M:%fZ','now',(SELECT shift FROM rule))", POSTGRESQL: "darkroom_now()"}
# What a worker of those releases says to the database.
CLAIM = """UPDATE task_queue SET status = 'processing', stage = 'starting', progress = 0, ready = 0,
        lease = lease + 1, attempt = attempt + 1, worker_id = 'old-worker', dispatched_at = NULL,
        processing_started_at = {now}, deadline_at = '2099-01-01T00:00:00.000Z', updated_at = {now}
    WHERE id = ? AND status = 'pending' AND dispatched_at IS NOT NULL AND admitted_charge = charge RETURNING lease"""
PROGRESS = """UPDATE task_queue SET progress = 60, stage = 'making', updated_at = {now}
    WHERE id = ? AND lease = ? AND worker_id IS NOT NULL AND status IN ('processing','ai_processing') RETURNING id"""
COMPLETE = """UPDATE task_queue SET status = 'completed', stage = 'done', progress = 100, missing = 0,
        images = '[{{"key":"results/old.jpg","width":1,"height":1}}]', deadline_at = NULL, dispatched_at = NULL,
        next_poll_at = NULL, finished_at = {now}, updated_at = {now}
    WHERE id = ? AND lease = ? AND worker_id IS NOT NULL AND status IN ('processing','ai_processing') RETURNING id"""


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def old_release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database as a release of long ago has left it, filled a moment ago."""
    with restored(OLD[request.param], tmp_path) as settings:
        yield settings


class Load:
    """Threads that write as programs of that release do. acknowledged: the orders that were confirmed to each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._now = NOW[POSTGRESQL if is_postgres(settings) else SQLITE]
        self.acknowledged: dict[str, list[str]] = {"produced": [], "retried": [], "completed": [], "left": []}
        self.upgraded = threading.Event()
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        writers = [self._produce, self._produce, self._retry, self._work]
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in writers]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.upgraded.set()
        for thread in self._threads:
            thread.join(60)
        assert not self._errors, self._errors

    def goes_on(self) -> None:
        """Returns when the producers have more confirmations."""
        seen = len(self.acknowledged["produced"])
        eventually("producers go on", lambda: len(self.acknowledged["produced"]) >= seen + ENOUGH)

    def _run(self, writer: Callable[[Any], None]) -> None:
        try:
            with contextlib.closing(plain_connection(self._settings)) as connection:
                writer(connection)
        except BaseException as error:  # noqa: BLE001  told by __exit__
            self._errors.append(error)

    def _produce(self, connection: Any) -> None:
        for n in itertools.count(1):
            if self._over.wait(n * LONGER_SECONDS):
                return
            ((task_id,),) = connection.execute(
                """INSERT INTO task_queue (user_openid, type, params)
                    VALUES ('o-1', 'photography', '{"images":["old-image-1"]}') RETURNING id"""
            ).fetchall()
            self.acknowledged["produced"].append(task_id)

    def _retry(self, connection: Any) -> None:
        """Users who want their failed and cancelled pictures after all."""
        for (task_id,) in connection.execute(
            "SELECT id FROM task_queue WHERE status IN ('failed','cancelled') ORDER BY id"
        ).fetchall():
            connection.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))
            self.acknowledged["retried"].append(task_id)
            if self._over.wait(0.2):
                return

    def _work(self, connection: Any) -> None:
        """A worker that ends its running tasks and those of its hints; the last tasks only after the upgrade.

        A hint is worth nothing after it: the new dispatcher claims those tasks for workers of its own.
        """
        rows = connection.execute(
            """SELECT id, lease, status FROM task_queue
                WHERE status = 'processing' OR (status = 'pending' AND dispatched_at IS NOT NULL) ORDER BY id"""
        ).fetchall()
        for n, (task_id, lease, status) in enumerate(rows):
            if n == len(rows) - HELD_BACK:
                self.upgraded.wait(60)
            claimed = connection.execute(CLAIM.format(now=self._now), (task_id,)).fetchall()
            if status == "pending" and not claimed:
                assert self.upgraded.is_set()
                self.acknowledged["left"].append(task_id)
                continue
            held = (task_id, claimed[0][0] if claimed else lease)
            for statement in (PROGRESS, COMPLETE):
                assert connection.execute(statement.format(now=self._now), held).fetchall() == [(task_id,)]
            self.acknowledged["completed"].append(task_id)


def rows(settings: Settings, query: str) -> list[Any]:
    with contextlib.closing(plain_connection(settings)) as connection:
        return list(connection.execute(query).fetchall())


def ids(settings: Settings, condition: str) -> set[str]:
    return {row[0] for row in rows(settings, f"SELECT id FROM task_queue WHERE {condition}")}


def one_value(settings: Settings, query: str) -> Any:
    return rows(settings, query)[0][0]


@pytest.mark.timeout(480)  # more than its named deadlines together, so that one of those is what fails
def test_an_upgrade_under_load_loses_nothing_and_old_parts_go_on(old_release: Settings) -> None:
    settings = old_release
    where = {"DARKROOM_DATABASE_URL": settings.database_url}
    before = ids(settings, "TRUE")
    assert len(before) == 48
    with Load(settings) as load:
        load.goes_on()
        refused = darkroom(settings.data_dir, "tasks", **where)
        assert refused.returncode == 2 and "is not up to date" in refused.stderr
        upgraded = darkroom(settings.data_dir, "migrate", **where)
        assert upgraded.returncode == 0, upgraded.stderr
        load.upgraded.set()
        load.goes_on()
        eventually(
            "the old worker has ended its tasks",
            lambda: len(load.acknowledged["completed"] + load.acknowledged["left"]) == 20,
        )
    assert f"applied {known_versions()[-1]}" in upgraded.stdout
    told = {name: set(each) for name, each in load.acknowledged.items()}
    assert ids(settings, "TRUE") == before | told["produced"]
    assert told["completed"] <= ids(settings, "status = 'completed' AND images IS NOT NULL")
    assert told["retried"] <= ids(settings, "status = 'pending' AND charge = 2")

    with files_of_old(settings), new_release(settings) as unfinished:
        try:
            eventually("the new release has ended everything", lambda: not unfinished())
        except AssertionError as late:
            raise AssertionError(f"still open, or not completed: {unfinished()}") from late
    assert ids(settings, "status = 'completed'") == before | told["produced"]
    assert (
        one_value(
            settings,
            """SELECT count(*) FROM account WHERE balance <> (SELECT coalesce(sum(amount), 0) FROM credit_entry
                WHERE credit_entry.user_openid = account.user_openid)""",
        )
        == 0
    )
    gaps = """SELECT count(*) FROM (SELECT count(*) AS n, max(seq) - min(seq) + 1 AS span
        FROM work_change GROUP BY user_openid) AS of_user WHERE n <> span"""
    assert one_value(settings, gaps) == 0


@contextlib.contextmanager
def files_of_old(settings: Settings) -> Iterator[None]:
    """The users' uploads lie where the old release has put them."""
    uploads = settings.data_dir / "files" / "uploads"
    uploads.mkdir(parents=True)
    for n in range(4):
        (uploads / f"o-{n}.jpg").write_bytes(ONE_PIXEL)
    yield


@contextlib.contextmanager
def new_release(settings: Settings) -> Iterator[Callable[[], list[Any]]]:
    """`darkroom up` on it; returns the tasks that are not completed, as (status, error, how many)."""
    with running_system(
        DATABASE_URL=settings.database_url,
        STORAGE_URL=f"file://{settings.data_dir}/files",
        LEASE_SECONDS="15",
        WORKER_PROCESSES="1",
        TASKS__photography__PROVIDER="instant",
        PROVIDERS__instant__KIND="python",
        PROVIDERS__instant__OPTIONS__class="tests.support.providers.instant_provider:InstantProvider",
        LIMITS__RUNNING_TASKS_PER_USER="0",
        CREDITS__ENABLED="false",
    ):
        yield lambda: rows(
            settings,
            "SELECT status, error, count(*) FROM task_queue WHERE status <> 'completed' GROUP BY status, error",
        )
