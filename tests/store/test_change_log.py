"""The change log: every change that a user can see, once, in commit order, without a gap."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import WorkNotFound
from supervisor.store.feed import changes, works
from supervisor.store.feed.changes import Change
from supervisor.store.ledger import credits
from supervisor.store.queue import wake_counters, workers
from supervisor.store.tasks import claims, user_actions
from tests.conftest import PARAMS, Clock, Store, processes, wait_until
from tests.support.databases import Plain, is_postgres, open_quickly, plain_connection
from tests.support.workers import report_progress

DOC = {
    "_id", "task_id", "user_openid", "type", "status", "stage", "progress", "images", "outputs", "error", "created_at",
    "updated_at",
}  # fmt: skip


def _changes(store: Store, user: str = "o-1") -> list[Change]:
    return store.database.read(lambda tx: changes.after(tx, user, 0))


def _wakes(store: Store) -> wake_counters.Wakes:
    return store.database.read(wake_counters.read)


def test_a_tasks_life_is_logged_in_full_documents(store: Store, completed_task: Callable[..., str]) -> None:
    task_id = completed_task()
    told = _changes(store)
    assert [(each.data_type, each.queue_type) for each in told] == [
        ("add", "enqueue"), ("update", "update"), ("update", "update")
    ]  # fmt: skip
    assert [each.doc["status"] for each in told] == ["pending", "processing", "completed"]
    work = store.work(task_id)
    for each in told:
        assert set(each.doc) == DOC
        assert each.doc["task_id"] == task_id and each.doc_id == each.doc["_id"] == work["id"]
    assert told[0].updated_fields is None
    assert told[2].updated_fields == {
        "status": "completed", "stage": "done", "progress": 100,
        "images": [{"key": f"results/{task_id}.jpg", "width": 4, "height": 3}],
    }  # fmt: skip
    assert told[2].doc["images"] == json.loads(work["images"])


def test_a_field_that_becomes_null_is_logged_as_null(store: Store, failed_task: Callable[..., str]) -> None:
    task_id = failed_task()
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, task_id))
    fields = [each.updated_fields for each in _changes(store)]
    assert {"error": None}.items() <= (fields[-1] or {}).items()


def test_seq_counts_each_users_changes_without_a_gap(
    store: Store, completed_task: Callable[..., str], failed_task: Callable[..., str]
) -> None:
    for user in ("o-1", "o-2", "o-1", "o-3", "o-2"):
        completed_task(user)
    failed_task("o-2")
    for user in ("o-1", "o-2", "o-3"):
        told = _changes(store, user)
        assert [each.seq for each in told] == list(range(1, len(told) + 1))
        state = store.database.read(lambda tx, user=user: changes.feed_state(tx, user))
        assert state is not None and (state.seq, state.oldest) == (len(told), 1)
        assert {each.epoch for each in told} == {state.epoch} and "-" not in state.epoch
    assert len({_changes(store, user)[0].epoch for user in ("o-1", "o-2", "o-3")}) == 3


def _write_many(settings: Settings, users: int, each: int) -> None:
    """In a process of its own: submit and cancel for every user in turn, some steps of a batch failing."""
    database = open_quickly(settings)
    waiting = []
    for n in range(each * users):
        new = user_actions.NewTask(f"o-{n % users}", "photography", PARAMS)

        def submit_and_cancel(tx: Any, new: Any = new, fails: bool = n % 3 == 0) -> None:
            view = user_actions.submit(tx, settings, new)
            user_actions.cancel(tx, view["task_id"])
            if fails:
                raise RuntimeError("this step is taken back")

        waiting.append(database.write(submit_and_cancel))
    for future in waiting:
        future.exception(timeout=60)
    database.close()


def test_seq_has_no_gap_and_follows_commit_order_under_concurrent_writers(store: Store) -> None:
    """Three processes, a third of whose steps roll back."""
    users, each = 4, 15
    with processes(3) as pool:
        for done in [pool.submit(_write_many, store.settings, users, each) for _ in range(3)]:
            done.result(timeout=60)
    order = (
        "seq" if is_postgres(store.settings) else "log_id"
    )  # only there is the log's own order that of commits
    for n in range(users):
        rows = store.all(f"SELECT seq FROM work_change WHERE user_openid = ? ORDER BY {order}", f"o-{n}")
        seqs = [row["seq"] for row in rows]
        assert len(seqs) >= 3 * each and seqs == list(range(1, len(seqs) + 1))
        assert store.value("SELECT seq FROM account WHERE user_openid = ?", f"o-{n}") == len(seqs)


def test_a_step_that_fails_leaves_no_change(store: Store, admitted_task: Callable[..., str]) -> None:
    task_id = admitted_task()
    before = _changes(store), _wakes(store)

    def fail(tx: Any) -> None:
        user_actions.cancel(tx, task_id)
        raise RuntimeError("after the cancel")

    with pytest.raises(RuntimeError):
        store.write(fail)
    assert (_changes(store), _wakes(store)) == before


def test_only_what_a_user_can_see_makes_a_change(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    task_id = admitted_task()
    live_worker()
    count = len(_changes(store))
    store.write(lambda tx: workers.beat(tx, "worker-1", 0))
    assert len(_changes(store)) == count
    (claim,) = store.dispatch()
    assert len(_changes(store)) == count + 1
    store.write(lambda tx: claims.mark_begun(tx, [claims.Begun(task_id, claim.lease, 1.0, 630.0)]))
    assert len(_changes(store)) == count + 1
    for _ in range(3):  # the same progress again is no news
        store.write(lambda tx: report_progress(tx, task_id, claim.lease, 40, "printing"))
    assert len(_changes(store)) == count + 2


def test_an_attempt_makes_at_most_a_change_a_percent_and_progress_never_falls(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    before = len(_changes(store))
    for percent in [*range(300), 50, 10, 0]:
        store.write(
            lambda tx, percent=percent: report_progress(tx, claim.task_id, claim.lease, percent, "starting")
        )
    shown = [each.doc["progress"] for each in _changes(store)[before:]]
    assert shown == list(range(1, 100))


def test_progress_is_0_after_a_return_to_pending(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    store.write(lambda tx: report_progress(tx, claim.task_id, claim.lease, 60, "printing"))
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 2.0))
    last = _changes(store)[-1].doc
    assert (last["status"], last["progress"], last["stage"]) == ("pending", 0, "queued")


def test_a_rejected_row_has_its_work_shown_failed(store: Store, pending_task: Callable[..., str]) -> None:
    pending_task(params="{}")
    store.admit_waiting()
    (told,) = _changes(store)
    assert (told.data_type, told.doc["status"], told.doc["error"]["code"]) == ("add", "failed", "bad_params")


def test_deleting_a_work_logs_its_last_document(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    work = store.work(claim.task_id)
    with pytest.raises(WorkNotFound):
        store.write(lambda tx: works.delete(tx, work["id"], "somebody else"))
    store.write(lambda tx: works.delete(tx, work["id"], "o-1"))
    *_, cancelled, removed = _changes(store)
    assert (cancelled.data_type, cancelled.doc["status"]) == ("update", "cancelled")
    assert (removed.data_type, removed.queue_type, removed.doc) == ("remove", "dequeue", cancelled.doc)
    assert store.entries(claim.task_id)[-1] == (1, "refund", 1)


def test_documents_hold_keys_and_never_links(store: Store, completed_task: Callable[..., str]) -> None:
    completed_task()
    told = store.all("SELECT doc FROM work_change UNION ALL SELECT images FROM works")
    assert len(told) == 4
    for row in told:
        assert "http" not in row["doc"] and "sig=" not in row["doc"]


@pytest.mark.sqlite_only
def test_the_tail_of_the_log_has_all_users_changes_in_commit_order(
    store: Store, admitted_task: Callable[..., str], clock: Clock
) -> None:
    for user in ("o-1", "o-2", "o-1"):
        admitted_task(user)
    told = store.database.read(lambda tx: changes.tail(tx, 0))
    assert [(each.user, each.seq) for each in told] == [("o-1", 1), ("o-2", 1), ("o-1", 2)]
    assert [each.log_id for each in told] == [1, 2, 3] and store.database.read(changes.end_of_log) == 3
    assert store.database.read(lambda tx: changes.tail(tx, 2)) == told[2:]
    clock.advance(4000)
    assert store.write(lambda tx: changes.prune(tx, 3600, 2)) == 2
    assert store.write(lambda tx: changes.prune(tx, 3600, 2)) == 1
    assert store.database.read(changes.end_of_log) == 3
    admitted_task("o-2")
    assert [each.log_id for each in store.database.read(lambda tx: changes.tail(tx, 3))] == [4]


@pytest.mark.postgresql_only
def test_several_users_changes_are_read_at_once_each_from_its_own_place(
    store: Store, admitted_task: Callable[..., str]
) -> None:
    for user in ("o-1", "o-2", "o-1", "o-3", "o-1"):
        admitted_task(user)

    def after(places: dict[str, int | None], limit: int = 1000) -> list[tuple[str, int]]:
        told = store.database.glance(lambda tx: changes.after_each(tx, places, limit))
        return [(each.user, each.seq) for each in told if isinstance(each, Change)]

    assert after({"o-1": 1, "o-2": 0}) == [("o-1", 2), ("o-1", 3), ("o-2", 1)]
    assert after({"o-1": 1, "o-2": 0}, 1) == [("o-1", 2)]
    assert after({"o-1": None, "o-2": 1, "never seen": None}) == [("o-1", 3)], (
        "of a new listener the newest only"
    )
    with contextlib.closing(plain_connection(store.settings)) as plain:
        plain.execute("DELETE FROM work_change WHERE user_openid <> 'o-2'")
    found = store.database.glance(lambda tx: changes.after_each(tx, {"o-1": 2, "o-2": 1, "o-3": None}))
    assert found == [changes.Lost("o-1", 3), changes.Lost("o-3", 1)], "what should have been there"


def test_pruning_keeps_seq_and_reports_the_oldest_left(
    store: Store, admitted_task: Callable[..., str], clock: Clock
) -> None:
    admitted_task()
    clock.advance(4000)
    admitted_task()
    store.write(lambda tx: changes.prune(tx, 3600, 100))
    state = store.database.read(lambda tx: changes.feed_state(tx, "o-1"))
    assert state is not None and (state.seq, state.oldest) == (2, 2)
    clock.advance(4000)
    store.write(lambda tx: changes.prune(tx, 3600, 100))
    emptied = store.database.read(lambda tx: changes.feed_state(tx, "o-1"))
    assert emptied is not None and (emptied.epoch, emptied.seq, emptied.oldest) == (state.epoch, 2, None)
    assert store.database.read(lambda tx: changes.feed_state(tx, "never seen")) is None


def _kept(store: Store, user: str = "o-1") -> list[int]:
    rows = store.all("SELECT seq FROM work_change WHERE user_openid = ? ORDER BY seq", user)
    return [row["seq"] for row in rows]


def test_pruning_leaves_no_hole_when_the_clock_was_set_back_between_changes(
    store: Store, admitted_task: Callable[..., str], clock: Clock
) -> None:
    clock.advance(60)
    admitted_task()
    clock.advance(-30)
    admitted_task()
    clock.advance(30)
    admitted_task()
    clock.advance(3600 - 15)  # by their times, the second is due and the first is not
    assert store.write(lambda tx: changes.prune(tx, 3600, 100)) == 2
    assert _kept(store) == [3]


def test_pruning_in_batches_leaves_no_hole_at_any_moment(
    store: Store, admitted_task: Callable[..., str], clock: Clock
) -> None:
    for step in (50, -40, 30, -20, 10, -5):
        clock.advance(step)
        for user in ("o-1", "o-2"):
            admitted_task(user)
    clock.advance(3600 - 10)  # by their times, only the second of each is due
    while store.write(lambda tx: changes.prune(tx, 3600, 1)):
        for user in ("o-1", "o-2"):
            assert _kept(store, user) == list(range(7 - len(_kept(store, user)), 7))
    assert len(_kept(store)) < 6


@pytest.mark.parametrize("ahead", [7200, 400 * 86_400])
def test_changes_of_a_clock_that_was_ahead_are_kept_no_longer_than_others(
    store: Store, admitted_task: Callable[..., str], clock: Clock, ahead: int
) -> None:
    clock.advance(ahead)
    admitted_task()
    clock.advance(-ahead)
    assert store.write(lambda tx: changes.prune(tx, 3600, 100)) == 0, "they are new"
    clock.advance(3601)
    assert store.write(lambda tx: changes.prune(tx, 3600, 100)) == 1


@pytest.mark.postgresql_only
def test_transactions_of_a_user_side_by_side_leave_no_hole_to_pruning(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    """The one that commits later has read the clock earlier, before it waited for the account."""
    one, other = claimed_task(), claimed_task()
    begin = len(_changes(store))
    is_locked, may_go_on = threading.Event(), threading.Event()

    def slow(tx: Any) -> None:  # as a submission does: the account first, then what makes changes
        tx.value("SELECT 1 FROM account WHERE user_openid = 'o-1' FOR UPDATE")
        is_locked.set()
        may_go_on.wait(60)
        report_progress(tx, one.task_id, one.lease, 11, "starting")

    def report(tx: Any) -> None:
        report_progress(tx, other.task_id, other.lease, 22, "starting")

    first = store.database.write(slow)
    assert is_locked.wait(30)
    second = store.database.write(report)
    waiting = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    wait_until(lambda: store.value(waiting), "the second waits for the account")
    clock.advance(120)
    may_go_on.set()
    first.result(30), second.result(30)
    early, late = (datetime.fromisoformat(each.created_at) for each in _changes(store)[begin:])
    assert early > late, "the schedule of this test"
    age = (clock.now() - late).total_seconds() - 60  # the second is due, the first is not
    store.write(lambda tx: changes.prune(tx, age, 100))
    assert _kept(store) == []


def test_a_snapshot_is_of_one_moment_with_its_seq(store: Store, admitted_task: Callable[..., str]) -> None:
    """A writer commits between the two statements of the snapshot; neither may see it."""
    store.write(lambda tx: credits.ensure_account(tx, "o-1"))
    first = admitted_task()
    wrote = []

    class Meddled:
        """A transaction beside which another connection commits after the first statement."""

        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def one(self, sql: str, **named: Any) -> Any:
            row = self._tx.one(sql, **named)
            wrote.append(store.write(lambda tx: user_actions.cancel(tx, first)))
            return row

        def all(self, sql: str, **named: Any) -> Any:
            return self._tx.all(sql, **named)

    seen = store.database.read(lambda tx: changes.snapshot(Meddled(tx), "o-1"))  # type: ignore[arg-type]
    assert wrote and wrote[0]["status"] == "cancelled"
    assert (seen.seq, [work["status"] for work in seen.works]) == (1, ["pending"])
    told = store.database.read(lambda tx: changes.after(tx, "o-1", seen.seq))
    assert [each.doc["status"] for each in told] == ["cancelled"]
    later = store.database.read(lambda tx: changes.snapshot(tx, "o-1"))
    assert (later.seq, [work["status"] for work in later.works]) == (2, ["cancelled"])


def test_a_snapshot_and_what_follows_it_give_the_works_as_they_are(
    store: Store, completed_task: Callable[..., str], failed_task: Callable[..., str]
) -> None:
    completed_task()
    snapshot = store.database.read(lambda tx: changes.snapshot(tx, "o-1"))
    shown = {work["_id"]: work for work in snapshot.works}
    failed = failed_task()
    store.write(lambda tx: works.delete(tx, snapshot.works[0]["_id"], "o-1"))
    for each in store.database.read(lambda tx: changes.after(tx, "o-1", snapshot.seq)):
        if each.data_type == "remove":
            del shown[each.doc_id]
        else:
            assert each.data_type == "add" or {**shown[each.doc_id], **(each.updated_fields or {})} == {
                **each.doc, "updated_at": shown[each.doc_id]["updated_at"]
            }  # fmt: skip
            shown[each.doc_id] = each.doc
    assert [work["task_id"] for work in shown.values()] == [failed]
    assert list(shown.values()) == store.database.read(lambda tx: changes.snapshot(tx, "o-1")).works


def test_a_snapshot_holds_the_newest_hundred(store: Store, producer: Plain) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
            INSERT INTO task_queue (user_openid, type, params) SELECT 'o-1', 'photography', '{}' FROM n"""
    )
    store.admit_waiting()
    snapshot = store.database.read(lambda tx: changes.snapshot(tx, "o-1"))
    assert len(snapshot.works) == 100 and snapshot.seq == 120
    newest = store.all("SELECT id FROM works ORDER BY created_at DESC, id DESC LIMIT 100")
    assert [work["_id"] for work in snapshot.works] == [row["id"] for row in newest]


# --- the wake counters ---


@pytest.mark.sqlite_only
def test_the_wake_counters_rise_only_with_steps_that_matter(
    store: Store,
    admitted_task: Callable[..., str],
    pending_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:
    seen = _wakes(store)

    def rose(what: str, *, dispatch: bool, feed: bool) -> None:
        nonlocal seen
        now = _wakes(store)
        assert (now.dispatch > seen.dispatch, now.feed > seen.feed) == (dispatch, feed), what
        seen = now

    live_worker()
    rose("a worker has registered", dispatch=True, feed=False)
    pending_task("o-2")
    rose("plain SQL has written a task", dispatch=True, feed=False)
    task_id = admitted_task()
    rose("a task was submitted", dispatch=True, feed=True)
    (claim,) = store.dispatch()
    rose("a task was claimed", dispatch=False, feed=True)
    store.write(lambda tx: workers.beat(tx, "worker-1", 1))
    rose("a heartbeat", dispatch=False, feed=False)
    store.write(lambda tx: report_progress(tx, task_id, claim.lease, 50, "printing"))
    rose("progress", dispatch=False, feed=True)
    store.write(lambda tx: report_progress(tx, task_id, claim.lease, 50, "printing"))
    rose("the same progress", dispatch=False, feed=False)
    store.write(lambda tx: claims.retry(tx, task_id, claim.lease, 5.0))
    rose("a slot is free and a due time is new", dispatch=True, feed=True)
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    rose("a task was cancelled", dispatch=True, feed=True)
    store.write(lambda tx: workers.beat(tx, "worker-1", 0))
    rose("a thread has become free", dispatch=True, feed=False)
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    rose("a worker was marked dead", dispatch=True, feed=False)
    store.write(lambda tx: credits.grant(tx, "o-1", 5, "x"))
    rose("credits were granted", dispatch=False, feed=False)
