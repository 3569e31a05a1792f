"""What works through everybody's rows goes on beside those of a user that another program has locked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from actors.entry.claim_handlers import WORK
from actors.worker.worker import Worker
from config.settings import Settings
from config.storage import Retention
from supervisor.core.claim import Claim
from supervisor.core.errors import RowsLocked
from supervisor.database.postgres import transactions
from supervisor.objects.local_files import LocalFiles
from supervisor.objects.open_store import open_file_store
from supervisor.selection.task_filter import read_filter
from supervisor.services.bulk_action_runner import run_action
from supervisor.services.sweep import sweep
from supervisor.services.undelivered_claims import take_back
from supervisor.store.operators import bulk_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.sql.locks import unless_locked
from supervisor.store.sql.row_isolation import Aside
from supervisor.store.tasks import admission
from supervisor.store.tasks.remote_wait import Undelivered
from tests.conftest import Clock, Store, wait_until
from tests.support.databases import Plain, plain_connection

pytestmark = pytest.mark.postgresql_only
DAY = 86_400


@pytest.fixture
def other(settings: Settings) -> Iterator[Plain]:
    """A second connection of a producer, whose transaction stays open."""
    with contextlib.closing(plain_connection(settings)) as connection:
        connection.execute("BEGIN")
        yield connection


def _lock_account(other: Plain, user: str) -> None:
    other.execute("SELECT 1 FROM account WHERE user_openid = ? FOR UPDATE", (user,))


def _lock_task(other: Plain, task_id: str) -> None:
    other.execute("SELECT 1 FROM task_queue WHERE id = ? FOR UPDATE", (task_id,))


def test_a_batch_of_rescues_is_filled_with_rows_that_can_be_rescued(
    store: Store, other: Plain, claimed_task: Callable[..., Claim]
) -> None:
    for user in ("a-held", "a-held", "a-held", "b-held"):
        claimed_task(user)
    free = [claimed_task("c-free").task_id, claimed_task("d-free").task_id]
    _lock_account(other, "a-held")
    _lock_account(other, "b-held")
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    rescued = store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, most=2))
    assert [each.task_id for each in rescued] == free


def test_a_sweep_forgets_old_tasks_beside_locked_ones(
    store: Store, settings: Settings, other: Plain, clock: Clock, cancelled_task: Callable[..., str]
) -> None:
    of_account, of_row = cancelled_task("held"), cancelled_task("a")
    for user in ("b", "c"):
        cancelled_task(user)
    clock.advance(2 * DAY)
    _lock_account(other, "held")
    _lock_task(other, of_row)
    kept = settings.model_copy(update={"retention": Retention(task_days=1)})
    files = LocalFiles(settings.data_dir / "files")
    assert sweep(store.database, kept, files)["tasks_forgotten"] == 2
    assert {row["id"] for row in store.all("SELECT id FROM task_queue")} == {of_account, of_row}
    other.execute("ROLLBACK")
    assert sweep(store.database, kept, files)["tasks_forgotten"] == 2


def test_a_sweep_goes_on_where_a_row_of_a_plain_statement_is_locked(
    store: Store, settings: Settings, other: Plain, clock: Clock, cancelled_task: Callable[..., str]
) -> None:
    cancelled_task()
    clock.advance(settings.feed_retention_seconds + 2 * DAY)
    other.execute("SELECT 1 FROM work_change FOR UPDATE")
    kept = settings.model_copy(update={"retention": Retention(task_days=1)})
    counts = sweep(store.database, kept, LocalFiles(settings.data_dir / "files"))
    assert (counts["changes_pruned"], counts["tasks_forgotten"]) == (0, 1)


def _cancel_of_all(store: Store) -> str:
    """The id of an action on many tasks that is to be run."""
    ann = Operator("ann", "operator")
    wanted = read_filter({"type": "photography"}, "cancel")
    seen = store.database.read(lambda tx: bulk_actions.preview(tx, store.settings, "cancel", wanted))
    return str(store.write(lambda tx: bulk_actions.start(tx, ann, "cancel", seen))["id"])


def test_an_action_on_many_tasks_leaves_out_locked_ones_with_their_reason(
    store: Store,
    other: Plain,
    monkeypatch: pytest.MonkeyPatch,
    admitted_task: Callable[..., str],
) -> None:
    monkeypatch.setattr(transactions, "LOCKED_SECONDS", 0.5)
    for user in ("held", "held", "a", "b", "c"):
        admitted_task(user)
    bulk_id = _cancel_of_all(store)
    _lock_account(other, "held")
    run_action(store.database, store.settings, bulk_id, threading.Event())
    ended = store.database.read(lambda tx: bulk_actions.get(tx, bulk_id))
    assert (ended["state"], ended["done"], ended["refused"], ended["passed"]) == ("done", 3, 2, 0)
    assert [(each["reason"], each["count"]) for each in ended["reasons"]] == [("rows_locked", 2)]


def test_an_action_on_many_tasks_waits_for_a_task_that_is_locked_for_a_moment(
    store: Store, other: Plain, admitted_task: Callable[..., str]
) -> None:
    for user in ("held", "a"):
        admitted_task(user)
    bulk_id = _cancel_of_all(store)
    _lock_account(other, "held")
    running = threading.Thread(
        target=run_action, args=(store.database, store.settings, bulk_id, threading.Event())
    )
    running.start()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with contextlib.closing(plain_connection(store.settings)) as asking:
        wait_until(lambda: asking.execute(waits).fetchone() == (1,), "it waits")
    other.execute("ROLLBACK")
    running.join()
    ended = store.database.read(lambda tx: bulk_actions.get(tx, bulk_id))
    assert (ended["done"], ended["refused"]) == (2, 0)


def test_claims_of_a_dead_worker_are_taken_back_beside_a_locked_one(
    store: Store, other: Plain, claimed_task: Callable[..., Claim]
) -> None:
    of_row, of_account, free = claimed_task("a"), claimed_task("b"), claimed_task("c")
    _lock_task(other, of_row.task_id)
    _lock_account(other, "b")
    sent = [Undelivered(each.task_id, each.lease, "worker-1") for each in (of_row, of_account, free)]
    lists: Any = SimpleNamespace(take=lambda *_, **__: sent, forget=lambda _: None)
    take_back(store.database, lists, "worker-1", popped=False)
    assert store.task(free.task_id)["status"] == "pending"


async def test_a_heartbeat_gives_strays_back_beside_a_locked_one(
    store: Store, other: Plain, live_worker: Callable[..., str], claimed_task: Callable[..., Claim]
) -> None:
    worker: Any = Worker(store.settings, None, store.database, open_file_store(store.settings), WORK)  # type: ignore[arg-type]
    worker.id = live_worker()
    locked, begun, free = claimed_task("a"), claimed_task("b"), claimed_task("c")
    for each in (begun, free):
        worker.begun.enter(each.task_id, each.lease)
    _lock_task(other, locked.task_id)
    _lock_account(other, "b")
    beats = "SELECT beat FROM worker WHERE id = ?"
    for _ in range(3):
        await worker.beat()
    assert store.value(beats, worker.id) == 3
    assert store.task(free.task_id)["status"] == "pending"
    await worker.images.close()


def test_a_locked_row_is_not_rejected_when_care_is_taken(
    store: Store, other: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be failed with a refund, and nothing is wrong with it."""
    for user in ("a", "b"):
        store.write(
            lambda tx, u=user: tx.execute(
                "INSERT INTO task_queue (user_openid, type, params) VALUES (?, 'photography', ?)",
                u, '{"images":["https://example.org/p.jpg"]}',
            )
        )  # fmt: skip
    locked = store.value("SELECT id FROM task_queue WHERE user_openid = 'a'")
    admit = admission._admit_or_reject

    def meeting_a_lock(tx: Any, settings: Settings, rows: Any, known: Any = None) -> Any:
        if any(row["id"] == locked for row in rows):
            tx.execute("SELECT 1 FROM rule FOR UPDATE NOWAIT")
        return admit(tx, settings, rows, known)

    monkeypatch.setattr(admission, "_admit_or_reject", meeting_a_lock)
    other.execute("SELECT 1 FROM rule FOR UPDATE")
    aside = Aside(is_careful=True)
    store.write(lambda tx: admission.admit_waiting(tx, store.settings, 100, aside).get())
    assert [(each.row_id, each.is_locked) for each in aside.refused] == [(locked, True)]
    other.execute("ROLLBACK")
    assert store.admit_waiting() == 1
    assert store.value("SELECT count(*) FROM task_queue WHERE status = 'pending'") == 2


def test_what_is_tried_beside_a_lock_leaves_the_patience_of_its_transaction_as_it_was(
    store: Store, other: Plain
) -> None:
    other.execute("INSERT INTO account (user_openid) VALUES ('new')")
    asked = "SELECT current_setting('lock_timeout')"

    def try_both(tx: Any) -> list[Any]:
        before = tx.value(asked)
        done = [
            unless_locked(
                tx, lambda u=user: tx.execute("INSERT INTO account (user_openid) VALUES (:user)", user=u)
            )
            for user in ("new", "free")
        ]
        return [*done, tx.value(asked) == before]

    assert store.database.write_now(try_both) == [False, True, True]
    with pytest.raises(RowsLocked):
        store.database.write_now(
            lambda tx: tx.execute("INSERT INTO account (user_openid) VALUES ('new')"),
            lock_seconds=0.01,
        )
