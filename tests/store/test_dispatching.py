"""The dispatcher's transaction: free slots, limits, claims and their withdrawal; and the choice of the dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from config.provider import Provider
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.store.queue import dispatch, leader, workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import admission, claims, remote_wait, user_actions
from supervisor.store.tasks.remote_wait import Undelivered
from tests.conftest import PARAMS, Clock, Store
from tests.support.databases import REFUSED, Plain
from tests.support.workers import complete, free_slots


def test_free_slots_are_those_of_live_workers_less_what_they_hold_or_report_busy(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    assert free_slots(store) == 0
    for name in ("a", "b", "draining", "dead"):
        live_worker(name, slots=4)
    store.write(lambda tx: workers.drain(tx, "draining"))
    store.write(lambda tx: workers.mark_dead(tx, "dead"))
    assert free_slots(store) == 8
    for _ in range(2):
        admitted_task()
    assert len(store.dispatch("a")) == 2
    assert free_slots(store) == 6, "held"
    store.write(lambda tx: workers.beat(tx, "a", 1))
    assert free_slots(store) == 6, "the larger of held and busy"
    store.write(lambda tx: workers.beat(tx, "a", 3))
    assert free_slots(store) == 5
    store.write(lambda tx: workers.beat(tx, "b", 4))
    assert free_slots(store) == 1


def test_a_worker_beyond_its_slots_takes_none_from_the_others(
    store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker("a", slots=4)
    live_worker("b", slots=4)
    store.write(lambda tx: workers.beat(tx, "a", 18))
    assert free_slots(store) == 4


def test_no_more_is_claimed_than_there_are_slots(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker("a", slots=3)
    for n in range(10):
        admitted_task(f"o-{n}")
    assert len(store.dispatch()) == 3 and store.dispatch() == []


def test_a_pick_is_a_claim_for_a_named_worker(
    store: Store, clock: Clock, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    task_id = admitted_task()
    (claim,) = store.dispatch()
    row = store.task(task_id)
    assert (row["status"], row["worker_id"], row["lease"], row["attempt"]) == ("processing", "worker-1", 1, 1)
    assert (claim.task_id, claim.lease, claim.attempt) == (task_id, 1, 1)
    assert row["begun_lease"] == 0, "nobody has begun it"
    assert store.dispatch() == []


def test_the_worker_with_most_free_slots_is_chosen(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker("small", slots=2)
    live_worker("large", slots=4)
    held = []
    for n in range(6):
        task_id = admitted_task(f"o-{n}")
        store.dispatch()
        held.append(store.task(task_id)["worker_id"])
    assert held == ["large", "large", "large", "small", "large", "small"]


def test_a_shunned_worker_is_given_nothing(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker("shunned", slots=9)
    live_worker("heard", slots=1)
    for n in range(3):
        admitted_task(f"o-{n}")
    assert len(store.dispatch("heard")) == 1
    assert store.value("SELECT worker_id FROM task_queue WHERE worker_id IS NOT NULL") == "heard"


def test_a_worker_of_an_older_program_is_given_nothing(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str], producer: Plain
) -> None:
    live_worker("old")
    producer.execute("UPDATE worker SET takes_claims = 0")
    admitted_task()
    assert store.dispatch() == [] and free_slots(store) == 0


def _limit(store: Store, users: list[str], **changed: Any) -> None:
    """Give the store these settings, a worker, and an admitted task for each of the users."""
    before = store.settings
    store.settings = settings = Settings(
        data_dir=before.data_dir, database_url=before.database_url, **changed
    )
    store.write(lambda tx: workers.register(tx, "worker-1", host="here", pid=1, slots=100))
    for user in users:
        new = user_actions.NewTask(user, "photography", PARAMS)
        store.write(lambda tx, new=new: user_actions.submit(tx, settings, new))


def test_a_users_limit_counts_processing_and_handed_off_tasks(store: Store) -> None:
    _limit(store, ["a"] * 6 + ["b"], limits={"running_tasks_per_user": 3})
    claimed = store.dispatch()
    assert sorted(claim.user for claim in claimed) == ["a", "a", "a", "b"]
    held = [claim for claim in claimed if claim.user == "a"]
    assert store.dispatch() == []
    remote = held[0]
    store.write(
        lambda tx: remote_wait.hand_off(
            tx, remote.task_id, remote.lease, poll_in_seconds=900, remote_limit_seconds=3600
        )
    )
    assert store.dispatch() == [], "a remote job runs as well"
    store.write(lambda tx: complete(tx, held[1].task_id, held[1].lease, []))
    assert len(store.dispatch()) == 1


def test_a_types_limit_holds_across_users_and_leaves_other_types_alone(store: Store) -> None:
    _limit(store, ["a", "b", "c", "d"], tasks={"photography": {"max_running": 2}, "fitting": {}})
    fitting = user_actions.NewTask("e", "fitting", {"images": PARAMS["images"] * 2})
    store.write(lambda tx: user_actions.submit(tx, store.settings, fitting))
    claimed = store.dispatch()
    assert sorted(claim.type for claim in claimed) == ["fitting", "photography", "photography"]
    claim = next(each for each in claimed if each.type == "photography")
    assert store.dispatch() == []
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 900.0))
    assert [hint.type for hint in store.dispatch()] == ["photography"]


def test_a_task_becomes_ready_when_its_time_comes(
    store: Store, clock: Clock, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    at = (clock.now() + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    task_id = admitted_task(run_after=at)
    assert store.write(dispatch.ripen) == 0 and store.dispatch() == []
    due = store.database.read(lambda tx: dispatch.seconds_to_next_due(tx).get())
    assert due is not None and 55 < due <= 60
    clock.advance(61)
    assert store.database.read(lambda tx: dispatch.seconds_to_next_due(tx).get()) == 0.0
    assert store.write(dispatch.ripen) == 1
    assert [hint.task_id for hint in store.dispatch()] == [task_id]


def test_a_claim_that_was_not_begun_is_taken_back_at_no_cost(
    store: Store, claimed_task: Callable[..., Claim], polled_task: Callable[..., tuple[str, int]]
) -> None:
    claim, (polled, lease) = claimed_task(), polled_task("o-2")
    taken = [Undelivered(claim.task_id, claim.lease, "worker-1"), Undelivered(polled, lease, "worker-1")]
    assert store.write(lambda tx: remote_wait.take_back(tx, taken)) == 2
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"], row["deaths"], row["attempt"]) == ("pending", 0, 0, 1)
    assert store.task(polled)["worker_id"] is None
    assert [poll.task_id for poll in store.claim_polls()] == [polled], "it is due now"
    assert store.write(lambda tx: remote_wait.take_back(tx, taken)) == 0
    assert [each.task_id for each in store.dispatch()] == [claim.task_id]


def test_a_claim_that_lies_in_a_list_twice_is_taken_back_once(
    store: Store, claimed_task: Callable[..., Claim], polled_task: Callable[..., tuple[str, int]]
) -> None:
    """A broker that answered too late has taken a message that was sent again."""
    claim, (polled, lease) = claimed_task(), polled_task("o-2")
    taken = [Undelivered(claim.task_id, claim.lease, "worker-1"), Undelivered(polled, lease, "worker-1")]
    assert store.write(lambda tx: remote_wait.take_back(tx, [*taken, *taken])) == 2
    assert store.task(claim.task_id)["status"] == "pending"


@pytest.mark.parametrize("evidence", ["begun", "asked", "another lease", "another worker"])
def test_a_claim_that_may_have_been_begun_is_not_taken_back(
    evidence: str, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    taken = Undelivered(claim.task_id, claim.lease, "worker-1")
    match evidence:
        case "begun":
            begun = claims.Begun(claim.task_id, claim.lease, 0.0, 630.0)
            assert store.write(lambda tx: claims.mark_begun(tx, [begun])) == {claim.task_id}
        case "asked":
            store.write(lambda tx: remote_jobs.begin(tx, claim, "ai", Provider(kind="http"), 0))
        case "another lease":
            taken = taken._replace(lease=claim.lease + 1)
        case "another worker":
            taken = taken._replace(worker_id="worker-2")
    assert store.write(lambda tx: remote_wait.take_back(tx, [taken])) == 0
    assert store.task(claim.task_id)["status"] == "processing"


def test_the_time_of_an_attempt_counts_from_its_beginning(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    clock.advance(100)
    begun = claims.Begun(claim.task_id, claim.lease, 5.0, 630.0)
    assert store.write(lambda tx: claims.mark_begun(tx, [begun])) == {claim.task_id}
    left = store.value(
        f"SELECT {store.write(lambda tx: tx.seconds_between(tx.now, 'deadline_at'))} FROM task_queue"
    )
    assert 620 < left <= 625


class _Spy:
    """A transaction that keeps the plan of every query asked through it."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self.plans: list[str] = []

    def _note(self, sql: str, named: dict[str, Any]) -> None:
        if sql.lstrip().upper().startswith(("SELECT", "UPDATE")):
            rows = self._tx.all(f"EXPLAIN QUERY PLAN {sql}", **named)
            self.plans += [str(row["detail"]) for row in rows]

    def __getattr__(self, name: str) -> Any:
        given = getattr(self._tx, name)
        if name not in ("all", "one", "value", "run", "execute", "send", "ask", "change"):
            return given

        def call(sql: Any, **named: Any) -> Any:
            self._note(self._tx.text_of(sql), named)
            return given(sql, **named)

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
        admission.admit_waiting(spy, store.settings, 10).get()
        dispatch.ripen(spy)
        remote_wait.claim_due_polls(spy, remote_wait.room_for_polls(spy), lambda *_: 300.0)
        dispatch.seconds_to_next_due(spy).get()
        dispatch.pick_and_claim(spy, store.settings)
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
    """Programs may insert any number of rows by SQL; each pick must pass them."""
    producer.execute("UPDATE rule SET signup_grant = 10000")
    live_worker()

    def cost_of_pick() -> int:
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        def pick(tx: Any) -> list[Any]:
            connection = tx._execute.__self__.connection()
            connection.set_progress_handler(step, 100)
            try:
                return dispatch.pick_and_claim(tx, store.settings).claims
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


# --- the active dispatcher ---


def _take_over(store: Store, seen: leader.Leadership, name: str) -> leader.Leadership | None:
    return store.write(lambda tx: leader.take_over(tx, seen, name))


def test_one_dispatcher_works_and_the_others_stand_by(store: Store) -> None:
    vacant = store.database.read(leader.read)
    assert vacant.holder is None
    first = _take_over(store, vacant, "one")
    assert first is not None and first.holder == "one"
    assert _take_over(store, vacant, "two") is None, "somebody was faster"
    seen = store.database.read(leader.read)
    assert store.write(lambda tx: leader.renew(tx, first))
    assert _take_over(store, seen, "two") is None, "it has stirred since"
    seen = store.database.read(leader.read)
    second = _take_over(store, seen, "two")
    assert second is not None and second.term == first.term + 1
    assert not store.write(lambda tx: leader.renew(tx, first)), (
        "a frozen one finds that it is no longer active"
    )


def test_a_dispatcher_that_resigns_is_followed_at_once_and_a_follower_is_not_put_out(store: Store) -> None:
    first = _take_over(store, store.database.read(leader.read), "one")
    assert first is not None
    store.write(lambda tx: leader.resign(tx, first))
    vacant = store.database.read(leader.read)
    assert vacant.holder is None
    second = _take_over(store, vacant, "two")
    assert second is not None
    store.write(lambda tx: leader.resign(tx, first))
    assert store.database.read(leader.read) == second


def test_a_dispatcher_of_an_older_program_can_not_take_over(store: Store, producer: Plain) -> None:
    with pytest.raises(REFUSED, match="a dispatcher of the older program"):
        producer.execute("UPDATE dispatcher SET holder = 'old', term = term + 1, beat = beat + 1")


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
