"""Rescue in the store: which tasks are stuck, their fate, and the sweep that calls it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from supervisor.cli import up
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost
from supervisor.core.rescue import Reason
from supervisor.database.interface.database import Transaction
from supervisor.database.open_wakeups import dispatch_wakeups
from supervisor.health.heartbeat_monitor import HeartbeatMonitor
from supervisor.objects.open_store import open_file_store
from supervisor.remote.job_states import Word
from supervisor.services.sweep import sweep, sweep_now, sweep_this_minute
from supervisor.store.counters import counters
from supervisor.store.limits import pauses
from supervisor.store.queue import dispatch, wake_counters, workers
from supervisor.store.recovery import expiry, stuck_tasks, sweep_runs
from supervisor.store.recovery.stuck_tasks import Rescued
from supervisor.store.tasks import claims, user_actions
from tests.conftest import Clock, Store
from tests.support.well import Well, ask
from tests.support.workers import complete


def _rescue(store: Store, *, deadlines: bool = True, most: int = stuck_tasks.BATCH) -> list[Rescued]:
    return store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, deadlines=deadlines, most=most))


def _stuck(store: Store) -> dict[str, str]:
    return store.database.read(stuck_tasks.stuck_ids)


def _die(store: Store, worker: str = "worker-1") -> None:
    assert store.write(lambda tx: workers.mark_dead(tx, worker))


def test_a_mark_alone_changes_no_task(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    before = store.task(claim.task_id)
    _die(store)
    assert store.task(claim.task_id) == before
    assert _stuck(store) == {claim.task_id: Reason.DEAD_WORKER}


@pytest.mark.parametrize("who", ["its supervisor", "the next supervisor", "the dispatcher"])
def test_a_process_that_finds_a_worker_dead_marks_it_and_leaves_the_verdict_to_rescue(
    who: str, store: Store, live_worker: Callable[..., str], claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    before = store.task(claim.task_id)
    bell = dispatch_wakeups(store.database, store.settings)
    bell.wait(0.5)  # whatever rang until now
    rang = store.database.read(wake_counters.read).dispatch
    _find_dead(who, store)
    assert store.value("SELECT state FROM worker") == "dead"
    assert bell.wait(90)
    if store.database.read(lambda tx: tx.dialect.name) == "sqlite":
        assert store.database.read(wake_counters.read).dispatch > rang
    assert store.task(claim.task_id) == before, "a mark decides nothing"
    assert store.database.read(stuck_tasks.count_stuck) == {Reason.DEAD_WORKER: 1}
    assert [each.task_id for each in _rescue(store)] == [claim.task_id]
    bell.close()


def _find_dead(who: str, store: Store) -> None:
    match who:
        case "its supervisor":
            program = up._worker_program(store.settings, store.database, "worker-1", {})
            assert program.on_exit is not None
            program.on_exit(cast(Any, SimpleNamespace(spawn_id="worker-1")))
        case "the next supervisor":
            store.write(
                lambda tx: tx.execute(
                    "UPDATE worker SET host = ?, pid = ?", socket.gethostname(), _no_process()
                )
            )
            up._mark_the_dead_of_last_time(store.database)
        case _:
            watch = HeartbeatMonitor(store.settings.lease_seconds)
            beats = {"worker-1": 7}
            now = 0.0
            while not (silent := watch.silent(beats, now)):
                now += 0.25
            assert now >= store.settings.lease_seconds
            assert store.write(lambda tx: [workers.mark_dead(tx, worker_id) for worker_id in silent]) == [
                True
            ]


def _no_process() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_dead_workers_tasks_run_again_and_only_its_own(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    mine, other = claimed_task(worker="worker-1"), claimed_task(worker="worker-2")
    _die(store)
    assert _rescue(store) == [Rescued(mine.task_id, Reason.DEAD_WORKER, "released")]
    row = store.task(mine.task_id)
    assert (row["status"], row["deaths"], row["failures"], row["worker_id"]) == ("pending", 1, 0, None)
    assert store.task(other.task_id)["status"] == "processing"
    assert [claim.task_id for claim in store.dispatch()] == [mine.task_id]
    assert store.task(mine.task_id)["worker_id"] == "worker-2"
    assert _rescue(store) == []


@pytest.mark.parametrize("gone", ["forgotten", "left"])
def test_rows_that_name_an_unknown_worker_are_rescued_too(
    gone: str, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    if gone == "left":
        store.write(lambda tx: workers.leave(tx, "worker-1"))
        assert store.value("SELECT state FROM worker") == "dead"
    else:
        store.write(lambda tx: tx.execute("DELETE FROM worker"))
    assert [each.task_id for each in _rescue(store)] == [claim.task_id]


def test_a_worker_that_leaves_with_nothing_in_hand_is_gone(
    store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker()
    store.write(lambda tx: workers.leave(tx, "worker-1"))
    assert store.value("SELECT state FROM worker") == "gone"
    assert not store.write(lambda tx: workers.mark_dead(tx, "worker-1"))


def test_a_marked_worker_learns_it_at_its_next_beat(store: Store, live_worker: Callable[..., str]) -> None:
    live_worker()
    assert store.write(lambda tx: workers.beat(tx, "worker-1", 0)) == "live"
    _die(store)
    assert store.write(lambda tx: workers.beat(tx, "worker-1", 0)) == "dead"
    assert store.write(lambda tx: workers.beat(tx, "never registered", 0)) is None


def test_a_remote_job_continues_when_its_poller_dies(
    store: Store, polled_task: Callable[..., tuple[str, int]], live_worker: Callable[..., str]
) -> None:
    task_id, lease = polled_task()
    _die(store)
    assert _rescue(store, deadlines=False) == [Rescued(task_id, Reason.DEAD_WORKER, "released")]
    row = store.task(task_id)
    assert (row["status"], row["worker_id"], row["deaths"], row["attempt"]) == ("ai_processing", None, 0, 1)
    live_worker("worker-2")
    assert [poll.task_id for poll in store.claim_polls()] == [task_id]
    with pytest.raises(LeaseLost):
        store.write(lambda tx: complete(tx, task_id, lease, []))


def test_a_passed_deadline_is_a_failed_attempt_until_the_budget_is_spent(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    actions = []
    for _ in range(3):
        clock.advance(631)
        assert _stuck(store) == {claim.task_id: Reason.DEADLINE}
        actions += [each.action for each in _rescue(store)]
        clock.advance(301)  # above every back-off
        store.write(dispatch.ripen)
        store.dispatch()
    assert actions == ["retried", "retried", "failed"]
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"], json.loads(row["error"])["code"]) == ("failed", 3, "time_limit")
    assert store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]


def test_deadline_verdicts_pause_on_demand_and_deaths_do_not(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    late, dead = claimed_task(worker="worker-1"), claimed_task(worker="worker-2")
    clock.advance(100_000)  # past deadline and expiry
    assert _rescue(store, deadlines=False) == []
    clock.advance(-99_000)
    _die(store, "worker-2")
    assert [each.task_id for each in _rescue(store, deadlines=False)] == [dead.task_id]
    assert store.task(late.task_id)["status"] == "processing"


def test_a_remote_job_that_never_ends_is_lost(
    store: Store, clock: Clock, handed_off_task: Callable[..., str]
) -> None:
    task_id = handed_off_task(poll_in_seconds=9000)
    clock.advance(3599)
    assert _stuck(store) == {}
    clock.advance(2)
    assert _stuck(store) == {task_id: Reason.REMOTE_OVERDUE} and _rescue(store) == []
    ask(store.write, task_id)
    assert _rescue(store) == [Rescued(task_id, Reason.REMOTE_OVERDUE, "failed")]
    row = store.task(task_id)
    assert json.loads(row["error"])["code"] == "remote_lost"
    assert store.entries(task_id)[-1] == (1, "refund", 1)


@pytest.mark.parametrize("stand", ["admitted", "claimed", "handed off", "polled", "backing off"])
def test_a_task_expires_wherever_it_stands_and_is_refunded(
    stand: str,
    store: Store,
    clock: Clock,
    admitted_task: Callable[..., str],
    claimed_task: Callable[..., Claim],
    handed_off_task: Callable[..., str],
    polled_task: Callable[..., tuple[str, int]],
) -> None:
    def backing_off() -> str:
        claim = claimed_task()
        store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 200_000.0))
        return claim.task_id

    well = Well(store, clock)
    task_id = {
        "admitted": admitted_task,
        "claimed": lambda: claimed_task().task_id,
        "handed off": handed_off_task,
        "polled": lambda: polled_task()[0],
        "backing off": backing_off,
    }[stand]()
    clock.advance(86_395)
    assert Reason.EXPIRED not in _stuck(store).values()
    clock.advance(10)
    assert _stuck(store) == {task_id: Reason.EXPIRED}
    if stand in ("handed off", "polled"):
        well.tick(None)
        clock.advance(300)  # a poll that is out is waited for
        for _ in range(3):
            ask(store.write, task_id, Word.SILENT)
            clock.advance(31)
    assert _rescue(store) == [Rescued(task_id, Reason.EXPIRED, "failed")]
    row, work = store.task(task_id), store.work(task_id)
    assert row["status"] == work["status"] == "failed"
    assert json.loads(work["error"])["code"] == "expired"
    assert store.entries(task_id) == [(1, "debit", -1), (1, "refund", 1)]
    assert _rescue(store) == [] and _stuck(store) == {}


def expired(store: Store, clock: Clock, task_id: str, **known: Any) -> str:
    """The message of a task whose time is over."""
    clock.advance(86_405)
    store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, **known))
    error = json.loads(store.task(task_id)["error"])
    assert error["code"] == "expired" and error["message"].startswith(expiry.GIVEN_UP)
    assert json.loads(store.work(task_id)["error"]) == error, "its user sees the same"
    return str(error["message"])


@pytest.mark.parametrize("counted", [False, True], ids=["postponed", "retried"])
def test_an_expired_task_says_how_its_last_attempt_ended(
    counted: bool, store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    step = claims.retry if counted else claims.postpone
    store.write(
        lambda tx: step(
            tx, claim.task_id, claim.lease, 200_000.0, code="at_capacity", message="The AI service is full"
        )
    )
    assert expired(store, clock, claim.task_id).endswith(
        "The last attempt ended with: The AI service is full."
    )


def test_an_order_given_again_does_not_say_how_the_one_before_it_ended(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(
        lambda tx: claims.fail(tx, claim.task_id, claim.lease, "provider_error", "The GPU is broken.")
    )
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, claim.task_id))
    assert "GPU" not in expired(store, clock, claim.task_id)


@pytest.mark.parametrize("halt", ["the type is paused", "all are down", "all are paused", "one may be asked"])
def test_an_expired_task_that_never_began_names_the_cause_of_its_wait(
    halt: str, store: Store, clock: Clock, admitted_task: Callable[..., str]
) -> None:
    task_id = admitted_task()
    providers = {store.task(task_id)["type"]: ("own", "second")}

    def halted(tx: Transaction) -> None:
        if halt == "the type is paused":
            pauses.pause(tx, pauses.TYPE, store.task(task_id)["type"], "ann", "a holiday")
        for name in ("own", "second")[: 1 if halt == "one may be asked" else 2]:
            if halt == "all are paused":
                pauses.pause(tx, pauses.PROVIDER, name, "ann", "a holiday")
            elif halt != "the type is paused":
                tx.execute(
                    "INSERT INTO provider_state (name, breaker, until, opened_at, reason) VALUES"
                    f" (:name, 'open', {tx.in_seconds('9')}, {tx.now}, 'HTTP 401.')",
                    name=name,
                )

    store.write(halted)
    assert (
        expired(store, clock, task_id, providers=providers).removeprefix(f"{expiry.GIVEN_UP} ")
        == {
            "the type is paused": "It was never begun: an operator has paused this kind of task.",
            "all are down": "It was never begun: the AI service was down (HTTP 401).",
            "all are paused": "It was never begun: an operator has paused the AI service.",
            "one may be asked": "It was never begun: no worker was free for it.",
        }[halt]
    )


def test_a_task_asked_for_later_expires_later(
    store: Store, clock: Clock, admitted_task: Callable[..., str]
) -> None:
    at = clock.now().replace(year=clock.now().year + 1).strftime("%Y-%m-%dT00:00:00.000Z")
    task_id = admitted_task(run_after=at)
    assert store.task(task_id)["expires_at"] > at
    clock.advance(90_000)
    assert _rescue(store) == []


def test_the_metric_counts_the_tasks_that_the_next_sweep_may_rescue(
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
    handed_off_task: Callable[..., str],
) -> None:
    claimed_task("d", worker="worker-2")
    claimed_task("t")
    remote = handed_off_task("r", poll_in_seconds=9000)
    _die(store, "worker-2")
    clock.advance(3594)
    undelivered = claimed_task("u")
    clock.advance(11)
    counted = store.database.read(stuck_tasks.count_stuck)
    assert counted == {"undelivered": 1, "dead_worker": 1, "deadline": 1, "remote_overdue": 1}
    ask(store.write, remote)
    rescued = _rescue(store)
    assert sorted(each.reason for each in rescued) == ["dead_worker", "deadline", "remote_overdue"]
    assert _stuck(store) == {undelivered.task_id: "undelivered"}, "its worker finds it"


def test_two_rescuers_rescue_once(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    _die(store)
    futures = [store.database.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5)) for _ in range(5)]
    assert sum(len(future.result(timeout=90)) for future in futures) == 1
    assert store.task(claim.task_id)["deaths"] == 1


def test_rescue_works_in_batches_ordered_by_user_and_skips_no_row(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    held = [claimed_task(user) for user in ("c", "a", "b", "a", "c")]
    _die(store)
    rescued: list[Rescued] = []
    while batch := _rescue(store, most=2):
        assert len(batch) <= 2
        rescued += batch
    users = [store.task(each.task_id)["user_openid"] for each in rescued]
    assert users == ["a", "a", "b", "c", "c"]
    assert {each.task_id for each in rescued} == {claim.task_id for claim in held}


# --- the sweep ---


def test_a_sweep_rescues_prunes_and_leaves_nothing(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    for user in ("a", "b"):
        claimed_task(user)
    _die(store)
    clock.advance(90_000)
    files = open_file_store(store.settings)
    counts = sweep(store.database, store.settings, files)
    assert counts["failed"] == 2
    assert counts["changes_pruned"] == 4
    assert all(
        number == 0
        for number in sweep(store.database, store.settings, open_file_store(store.settings)).values()
    )
    assert store.value("SELECT count(*) FROM worker") == 0, "dead for a day and holding nothing"


def test_a_minute_is_swept_once_however_many_schedulers_fire(store: Store, clock: Clock) -> None:
    clock.advance(60 - clock.now().second)  # the test must not straddle a minute
    assert sweep_this_minute(store.database, store.settings, open_file_store(store.settings)) is not None
    assert sweep_this_minute(store.database, store.settings, open_file_store(store.settings)) is None
    clock.advance(60)
    assert sweep_this_minute(store.database, store.settings, open_file_store(store.settings)) is not None
    assert store.value("SELECT count(*) FROM sweep_run WHERE finished_at IS NOT NULL") == 2


def test_a_run_without_end_is_taken_over_after_55_seconds(store: Store, clock: Clock) -> None:
    clock.advance(60 - clock.now().second)
    minute = store.write(sweep_runs.begin)
    assert minute is not None
    clock.advance(50)
    assert store.write(sweep_runs.begin) is None
    clock.advance(6)
    assert store.write(sweep_runs.begin) == minute
    store.write(lambda tx: sweep_runs.end(tx, minute, {"failed": 1}))
    assert store.write(sweep_runs.begin) is None
    last = store.database.read(sweep_runs.last)
    assert last is not None and json.loads(last["counts"]) == {"failed": 1}


def test_a_sweep_catches_up_after_missed_minutes(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    Well(store, clock).passes(7200)
    counts = sweep_this_minute(store.database, store.settings, open_file_store(store.settings))
    assert counts is not None and counts["retried"] == 1
    assert store.task(claim.task_id)["status"] == "pending"


def test_a_sweep_by_hand_runs_whatever_the_minute_has_had(store: Store) -> None:
    for _ in range(2):
        assert sweep_now(store.database, store.settings, open_file_store(store.settings))["failed"] == 0
    last = store.database.read(sweep_runs.last)
    assert last is not None and last["finished_at"] is not None


def test_rescues_are_counted_with_their_action_and_reason(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claimed_task()
    _die(store)
    _rescue(store)
    counted = store.database.read(counters.read_all)
    rescues = {
        labels: values for (name, labels), values in counted.items() if name == "darkroom_rescues_total"
    }
    assert rescues == {'{"action":"released","reason":"dead_worker"}': {"": 1.0}}
