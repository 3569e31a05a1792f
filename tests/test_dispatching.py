"""The dispatcher's transaction: free slots, limits, marks, hints sent again; and who is the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from config.settings import Settings
from supervisor.store import admission, claims, dispatching, handoffs, leadership, outlook, tasks, workers
from supervisor.store.dispatching import Hint
from tests.conftest import PARAMS, Clock, Store
from tests.databases import Plain


def _free(store: Store) -> int:
    return store.database.read(outlook.free_slots)


def test_free_slots_are_those_of_live_workers_less_what_they_hold_or_report_busy(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    assert _free(store) == 0
    for name in ("a", "b", "draining", "dead"):
        live_worker(name, slots=4)
    store.write(lambda tx: workers.drain(tx, "draining"))
    store.write(lambda tx: workers.mark_dead(tx, "dead"))
    assert _free(store) == 8
    for _ in range(2):
        admitted_task()
    hints = store.dispatch()
    assert _free(store) == 6, "dispatched and not claimed yet"
    for hint in hints:
        assert store.claim(hint, "a")
    assert _free(store) == 6, "held"
    store.write(lambda tx: workers.beat(tx, "a", 1))
    assert _free(store) == 6, "the larger of held and busy"
    store.write(lambda tx: workers.beat(tx, "a", 3))
    assert _free(store) == 5
    store.write(lambda tx: workers.beat(tx, "b", 4))
    assert _free(store) == 1


def test_a_worker_beyond_its_slots_takes_none_from_the_others(
    store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker("a", slots=4)
    live_worker("b", slots=4)
    store.write(lambda tx: workers.beat(tx, "a", 18))
    assert _free(store) == 4


def test_no_more_hints_are_out_than_there_are_slots(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker("a", slots=3)
    for n in range(10):
        admitted_task(f"o-{n}")
    assert len(store.dispatch()) == 3 and store.dispatch() == []


def test_a_dispatch_is_marked_and_not_picked_twice(
    store: Store, dispatched_task: Callable[..., Hint]
) -> None:
    hint = dispatched_task()
    assert store.task(hint.task_id)["dispatched_at"] is not None
    assert store.dispatch() == []


def _limit(store: Store, users: list[str], **changed: Any) -> None:
    """Give the store these settings, a worker, and an admitted task for each of the users."""
    before = store.settings
    store.settings = settings = Settings(
        data_dir=before.data_dir, database_url=before.database_url, **changed
    )
    store.write(lambda tx: workers.register(tx, "worker-1", host="here", pid=1, slots=100))
    for user in users:
        new = tasks.NewTask(user, "photography", PARAMS)
        store.write(lambda tx, new=new: tasks.submit(tx, settings, new))


def test_a_users_limit_counts_dispatched_processing_and_handed_off_tasks(store: Store) -> None:
    _limit(store, ["a"] * 6 + ["b"], limits={"running_tasks_per_user": 3})
    hints = store.dispatch()
    users = sorted(store.task(hint.task_id)["user_openid"] for hint in hints)
    assert users == ["a", "a", "a", "b"]
    held = [claim for hint in hints if (claim := store.claim(hint, "worker-1")) and claim.user == "a"]
    assert store.dispatch() == []
    remote = held[0]
    store.write(
        lambda tx: handoffs.hand_off(
            tx, remote.task_id, remote.lease, poll_in_seconds=900, remote_limit_seconds=3600
        )
    )
    assert store.dispatch() == [], "a remote job runs as well"
    store.write(lambda tx: claims.complete(tx, held[1].task_id, held[1].lease, []))
    assert len(store.dispatch()) == 1


def test_a_types_limit_holds_across_users_and_leaves_other_types_alone(store: Store) -> None:
    _limit(store, ["a", "b", "c", "d"], tasks={"photography": {"max_running": 2}, "fitting": {}})
    fitting = tasks.NewTask("e", "fitting", {"images": PARAMS["images"] * 2})
    store.write(lambda tx: tasks.submit(tx, store.settings, fitting))
    hints = store.dispatch()
    assert sorted(hint.type for hint in hints) == ["fitting", "photography", "photography"]
    claim = next(c for hint in hints if (c := store.claim(hint, "worker-1")) and c.type == "photography")
    assert store.dispatch() == []
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 900.0))
    assert [hint.type for hint in store.dispatch()] == ["photography"]


def test_a_task_becomes_ready_when_its_time_comes(
    store: Store, clock: Clock, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    at = (clock.now() + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    task_id = admitted_task(run_after=at)
    assert store.write(dispatching.ripen) == 0 and store.dispatch() == []
    due = store.database.read(dispatching.seconds_to_next_due)
    assert due is not None and 55 < due <= 60
    clock.advance(61)
    assert store.database.read(dispatching.seconds_to_next_due) == 0.0
    assert store.write(dispatching.ripen) == 1
    assert [hint.task_id for hint in store.dispatch()] == [task_id]


def test_a_hint_that_nobody_claims_is_sent_again_after_ten_seconds_with_its_number(
    store: Store, clock: Clock, dispatched_task: Callable[..., Hint]
) -> None:
    hint = dispatched_task()
    due = store.database.read(dispatching.seconds_to_next_due)
    assert due is not None and 9 < due <= 10
    clock.advance(9)
    assert store.write(dispatching.overdue_hints) == []
    clock.advance(1.1)
    assert store.write(dispatching.overdue_hints) == [hint]
    assert store.write(dispatching.overdue_hints) == [], "ten seconds more"
    clock.advance(10.1)
    assert store.write(dispatching.overdue_hints) == [hint]
    assert _free(store) == 999


def test_a_poll_hint_that_is_lost_is_sent_again(
    store: Store, clock: Clock, handed_off_task: Callable[..., str]
) -> None:
    handed_off_task()
    (hint,) = store.write(dispatching.due_polls)
    assert store.write(dispatching.due_polls) == []
    clock.advance(11)
    assert store.write(dispatching.overdue_hints) == [hint]


def test_a_send_that_certainly_failed_clears_the_mark_at_once(
    store: Store, dispatched_task: Callable[..., Hint]
) -> None:
    hint = dispatched_task()
    store.write(lambda tx: dispatching.unmark(tx, [hint]))
    assert store.dispatch() == [hint], "the same number: whatever did arrive is no other hint"


def test_a_mark_is_not_cleared_from_a_task_that_has_moved_on(
    store: Store, dispatched_task: Callable[..., Hint]
) -> None:
    old = dispatched_task()
    claim = store.claim(old, "worker-1")
    assert claim is not None
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
    (new,) = store.dispatch()
    store.write(lambda tx: dispatching.unmark(tx, [old]))
    assert store.task(new.task_id)["dispatched_at"] is not None


def test_a_late_unmark_breaks_no_limit(store: Store, clock: Clock) -> None:
    _limit(store, ["a", "b"], tasks={"photography": {"max_running": 1}, "fitting": {}})
    (stalled,) = store.dispatch()
    clock.advance(11)
    (resent,) = store.write(dispatching.overdue_hints)  # by the dispatcher that has taken over
    store.write(lambda tx: dispatching.unmark(tx, [stalled]))
    assert store.dispatch() == [], (
        "the hint that was sent again is on its way, and holds the type's only place"
    )
    assert store.claim(resent, "worker-1") is not None
    assert store.dispatch() == []
    assert store.value("SELECT count(*) FROM task_queue WHERE status = 'processing'") == 1


def test_a_late_unmark_of_a_poll_leaves_it_to_whoever_sent_it_again(
    store: Store, clock: Clock, handed_off_task: Callable[..., str]
) -> None:
    handed_off_task()
    (stalled,) = store.write(dispatching.due_polls)
    clock.advance(11)
    (resent,) = store.write(dispatching.overdue_hints)
    store.write(lambda tx: dispatching.unmark(tx, [stalled]))
    assert store.write(dispatching.due_polls) == []
    store.write(lambda tx: dispatching.unmark(tx, [resent]))
    assert store.write(dispatching.due_polls) == [resent]


class _Spy:
    """A transaction that keeps the plan of every query asked through it."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self.plans: list[str] = []
        self.now, self.moment, self.in_seconds, self.dialect = tx.now, tx.moment, tx.in_seconds, tx.dialect

    def _note(self, sql: str, params: tuple[Any, ...]) -> None:
        if sql.lstrip().upper().startswith(("SELECT", "UPDATE")):
            rows = self._tx.all(f"EXPLAIN QUERY PLAN {sql}", *params)
            self.plans += [str(row["detail"]) for row in rows]

    def __getattr__(self, name: str) -> Any:
        def call(sql: str, *params: Any) -> Any:
            self._note(sql, params)
            return getattr(self._tx, name)(sql, *params)

        return call


@pytest.mark.sqlite_only
def test_the_dispatchers_round_reads_indexes_and_never_the_whole_table(
    store: Store, producer: Plain, live_worker: Callable[..., str]
) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
            INSERT INTO task_queue (user_openid, type, params)
            SELECT 'o-' || (i % 50), 'photography', '{"images":["https://example.org/p.jpg"]}' FROM n"""
    )
    live_worker(slots=2)
    store.admit_waiting()
    producer.execute("ANALYZE")

    def look(tx: Any) -> list[str]:
        spy: Any = _Spy(tx)
        admission.admit_waiting(spy, store.settings, 10)
        dispatching.ripen(spy)
        dispatching.overdue_hints(spy)
        dispatching.due_polls(spy)
        dispatching.seconds_to_next_due(spy)
        dispatching.pick_and_mark(spy, store.settings)
        return list(spy.plans)

    plans = store.write(look)
    assert any("task_queue_pick" in plan for plan in plans)
    assert not [plan for plan in plans if "TEMP B-TREE" in plan], "in order from the index"
    assert not [plan for plan in plans if plan.startswith("SCAN task_queue") and "USING" not in plan], (
        "no scan of the table"
    )


def _insert(producer: Plain, user: str, count: int) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO task_queue (user_openid, type, params, priority)
            SELECT ?, 'photography', '{"images":["https://example.org/p.jpg"]}', i % 3 FROM n""",
        (count, user),
    )


@pytest.mark.sqlite_only
def test_the_long_queue_of_a_user_at_their_limit_costs_its_length_and_not_its_square(
    store: Store, producer: Plain, live_worker: Callable[..., str]
) -> None:
    """Nothing bounds how much a program inserts by SQL; everybody's pick goes past it."""
    producer.execute("UPDATE rule SET signup_grant = 10000")
    live_worker()

    def cost_of_pick() -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        def pick(tx: Any) -> list[Hint]:
            connection = tx._database.connection()
            connection.set_progress_handler(step, 100)
            try:
                return dispatching.pick_and_mark(tx, store.settings)
            finally:
                connection.set_progress_handler(None, 0)

        assert store.write(pick) == []
        return steps

    _insert(producer, "many", 300)
    store.admit_waiting()
    assert len(store.dispatch()) == 4
    short = cost_of_pick()
    _insert(producer, "many", 900)
    store.admit_waiting()
    assert cost_of_pick() < 6 * short, "four times as long a queue"
    _insert(producer, "few", 1)
    store.admit_waiting()
    assert [store.task(hint.task_id)["user_openid"] for hint in store.dispatch()] == ["few"]


def test_chunks_of_a_long_queue_keep_its_order(
    store: Store, producer: Plain, live_worker: Callable[..., str]
) -> None:
    for user in range(100):
        _insert(producer, f"o-{user:03}", 3)
    store.admit_waiting()
    live_worker()
    picked = [hint.task_id for hint in store.dispatch()]
    ordered = store.all("SELECT id FROM task_queue ORDER BY priority DESC, turn, created_at, id")
    assert picked == [row["id"] for row in ordered]


# --- who works ---


def _take_over(store: Store, seen: leadership.Leadership, name: str) -> leadership.Leadership | None:
    return store.write(lambda tx: leadership.take_over(tx, seen, name))


def test_one_dispatcher_works_and_the_others_stand_by(store: Store) -> None:
    vacant = store.database.read(leadership.read)
    assert vacant.holder is None
    first = _take_over(store, vacant, "one")
    assert first is not None and first.holder == "one"
    assert _take_over(store, vacant, "two") is None, "somebody was faster"
    seen = store.database.read(leadership.read)
    assert store.write(lambda tx: leadership.renew(tx, first))
    assert _take_over(store, seen, "two") is None, "it has stirred since"
    seen = store.database.read(leadership.read)
    second = _take_over(store, seen, "two")
    assert second is not None and second.term == first.term + 1
    assert not store.write(lambda tx: leadership.renew(tx, first)), (
        "a frozen one finds that it is not the one"
    )


def test_a_dispatcher_that_resigns_is_followed_at_once_and_a_follower_is_not_put_out(store: Store) -> None:
    first = _take_over(store, store.database.read(leadership.read), "one")
    assert first is not None
    store.write(lambda tx: leadership.resign(tx, first))
    vacant = store.database.read(leadership.read)
    assert vacant.holder is None
    second = _take_over(store, vacant, "two")
    assert second is not None
    store.write(lambda tx: leadership.resign(tx, first))
    assert store.database.read(leadership.read) == second


@pytest.mark.parametrize("mark", [workers.drain, workers.mark_dead, workers.leave])
def test_a_worker_that_stops_gets_nothing_new(
    mark: Callable[..., Any],
    store: Store,
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:
    live_worker()
    admitted_task()
    store.write(lambda tx: mark(tx, "worker-1"))
    assert store.dispatch() == []
