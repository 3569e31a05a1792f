"""Reports of services on their remote jobs, and their effect on a task's poll; resumed and cancelled jobs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost
from supervisor.core.placement import Room
from supervisor.database.interface.database import Transaction
from supervisor.remote.job_states import RemoteState
from supervisor.remote.poll_backoff import (
    JITTER,
    LEAST_SECONDS,
    MOST_SECONDS,
    REPORTING_MOST_SECONDS,
    next_poll_seconds,
)
from supervisor.store.queue import dispatch, workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.remote import remote_cancels, remote_jobs, remote_reports
from supervisor.store.remote.remote_jobs import Evidence
from supervisor.store.remote.remote_reports import MOST_UNREAD, StoredReport
from supervisor.store.tasks import claims, remote_wait, user_actions
from tests.conftest import Clock, Store
from tests.support.well import Well, ask
from tests.support.workers import free_slots

CAREFUL = Provider(kind="http", may_bill_twice=False)
BODY = b'{"status": "done"}'


def begin(store: Store, claim: Claim, pictures: tuple[int, ...] = (0,)) -> Evidence:
    return store.write(lambda tx: remote_jobs.begin(tx, claim, "ai", CAREFUL, 0, pictures=pictures))


def accept(store: Store, evidence: Evidence) -> bool:
    return store.write(lambda tx: remote_jobs.accepted(tx, evidence, "r-1", {"at": "there"}))


def report(store: Store, reference: str, body: bytes = BODY) -> bool:
    return store.write(lambda tx: remote_reports.store(tx, reference, {"x-signature": "s"}, body))


def unread(store: Store, evidence: Evidence) -> list[StoredReport]:
    def read(tx: Transaction) -> list[StoredReport | None]:
        ids = remote_reports.unread(tx, [(evidence.reference.split(".")[0], 1, 0)])[evidence.reference]
        return [remote_reports.get(tx, each) for each in ids]

    return [each for each in store.database.read(read) if each is not None]


def hand_off(store: Store, claim: Claim, poll_in_seconds: float = 60) -> None:
    store.write(
        lambda tx: remote_wait.hand_off(
            tx, claim.task_id, claim.lease, poll_in_seconds=poll_in_seconds, remote_limit_seconds=3600
        )
    )


def state(store: Store, evidence: Evidence) -> str:
    return str(store.value("SELECT state FROM remote_job WHERE id = ?", evidence.id))


def due(store: Store) -> list[str]:
    return [poll.task_id for poll in store.claim_polls()]


@pytest.fixture
def waiting_job(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., tuple[Claim, Evidence]]:
    """Accepted by its service and handed off; its next poll is in a minute."""

    def make(user: str = "o-1", **more: Any) -> tuple[Claim, Evidence]:
        claim = claimed_task(user, **more)
        evidence = begin(store, claim)
        accept(store, evidence)
        hand_off(store, claim)
        return claim, evidence

    return make


def polled(store: Store, claim: Claim) -> Claim:
    (found,) = [each for each in store.claim_polls() if each.task_id == claim.task_id]
    return found


# --- reports ---


def test_a_report_makes_the_poll_due_now_and_is_read_once(store, waiting_job):
    claim, evidence = waiting_job()
    assert due(store) == []
    assert report(store, evidence.reference)
    poll = polled(store, claim)
    (found,) = unread(store, evidence)
    assert (found.body, found.headers) == (BODY, {"x-signature": "s"})
    store.write(lambda tx: remote_reports.mark_read(tx, [found.id]))
    store.write(lambda tx: remote_wait.not_yet(tx, claim.task_id, poll.lease, 60))
    assert due(store) == []
    assert store.database.read(lambda tx: remote_reports.unread(tx, [claim.of_step])) == {}


def test_a_report_that_comes_before_the_hand_off_is_looked_at_right_after_it(store, claimed_task):
    claim = claimed_task()
    evidence = begin(store, claim)
    assert report(store, evidence.reference)
    accept(store, evidence)
    hand_off(store, claim)
    assert due(store) == [claim.task_id]


def test_a_report_that_comes_during_a_poll_is_looked_at_right_after_it(store, waiting_job):
    claim, evidence = waiting_job()
    assert report(store, evidence.reference)
    poll = polled(store, claim)
    newest = store.value("SELECT max(id) FROM remote_report")
    assert report(store, evidence.reference, b"another")
    assert due(store) == []  # one poller at a time
    store.write(lambda tx: remote_wait.not_yet(tx, claim.task_id, poll.lease, 60, newest_report=newest))
    assert due(store) == [claim.task_id]


def test_a_report_that_could_not_be_followed_up_waits_for_the_next_poll(store, waiting_job):
    claim, evidence = waiting_job()
    assert report(store, evidence.reference)
    poll = polled(store, claim)
    newest = store.value("SELECT max(id) FROM remote_report")
    store.write(lambda tx: remote_wait.not_yet(tx, claim.task_id, poll.lease, 60, newest_report=newest))
    assert due(store) == []
    assert len(store.database.read(lambda tx: remote_reports.unread(tx, [claim.of_step]))) == 1


def test_a_report_on_a_part_that_is_over_makes_nothing_due_while_another_part_is_at_work(
    store, claimed_task, clock: Clock
):
    """It came twice, or during the poll that found the part finished, so no poll will read it."""
    claim = claimed_task()
    over, at_work = (
        store.write(lambda tx, n=n: remote_jobs.begin(tx, claim, "ai", CAREFUL, n, pictures=(n,)))
        for n in (0, 1)
    )
    for evidence in (over, at_work):
        store.write(lambda tx, evidence=evidence: remote_jobs.accepted(tx, evidence, evidence.reference))
    hand_off(store, claim)
    assert report(store, over.reference)
    first = polled(store, claim)
    assert report(store, over.reference, b"the same once more")
    store.write(lambda tx: remote_jobs.settle(tx, over, RemoteState.DONE))
    store.write(lambda tx: remote_wait.not_yet(tx, claim.task_id, first.lease, 60, newest_report=1))
    assert due(store) == []
    clock.advance(61)
    second = polled(store, claim)
    store.write(lambda tx: remote_wait.not_yet(tx, claim.task_id, second.lease, 60))
    assert due(store) == []
    assert report(store, at_work.reference)
    assert due(store) == [claim.task_id]


def test_a_repeated_a_foreign_and_a_late_report_change_nothing(store, waiting_job):
    claim, evidence = waiting_job()
    assert not report(store, "01J.1.1.0")
    assert report(store, evidence.reference)
    assert not report(store, evidence.reference)
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    before = store.all("SELECT * FROM task_queue"), store.all("SELECT * FROM remote_report")
    assert not report(store, evidence.reference, b"too late")
    assert (store.all("SELECT * FROM task_queue"), store.all("SELECT * FROM remote_report")) == before


def test_a_report_on_an_earlier_charge_is_late(store, waiting_job):
    claim, evidence = waiting_job()
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, claim.task_id))
    assert not report(store, evidence.reference)


@pytest.mark.parametrize("known", ["submitting", "unknown"])
def test_a_report_proves_that_the_service_has_the_job(store, claimed_task, known):
    claim = claimed_task()
    evidence = begin(store, claim)
    if known == "unknown":
        store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.UNKNOWN))
    assert report(store, evidence.reference)
    assert state(store, evidence) == "waiting"
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    (rescued,) = store.write(
        lambda tx: stuck_tasks.rescue(tx, chance=random.random, may_bill_twice=frozenset(), deadlines=False)
    )
    assert rescued.action == "released"  # and not an unknown outcome
    assert accept(store, evidence)  # the id may still come
    (job,) = store.database.read(lambda tx: remote_jobs.waiting(tx, [claim.of_step]))
    assert (job.remote_id, job.details, job.pictures) == ("r-1", {"at": "there"}, (0,))


def test_of_too_many_reports_the_last_are_kept(store, waiting_job):
    _, evidence = waiting_job()
    for n in range(MOST_UNREAD + 3):
        assert report(store, evidence.reference, b"%d" % n)
    assert [each.body for each in unread(store, evidence)] == [b"%d" % n for n in range(3, MOST_UNREAD + 3)]


def test_old_reports_are_forgotten(store, waiting_job, clock: Clock):
    _, evidence = waiting_job()
    report(store, evidence.reference)
    assert store.write(lambda tx: remote_reports.prune(tx, 100)) == 0
    clock.advance(remote_reports.FORGET_SECONDS + 1)
    assert store.write(lambda tx: remote_reports.prune(tx, 100)) == 1


# --- polls ---


def test_polls_are_claimed_in_batches_for_the_workers_with_most_room(
    store, waiting_job, live_worker, clock: Clock
):
    taken = [waiting_job(f"u-{n}")[0] for n in range(4)]
    live_worker("worker-2")
    clock.advance(61)
    found = store.claim_polls()
    assert {each.task_id for each in found} == {each.task_id for each in taken}
    assert {each.lease for each in found} == {2}
    assert all(each.params and each.user for each in found)
    assert (
        sorted(store.task(each.task_id)["worker_id"] for each in found) == ["worker-1"] * 2 + ["worker-2"] * 2
    )
    assert store.claim_polls() == []


def test_polls_take_no_slots_and_wait_at_the_broker_no_longer_than_workers_can_take_them(
    store, waiting_job, clock: Clock, monkeypatch
):
    monkeypatch.setattr(remote_wait, "POLLS_PER_WORKER", 2)
    for n in range(3):
        waiting_job(f"u-{n}")
    free = free_slots(store)
    clock.advance(61)
    room = store.database.read(remote_wait.room_for_polls)
    assert (room, len(store.claim_polls()), store.database.read(remote_wait.room_for_polls)) == (
        [Room("worker-1", 2)],
        2,
        [],
    )
    assert store.database.read(lambda tx: dispatch.seconds_to_next_due(tx).get()) == 0
    assert store.database.read(lambda tx: dispatch.seconds_to_next_due(tx, polls=False).get()) is None
    assert free_slots(store) == free


def test_a_poll_whose_worker_is_lost_is_due_again_by_itself_and_the_late_poller_has_lost_it(
    store, waiting_job, clock: Clock
):
    claim, _ = waiting_job()
    clock.advance(61)
    first = polled(store, claim)
    clock.advance(331)
    second = polled(store, claim)
    assert second.lease == first.lease + 1
    with pytest.raises(LeaseLost):
        store.write(lambda tx: remote_wait.not_yet(tx, claim.task_id, first.lease, 1))


def test_a_poller_that_gives_back_costs_nothing(store, waiting_job, clock: Clock):
    claim, _ = waiting_job()
    clock.advance(61)
    poll = polled(store, claim)
    store.write(lambda tx: remote_wait.give_back(tx, claim.task_id, poll.lease))
    row = store.task(claim.task_id)
    assert (row["status"], row["attempt"], row["failures"], row["deaths"]) == ("ai_processing", 1, 0, 0)
    assert due(store) == [claim.task_id]


@given(
    hint=st.floats(0, 1000),
    age=st.floats(0, 1e6),
    reports=st.booleans(),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_polls_obey_the_service_come_less_often_with_age_and_have_a_ceiling(hint, age, reports, chance):
    wait = next_poll_seconds(hint, age, reports=reports, chance=chance)
    assert wait >= max(hint, LEAST_SECONDS)
    assert wait <= max(hint, REPORTING_MOST_SECONDS if reports else MOST_SECONDS) * (1 + JITTER)
    assert wait <= next_poll_seconds(hint, age + 100, reports=reports, chance=chance)
    assert wait <= next_poll_seconds(hint, age, reports=True, chance=chance)


# --- the end of a task, and of what services do for it ---


def test_an_id_that_comes_when_its_task_is_over_is_cancelled(store, claimed_task):
    claim = claimed_task()
    evidence = begin(store, claim)
    store.write(lambda tx: claims.fail(tx, claim.task_id, claim.lease, "time_limit", "Too long."))
    assert accept(store, evidence)
    assert [each.id for each in store.write(lambda tx: remote_cancels.due_cancels(tx).get())] == [evidence.id]


def test_an_id_that_comes_when_its_lease_is_lost_is_resumed_and_not_cancelled(store, claimed_task):
    claim = claimed_task()
    evidence = begin(store, claim)
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
    assert accept(store, evidence)
    assert store.write(lambda tx: remote_cancels.due_cancels(tx).get()) == []
    assert len(store.database.read(lambda tx: remote_jobs.waiting(tx, [claim.of_step]))) == 1


def test_a_cancel_is_sent_round_less_and_less_often_until_it_is_settled(store, waiting_job, clock: Clock):
    claim, evidence = waiting_job()
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    pauses = [remote_cancels.pause_seconds(n) for n in range(3)]
    assert pauses == sorted(set(pauses))
    for pause in pauses:
        assert len(store.write(lambda tx: remote_cancels.due_cancels(tx).get())) == 1
        assert store.write(lambda tx: remote_cancels.due_cancels(tx).get()) == []
        clock.advance(pause + 0.01)
    (job,) = store.database.read(lambda tx: remote_jobs.unwanted(tx, [evidence.id]))
    store.write(lambda tx: remote_jobs.settle(tx, job, RemoteState.CANCELLED))
    clock.advance(1000)
    assert store.write(lambda tx: remote_cancels.due_cancels(tx).get()) == []
    assert store.database.read(lambda tx: remote_jobs.unwanted(tx, [evidence.id])) == []


def test_a_job_that_can_not_be_cancelled_holds_its_place_for_hours_and_no_longer(
    store, waiting_job, clock: Clock
):
    claim, evidence = waiting_job()
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    for _ in range(remote_cancels.MOST_CANCELS):
        assert store.write(lambda tx: remote_cancels.due_cancels(tx).get())
        clock.advance(remote_cancels.MOST_SECONDS + 1)
    assert store.write(lambda tx: remote_cancels.due_cancels(tx).get()) == []
    clock.advance(remote_cancels.SETTLED_SECONDS)
    assert store.write(remote_cancels.give_up_cancels) == 1
    assert state(store, evidence) == "lost"


@pytest.mark.parametrize("reason", ["remote_overdue", "expired"])
def test_an_overdue_remote_job_is_given_up_refunded_and_cancelled(store, waiting_job, clock: Clock, reason):
    before = store.settings.credits.signup_grant
    well = Well(store, clock)
    claim, evidence = waiting_job()
    well.passes(3601 if reason == "remote_overdue" else 86_401)
    for _ in range(1 if reason == "remote_overdue" else 3):
        ask(store.write, claim.task_id)
        well.passes(31)
    (rescued,) = store.write(lambda tx: stuck_tasks.rescue(tx, chance=random.random))
    assert (rescued.reason.value, rescued.action) == (reason, "failed")
    assert store.balance() == before
    assert [each.id for each in store.write(lambda tx: remote_cancels.due_cancels(tx).get())] == [evidence.id]
