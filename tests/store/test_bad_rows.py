"""One bad row stops no other: a row that the database refuses is reported and skipped."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import peewee
import psycopg
import pytest
from structlog.testing import capture_logs

from actors.broker.broker import DarkroomBroker
from actors.dispatcher.dispatcher import TICK_SECONDS, Dispatcher
from supervisor.broker.claim_lists import ClaimLists
from supervisor.core.claim import Claim
from supervisor.core.placement import Room
from supervisor.database.open_wakeups import dispatch_wakeups
from supervisor.objects.open_store import open_file_store
from supervisor.services.sweep import sweep
from supervisor.store.queue import dispatch, workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.retention import ageing
from supervisor.store.sql.refused_rows import AGAIN_SECONDS, TELL_AGAIN_SECONDS, Refusals
from supervisor.store.sql.row_isolation import Aside, Refused, apart, is_about_a_row
from supervisor.store.tasks import remote_wait, user_actions
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries
from tests.conftest import PARAMS, Clock, Store, wait_until
from tests.support.databases import is_postgres
from tests.support.quiet_broker import QuietBroker

DAY = 86_400
HOOK = "https://app.example.org/hooks/darkroom"
SAYS = "another row needs this row unchanged"


def forbid(store: Store, table: str, condition: str, *, when: str = "UPDATE") -> None:
    """A guard of an app's own, in the database that it shares with us.  condition: over `old`, the row."""
    if not is_postgres(store.settings):
        store.write(
            lambda tx: tx.execute(
                f"""CREATE TRIGGER app_guard BEFORE {when} ON {table} WHEN {condition.replace("old.", "OLD.")}
                BEGIN SELECT RAISE(ABORT, '{SAYS}'); END"""
            )
        )
        return
    store.write(
        lambda tx: tx.execute(
            f"""CREATE FUNCTION app_guard() RETURNS trigger LANGUAGE plpgsql AS
            $body$ BEGIN RAISE EXCEPTION '{SAYS}'; END $body$"""
        )
    )
    store.write(
        lambda tx: tx.execute(
            f"""CREATE TRIGGER app_guard BEFORE {when} ON {table} FOR EACH ROW WHEN ({condition})
            EXECUTE FUNCTION app_guard()"""
        )
    )


@pytest.fixture
def broker() -> QuietBroker:
    return QuietBroker()


@pytest.fixture
def dispatcher(store: Store, broker: QuietBroker) -> Iterator[Dispatcher]:
    made = Dispatcher(
        store.settings,
        store.database,
        cast(DarkroomBroker, broker),
        dispatch_wakeups(store.database, store.settings),
        cast(ClaimLists, broker),
    )
    yield made
    made.sender.close()


def turns_until(dispatcher: Dispatcher, condition: Callable[[], bool], what: str) -> None:
    def turned() -> bool:
        dispatcher.run_once()
        return condition()

    wait_until(turned, what)


def refusals(lines: list[Any]) -> list[tuple[str, str, int]]:
    return [(line["kind"], line["id"], line["times"]) for line in lines if line["event"] == "row_refused"]


# --- rescue ---


def test_a_task_that_cannot_end_keeps_no_other_from_rescue(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    held = [claimed_task(user) for user in "abcde"]
    bad = held[2].task_id
    forbid(store, "task_queue", f"old.id = '{bad}'")
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    aside = Aside()
    rescued = store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, aside=aside))
    assert [each.task_id for each in rescued] == [claim.task_id for claim in held if claim.task_id != bad]
    assert [(each.what, each.row_id) for each in aside.refused] == [("task_queue", bad)]
    assert SAYS in aside.refused[0].reason
    assert [store.task(claim.task_id)["deaths"] for claim in held] == [1, 1, 0, 1, 1]
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == 5


def test_expiry_leaves_a_bad_row_and_refunds_the_others(
    store: Store, clock: Clock, admitted_task: Callable[..., str]
) -> None:
    waiting = [admitted_task(user) for user in "abc"]
    forbid(store, "task_queue", f"old.id = '{waiting[0]}'")
    clock.advance(90_000)
    with capture_logs() as lines:
        counts = sweep(store.database, store.settings, open_file_store(store.settings))
    assert counts["failed"] == 2
    assert [store.task(task_id)["status"] for task_id in waiting] == ["pending", "failed", "failed"]
    assert [store.entries(task_id)[-1][1] for task_id in waiting] == ["debit", "refund", "refund"]
    assert refusals(lines) == [("task_queue", waiting[0], 1)]
    assert store.value("SELECT count(*) FROM work_change") > 0


def test_more_bad_rows_than_a_batch_holds_stop_no_sweep(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, claimed_task: Callable[..., Claim]
) -> None:
    monkeypatch.setattr(
        stuck_tasks.rescue, "__kwdefaults__", {**stuck_tasks.rescue.__kwdefaults__, "most": 2}
    )
    bad = [claimed_task(f"a{n}").task_id for n in range(5)]
    good = claimed_task("b").task_id
    forbid(store, "task_queue", "old.user_openid LIKE 'a%'")
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    with capture_logs() as lines:
        counts = sweep(store.database, store.settings, open_file_store(store.settings))
    assert counts["released"] == 1 and store.task(good)["status"] == "pending"
    assert sorted(refusals(lines)) == sorted(("task_queue", task_id, 1) for task_id in bad)


def test_the_dispatcher_continues_beside_a_bad_row_and_names_it_once(
    store: Store, dispatcher: Dispatcher, broker: QuietBroker, claimed_task: Callable[..., Claim],
    live_worker: Callable[..., str],
) -> None:  # fmt: skip
    bad, good = claimed_task("a"), claimed_task("b")
    forbid(store, "task_queue", f"old.id = '{bad.task_id}'")
    live_worker("worker-2")
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    with capture_logs() as lines:
        turns_until(dispatcher, lambda: len(broker.messages) == 1, "the good task goes out again")
        for _ in range(5):
            dispatcher.run_once()
    assert broker.messages[0]["id"] == good.task_id
    assert refusals(lines) == [("task_queue", bad.task_id, 1)], "five rounds, one line"
    assert not [line for line in lines if line["event"] == "dispatch_failed"]


# --- admission and dispatch ---


def test_a_row_that_can_be_neither_admitted_nor_failed_stops_no_admission(
    store: Store, pending_task: Callable[..., str], dispatcher: Dispatcher, live_worker: Callable[..., str],
    broker: QuietBroker,
) -> None:  # fmt: skip
    live_worker()
    rows = [pending_task(user) for user in "abc"]
    forbid(store, "task_queue", f"old.id = '{rows[1]}'")
    with capture_logs() as lines:
        turns_until(dispatcher, lambda: len(broker.messages) == 2, "the other two go out")
    assert [store.task(task_id)["admitted_charge"] for task_id in rows] == [1, 0, 1]
    assert refusals(lines) == [("task_queue", rows[1], 1)]
    assert store.entries(rows[1]) == []


@pytest.mark.parametrize("stand", ["to be picked", "to be polled", "to be made ready"])
def test_a_row_that_cannot_be_marked_stops_no_dispatch(
    stand: str, store: Store, clock: Clock, dispatcher: Dispatcher, broker: QuietBroker,
    admitted_task: Callable[..., str], handed_off_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:  # fmt: skip
    live_worker()
    later = clock.now().replace(year=clock.now().year + 1).strftime("%Y-%m-%dT00:00:00.000Z")
    make: Callable[[str], str] = {
        "to be picked": lambda user: admitted_task(user),
        "to be polled": lambda user: handed_off_task(user),
        "to be made ready": lambda user: admitted_task(user, run_after=later),
    }[stand]
    bad, good = make("a"), make("b")
    forbid(store, "task_queue", f"old.id = '{bad}'")
    clock.advance({"to be made ready": 366 * DAY}.get(stand, 0))
    if stand == "to be made ready":
        store.write(lambda tx: tx.execute("UPDATE task_queue SET expires_at = NULL WHERE id = ?", good))
    with capture_logs() as lines:
        turns_until(dispatcher, lambda: bool(broker.messages), "the good one goes out")
    assert good in json.dumps(broker.messages)
    assert bad not in json.dumps(broker.messages)
    assert refusals(lines) == [("task_queue", bad, 1)]


@pytest.mark.parametrize("stand", ["to be polled", "to be made ready"])
def test_a_due_row_that_cannot_be_marked_is_tried_once_a_tick(
    stand: str, store: Store, clock: Clock, dispatcher: Dispatcher, admitted_task: Callable[..., str],
    handed_off_task: Callable[..., str], live_worker: Callable[..., str],
) -> None:  # fmt: skip
    """It is due at every moment, and asked for at every moment it would take a core."""
    bad = _due_soon(stand, store, clock, admitted_task, handed_off_task, live_worker)
    forbid(store, "task_queue", f"old.id = '{bad}'")
    clock.advance(31)
    dispatcher.run_once()  # which finds the refusal
    assert [dispatcher.run_once() for _ in range(5)] == [TICK_SECONDS] * 5


@pytest.mark.postgresql_only
@pytest.mark.parametrize("stand", ["to be polled", "to be made ready"])
def test_a_due_row_locked_by_another_session_is_tried_once_a_tick(
    stand: str, store: Store, clock: Clock, dispatcher: Dispatcher, admitted_task: Callable[..., str],
    handed_off_task: Callable[..., str], live_worker: Callable[..., str],
) -> None:  # fmt: skip
    """An operator's psql that has begun a transaction, for instance."""
    held = _due_soon(stand, store, clock, admitted_task, handed_off_task, live_worker)
    clock.advance(31)
    with psycopg.connect(store.settings.database_url) as other:
        other.execute("SELECT 1 FROM task_queue WHERE id = %s FOR UPDATE", (held,))
        dispatcher.run_once()
        assert [dispatcher.run_once() for _ in range(5)] == [TICK_SECONDS] * 5
    dispatcher.run_once()
    assert store.database.read(lambda tx: dispatch.seconds_to_next_due(tx).get()) != 0.0, (
        "it is done as soon as it is let go"
    )


def _due_soon(
    stand: str, store: Store, clock: Clock, admitted_task: Callable[..., str],
    handed_off_task: Callable[..., str], live_worker: Callable[..., str],
) -> str:  # fmt: skip
    """A task that is due by time alone within half a minute."""
    live_worker()
    if stand == "to be polled":
        return handed_off_task(poll_in_seconds=30)
    soon = clock.now() + datetime.timedelta(seconds=30)
    return admitted_task(run_after=soon.strftime("%Y-%m-%dT%H:%M:%S.000Z"))


def test_a_row_that_cannot_be_claimed_keeps_none_of_its_batch_from_being_polled(
    store: Store, handed_off_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    polled = [handed_off_task(user, poll_in_seconds=0) for user in "abc"]
    forbid(store, "task_queue", f"old.id = '{polled[1]}'")
    aside = Aside(is_careful=True)
    claimed = store.write(
        lambda tx: remote_wait.claim_due_polls(tx, [Room("worker-1", 10)], lambda *_: 300.0, aside)
    )
    assert sorted(claim["id"] for claim in claimed) == sorted([polled[0], polled[2]])
    assert [(each.what, each.row_id) for each in aside.refused] == [("task_queue", polled[1])]
    assert store.task(polled[1])["questions"] == 0


# --- pruning ---


def test_a_task_still_in_use_stops_no_pruning(
    store: Store, clock: Clock, completed_task: Callable[..., str]
) -> None:
    done = [completed_task(user) for user in "abc"]
    forbid(store, "task_queue", f"old.id = '{done[0]}'", when="DELETE")
    clock.advance(10)
    found = Aside()
    forget = ageing.forget_finished_tasks
    assert store.write(lambda tx: forget(tx, "photography", 1, 1, found)) == 0
    assert [each.row_id for each in found.refused] == [done[0]]
    aside = Aside(passing=[done[0]])
    assert store.write(lambda tx: forget(tx, "photography", 1, 1, aside)) == 1
    assert store.write(lambda tx: forget(tx, "photography", 1, 5, Aside())) == 1
    assert store.value("SELECT id FROM task_queue") == done[0]
    assert store.work(done[0])["status"] == "completed", "nothing of it was deleted"


@pytest.mark.parametrize("table", ["task_event", "idempotency_key", "webhook_delivery"])
def test_a_table_that_refuses_stops_no_other_kind_of_pruning(
    table: str, store: Store, clock: Clock, completed_task: Callable[..., str]
) -> None:
    for user in ("a", "b"):
        task_id = completed_task(user)
        store.write(lambda tx, task_id=task_id: _remember(tx, task_id))
    forbid(store, table, "1 = 1", when="DELETE")
    clock.advance(400 * DAY)
    with capture_logs() as lines:
        counts = sweep(store.database, store.settings, open_file_store(store.settings))
    names = {"task_event": "events", "idempotency_key": "keys", "webhook_delivery": "webhooks"}
    pruned = {name: counts[f"{name}_pruned"] for name in names.values()}
    assert pruned.pop(names[table]) == 0
    assert all(pruned.values()), pruned
    assert counts["changes_pruned"] > 0
    assert {kind for kind, _, _ in refusals(lines)} == {table}


def _remember(tx: Any, task_id: str) -> None:
    tx.execute(
        """INSERT INTO idempotency_key (user_openid, method, path, key, body_hash, task_id)
            VALUES (?, 'POST', '/', 'k', 'h', ?)""",
        task_id, task_id,
    )  # fmt: skip
    tx.execute(
        f"""INSERT INTO webhook_delivery (id, task_id, charge, user_openid, url, type, data, state, due_at, ended_at)
            VALUES (?, ?, 1, 'a', ?, 'task.completed', '{{}}', 'delivered', {tx.now}, {tx.now})""",
        f"msg_{task_id}_9", task_id, HOOK,
    )  # fmt: skip


# --- webhooks ---


def test_a_delivery_that_cannot_be_read_keeps_none_of_its_batch_from_being_sent(store: Store) -> None:
    for user in "abc":
        new = NewTask(user, "photography", PARAMS, webhook=HOOK)
        task_id = str(
            store.write(lambda tx, new=new: user_actions.submit(tx, store.settings, new))["task_id"]
        )
        store.write(lambda tx, task_id=task_id: user_actions.cancel(tx, task_id))
    hints = store.write(lambda tx: deliveries.due(tx).get())
    store.write(lambda tx: tx.execute("UPDATE webhook_delivery SET data = '[]' WHERE id = ?", hints[1].id))
    aside = Aside()
    taken = store.write(lambda tx: deliveries.claim(tx, hints, aside))
    assert [message.id for message in taken] == [hints[0].id, hints[2].id]
    assert [each.row_id for each in aside.refused] == [hints[1].id]


def test_a_task_whose_id_was_used_before_ends_and_sends_its_webhook(store: Store, clock: Clock) -> None:
    store.settings = store.settings.model_copy(
        update={"credits": store.settings.credits.model_copy(update={"enabled": False})}
    )

    def ended() -> None:
        new = NewTask("o-1", "photography", PARAMS, task_id="order-7", webhook=HOOK)
        store.write(lambda tx: user_actions.submit(tx, store.settings, new))
        store.write(lambda tx: user_actions.cancel(tx, "order-7"))

    ended()
    clock.advance(2 * DAY)
    assert store.write(lambda tx: ageing.forget_finished_tasks(tx, "photography", DAY, 10)) == 1
    ended()
    ids = [row["id"] for row in store.all("SELECT id FROM webhook_delivery ORDER BY created_at")]
    assert len(set(ids)) == 2 and ids[0] == "msg_order-7_1" and ids[1].startswith("msg_order-7_1_")
    assert {hint.id for hint in store.write(lambda tx: deliveries.due(tx).get())} == set(ids)


def test_a_late_410_does_not_take_back_what_an_operator_has_sent_again(store: Store) -> None:
    new = NewTask("o-1", "photography", PARAMS, webhook=HOOK)
    task_id = str(store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"])
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    (late,) = store.write(lambda tx: deliveries.claim(tx, deliveries.due(tx).get()))
    store.write(lambda tx: deliveries.resend(tx, late.id))
    store.write(lambda tx: deliveries.receiver_is_gone(tx, late))
    assert store.value("SELECT state FROM webhook_delivery") == "waiting"
    assert store.value("SELECT count(*) FROM webhook_gone") == 0


# --- how it is done ---


def test_a_bad_row_is_found_by_halves_and_its_neighbours_are_done(store: Store) -> None:
    asked: list[int] = []

    def do(tx: Any, rows: Any) -> list[int]:
        asked.append(len(rows))
        for row in rows:
            tx.execute(
                "INSERT INTO webhook (task_id, url) VALUES (?, ?)", str(row), None if row == 5 else HOOK
            )
        return list(rows)

    done, refused = store.write(
        lambda tx: apart(tx, "number", list(range(8)), str, lambda rows: do(tx, rows))
    )
    assert sorted(done) == [0, 1, 2, 3, 4, 6, 7] and [each.row_id for each in refused] == ["5"]
    assert max(asked) == 8 and len(asked) == 7, "8, then 4 and 4, then 2 and 2, then 1 and 1"
    assert store.value("SELECT count(*) FROM webhook") == 7


def test_a_database_that_cannot_work_at_all_is_no_bad_row(store: Store) -> None:
    with pytest.raises(peewee.PeeweeException) as missing:
        store.write(
            lambda tx: apart(tx, "row", [1, 2], str, lambda _: tx.all("SELECT * FROM there_is_no_such_table"))
        )
    assert not is_about_a_row(missing.value)
    assert not is_about_a_row(peewee.OperationalError("database is locked"))


def test_a_refusal_is_reported_at_once_and_then_now_and_again_with_its_count() -> None:
    memory, bad = Refusals(), Refused("task_queue", "t-1", SAYS)
    now, told = 0.0, []
    while now <= 2 * TELL_AGAIN_SECONDS:
        if "t-1" not in memory.passing("task_queue", now):
            told += [(now, times) for _, times in memory.note([bad], now)]
        now += 1.0
    assert told == [(0.0, 1), (TELL_AGAIN_SECONDS, 11), (2 * TELL_AGAIN_SECONDS, 21)]
    assert memory.passing("task_queue", now + AGAIN_SECONDS) == []
    assert memory.passing("webhook_delivery", now) == []
