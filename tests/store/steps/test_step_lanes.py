"""Tasks between two steps: who is picked for which step, what counts as running, and what a late worker can't do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from config.provider import Provider
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost, MayBeBilledAlready
from supervisor.remote.breaker import Sign
from supervisor.remote.job_states import RemoteState
from supervisor.store.limits import providers
from supervisor.store.operators import operator_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.remote import remote_jobs, remote_reports
from supervisor.store.tasks import claims, remote_wait, user_actions
from tests.conftest import Clock, Store
from tests.support.databases import fresh_settings, is_postgres
from tests.support.models.stepped import advance_now, portrait
from tests.support.servers.postgres_databases import give_back
from tests.support.workers import complete

CAREFUL = Provider(kind="http", may_bill_twice=False)


@pytest.fixture
def settings(tmp_path: Path, database_kind: str) -> Iterator[Settings]:
    """Each step has its own provider; the second needs a gpu, and may be tried once."""
    providers_of = {
        f"of_{name}": {"kind": "http", "may_bill_twice": False} for name in ("cut_out", "paint", "enlarge")
    }
    declared = portrait(
        cut_out={"provider": "of_cut_out"},
        paint={"provider": "of_paint", "needs": {"gpu": 1}, "max_attempts": 1, "time_limit_seconds": 900},
        enlarge={"provider": "of_enlarge", "ai_timeout_seconds": 7},
        max_running=2,
    )
    chosen = fresh_settings(
        tmp_path, kind=database_kind, providers=providers_of, tasks={"portrait": declared},
        limits={"running_tasks_per_user": 2},
    )  # fmt: skip
    yield chosen
    if is_postgres(chosen):
        give_back(chosen.database_url)


@pytest.fixture
def gpu(store: Store) -> str:
    """A worker with one gpu."""
    store.write(
        lambda tx: workers.register(tx, "gpu", host="here", pid=1, slots=10, offers={"gpu": 1}, types=())
    )
    return "gpu"


@pytest.fixture
def second_step(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., Claim]:
    """A task that has just finished its first step; the claim of that step."""

    def make(user: str = "o-1") -> Claim:
        claim = claimed_task(user, type_="portrait")
        store.write(lambda tx: advance_now(tx, claim.task_id, claim.lease))
        return claim

    return make


def picked(store: Store, *names: str) -> list[str]:
    return [claim.task_id for claim in store.dispatch(*names)]


def test_a_worker_is_not_given_more_than_it_offers_after_the_steps_are_gone_from_the_settings(
    store: Store, second_step: Callable[..., Claim], gpu: str
) -> None:
    first, second = second_step("o-1"), second_step("o-2")
    without = store.settings.tasks["portrait"].model_copy(update={"steps": [], "max_running": 0})
    tasks = {**store.settings.tasks, "portrait": without}
    store.settings = store.settings.model_copy(update={"tasks": tasks})
    assert picked(store) == [first.task_id], "its one gpu is taken"
    assert picked(store) == []
    store.write(lambda tx: user_actions.cancel(tx, first.task_id))
    assert picked(store) == [second.task_id]


def test_an_advance_keeps_turn_charge_and_progress_and_counts_failures_anew(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task(type_="portrait")
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0))
    (again,) = store.dispatch()
    before = store.task(claim.task_id)
    assert before["failures"] == 1
    store.write(lambda tx: advance_now(tx, again.task_id, again.lease))
    row = store.task(claim.task_id)
    assert (row["status"], row["step"], row["failures"], row["deaths"], row["ready"]) == (
        "pending",
        1,
        0,
        0,
        1,
    )
    assert [row[name] for name in ("turn", "charge", "attempt", "lease", "expires_at")] == [
        before[name] for name in ("turn", "charge", "attempt", "lease", "expires_at")
    ]
    assert (row["progress"], row["stage"], row["max_attempts"]) == (33, "paint: queued", 1)


def test_a_worker_that_has_lost_its_lease_advances_nothing(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    late = claimed_task(type_="portrait")
    store.write(lambda tx: claims.release(tx, late.task_id, late.lease, died=True))
    before = store.task(late.task_id)
    with pytest.raises(LeaseLost):
        store.write(lambda tx: advance_now(tx, late.task_id, late.lease))
    (again,) = store.dispatch()
    with pytest.raises(LeaseLost):
        store.write(lambda tx: advance_now(tx, late.task_id, late.lease))
    assert store.value("SELECT count(*) FROM task_step") == 0 and before["step"] == 0
    store.write(lambda tx: advance_now(tx, again.task_id, again.lease))
    with pytest.raises(LeaseLost):  # and no step is finished twice
        store.write(lambda tx: advance_now(tx, again.task_id, again.lease))
    assert store.task(late.task_id)["step"] == 1
    assert store.value("SELECT count(*) FROM task_step") == 1


def test_a_task_is_not_completed_before_its_last_step(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task(type_="portrait")
    with pytest.raises(Exception, match="the lifecycle of a task has no such step"):
        store.write(lambda tx: complete(tx, claim.task_id, claim.lease, []))
    assert store.task(claim.task_id)["status"] == "processing"


def test_a_step_goes_to_a_worker_that_offers_what_the_step_needs(
    store: Store, second_step: Callable[..., Claim], gpu: str, live_worker: Callable[..., str]
) -> None:
    first, second = second_step("o-1"), second_step("o-2")
    assert picked(store, "worker-1") == []
    assert picked(store) == [first.task_id]
    assert store.task(first.task_id)["worker_id"] == gpu
    assert picked(store) == []  # its only gpu is in use
    (held,) = store.all("SELECT id, lease FROM task_queue WHERE worker_id = 'gpu'")
    store.write(lambda tx: advance_now(tx, held["id"], held["lease"]))
    assert sorted(picked(store)) == sorted([first.task_id, second.task_id])
    assert store.task(first.task_id)["worker_id"] == live_worker()  # where more slots are free


@pytest.mark.parametrize("how", ["breaker", "pause"])
def test_a_step_whose_service_is_away_waits_and_other_steps_go_on(
    store: Store, second_step: Callable[..., Claim], gpu: str, admitted_task: Callable[..., str], how: str
) -> None:
    waiting = second_step("o-1")
    if how == "pause":
        store.write(
            lambda tx: operator_actions.pause(tx, Operator("ops", "operator"), "provider", "of_paint", "")
        )
    else:
        store.write(lambda tx: providers.note(tx, "of_paint", Sign.DOWN, probe=None, wait_seconds=60))
    new = admitted_task("o-2", type_="portrait")
    assert picked(store) == [new]
    assert store.task(waiting.task_id)["status"] == "pending"


def test_a_task_between_two_steps_counts_as_running_and_is_not_kept_from_its_next_one(
    store: Store, second_step: Callable[..., Claim], gpu: str, admitted_task: Callable[..., str]
) -> None:
    first = second_step("o-1")
    second_step("o-1")
    others = [admitted_task("o-1", type_="photography"), admitted_task("o-2", type_="portrait")]
    assert picked(store) == [first.task_id], "two of its user, and of its type, are under way already"
    assert all(store.task(task_id)["status"] == "pending" for task_id in others)


def test_the_deadline_and_the_budget_are_those_of_the_step(
    store: Store, second_step: Callable[..., Claim], gpu: str
) -> None:
    task_id = second_step().task_id
    (claim,) = store.dispatch()
    assert (claim.step, claim.last_step, claim.budget.max_attempts) == (1, 2, 1)
    seconds = store.database.read(
        lambda tx: tx.value(
            f"SELECT {tx.seconds_between('processing_started_at', 'deadline_at')} FROM task_queue WHERE id = :id",
            id=task_id,
        )
    )
    assert round(seconds) == 900 + 30


def test_a_step_sees_neither_requests_nor_reports_of_the_step_before(
    store: Store, claimed_task: Callable[..., Claim], gpu: str
) -> None:
    claim = claimed_task(type_="portrait")
    old = store.write(lambda tx: remote_jobs.begin(tx, claim, "of_cut_out", CAREFUL, 0, pictures=(0,)))
    unheard = store.write(lambda tx: remote_jobs.begin(tx, claim, "of_cut_out", CAREFUL, 1, pictures=(1,)))
    store.write(lambda tx: remote_jobs.accepted(tx, old, "job-1"))
    store.write(lambda tx: advance_now(tx, claim.task_id, claim.lease))
    assert store.value("SELECT cancel_wanted FROM remote_job WHERE id = ?", old.id) == 1
    (again,) = store.dispatch()
    assert store.database.read(lambda tx: remote_jobs.waiting(tx, [again.of_step])) == []
    new = store.write(lambda tx: remote_jobs.begin(tx, again, "of_paint", CAREFUL, 0, pictures=(0,)))
    assert new.reference == f"{claim.task_id}.1.{again.lease}.1.0"
    assert store.write(lambda tx: remote_jobs.accepted(tx, unheard, "job-2"))
    assert store.value("SELECT cancel_wanted FROM remote_job WHERE id = ?", unheard.id) == 1
    store.write(
        lambda tx: remote_wait.hand_off(
            tx, again.task_id, again.lease, poll_in_seconds=900, remote_limit_seconds=3600
        )
    )
    assert not store.write(lambda tx: remote_reports.store(tx, old.reference, {}, b"late"))
    assert store.write(lambda tx: remote_reports.store(tx, new.reference, {}, b"in time"))
    assert store.claim_polls() != []


def test_a_step_asks_nothing_that_an_earlier_attempt_of_it_has_asked(
    store: Store, second_step: Callable[..., Claim], gpu: str
) -> None:
    second_step()
    (first,) = store.dispatch()
    store.write(lambda tx: remote_jobs.begin(tx, first, "of_paint", CAREFUL, 0, pictures=(0,)))
    store.write(lambda tx: claims.release(tx, first.task_id, first.lease))
    (second,) = store.dispatch()
    with pytest.raises(MayBeBilledAlready):
        store.write(lambda tx: remote_jobs.begin(tx, second, "of_paint", CAREFUL, 0, pictures=(0,)))


def test_a_task_that_expires_between_two_steps_says_what_its_next_step_waited_for(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    claim = claimed_task(type_="portrait")
    store.write(
        lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0, code="internal", message="It broke.")
    )
    (again,) = store.dispatch()
    store.write(lambda tx: advance_now(tx, again.task_id, again.lease))
    store.write(
        lambda tx: providers.note(tx, "of_paint", Sign.DOWN, probe=None, wait_seconds=60, reason="HTTP 401")
    )
    clock.advance(86_401)
    store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5))
    said = str(store.task(claim.task_id)["error"])
    assert (
        "Its step paint was never begun: the AI service was down (HTTP 401)." in said and "broke" not in said
    )


def test_a_cancel_between_two_steps_refunds_all_but_what_is_kept(
    store: Store, second_step: Callable[..., Claim]
) -> None:
    task_id = second_step().task_id
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert store.entries(task_id) == [(1, "debit", -1), (1, "refund", 1)]
    store.balance()


def test_the_finished_steps_go_with_the_task(
    store: Store, second_step: Callable[..., Claim], producer: Any
) -> None:
    task_id = second_step().task_id
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    producer.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
    assert store.value("SELECT count(*) FROM task_step") == 0


def declare(store: Store, *, steps: bool) -> None:
    """A deploy: the type is one call, or has its steps."""
    declared = store.settings.tasks["portrait"]
    changed = {} if steps else {"steps": [], "provider": "of_cut_out"}
    of_type = type(declared).model_validate(
        {**portrait(cut_out={"provider": "of_cut_out"}, paint={"provider": "of_paint"}), **changed}
    )
    tasks = {**store.settings.tasks, "portrait": of_type}
    store.settings = store.settings.model_copy(update={"tasks": tasks})


def test_a_task_from_before_its_type_had_steps_runs_all_of_them(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    declare(store, steps=False)
    early = admitted_task("o-1", type_="portrait")
    assert store.task(early)["steps"] is None
    declare(store, steps=True)
    assert picked(store) == [], "it is given its steps"
    row = store.task(early)
    assert (row["step"], row["last_step"], row["status"]) == (0, 2, "pending")
    (claim,) = store.dispatch()
    assert (claim.task_id, claim.step, claim.last_step) == (early, 0, 2) and "of_cut_out" in claim.lane
    store.write(lambda tx: advance_now(tx, claim.task_id, claim.lease))
    assert store.task(early)["step"] == 1


@pytest.mark.parametrize("state", [RemoteState.FAILED, RemoteState.DONE, RemoteState.UNKNOWN])
def test_a_task_that_was_asked_for_before_its_type_had_steps_is_not_paid_again(
    store: Store, claimed_task: Callable[..., Claim], live_worker: Callable[..., str], state: RemoteState
) -> None:
    live_worker()
    declare(store, steps=False)
    claim = claimed_task("o-1", type_="portrait")
    evidence = store.write(lambda tx: remote_jobs.begin(tx, claim, "of_cut_out", CAREFUL, 0, pictures=(0,)))
    store.write(lambda tx: remote_jobs.settle(tx, evidence, state))
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0))
    declare(store, steps=True)
    assert picked(store) == []
    row = store.task(claim.task_id)
    if state is RemoteState.FAILED:
        assert (row["status"], row["last_step"]) == ("pending", 2)
        return
    assert row["status"] == "failed" and "A retry runs all steps." in str(row["error"])
    assert store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, claim.task_id))
    assert store.task(claim.task_id)["last_step"] == 2


def test_the_steps_of_a_task_are_given_once(
    store: Store, admitted_task: Callable[..., str], producer: Any
) -> None:
    task_id = admitted_task("o-1", type_="portrait")
    with pytest.raises(Exception, match="the steps of a task are fixed when it is admitted"):
        producer.execute("UPDATE task_queue SET last_step = 1 WHERE id = ?", (task_id,))
