"""Verdicts by the clock after an absence: a start, a sleeping laptop, an outage, a clock that steps.

CORRECTNESS 40: no verdict without a poll. CORRECTNESS 20: deadline verdicts pause like verdicts of death.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.database.interface.database import Transaction
from supervisor.objects.open_store import open_file_store
from supervisor.remote.job_states import RemoteState, Word
from supervisor.services.sweep import sweep
from supervisor.store.queue import dispatch, leader, workers
from supervisor.store.queue.leader import NEVER
from supervisor.store.recovery import clock_steps
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence
from supervisor.store.tasks import claims, remote_wait
from tests.conftest import Clock, Store
from tests.support.well import Well, ask, claim_poll

CAREFUL = Provider(kind="http", may_bill_twice=False)
HOUR, DAY = 3600.0, 86_400.0
ATTEMPT_SECONDS = 630.0  # as the factories claim

Make = Callable[..., str]


def swept(store: Store) -> dict[str, int]:
    """What a sweep's rescue has done, without zeros."""
    counts = sweep(store.database, store.settings, open_file_store(store.settings))
    return {name: counts[name] for name in ("retried", "released", "failed") if counts[name]}


def postponed(tx: Transaction, task_id: str, lease: int) -> None:
    claims.postpone(tx, task_id, lease, 60.0)


def beat(store: Store) -> None:
    store.write(lambda tx: workers.beat(tx, "worker-1", 1))


def text(clock: Clock) -> str:
    """The database's time as it is stored."""
    return clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def code(store: Store, task_id: str) -> str | None:
    error = store.task(task_id)["error"]
    return json.loads(error)["code"] if error else None


@pytest.fixture
def well(store: Store, clock: Clock) -> Well:
    return Well(store, clock)


@pytest.fixture
def paid_attempt(store: Store, claimed_task: Callable[..., Claim]) -> Callable[[], tuple[Claim, Evidence]]:
    """An attempt whose paid request is on its way, and its evidence."""

    def make() -> tuple[Claim, Evidence]:
        claim = claimed_task()
        return claim, store.write(
            lambda tx: remote_jobs.begin(tx, claim, "ai", CAREFUL, 0, pictures=(0,), probe_seconds=300)
        )

    return make


@pytest.fixture
def remote_task(
    store: Store, paid_attempt: Callable[[], tuple[Claim, Evidence]], well: Well
) -> Callable[..., str]:
    """Handed in with evidence, while we are well; REMOTE_LIMIT_SECONDS is an hour."""

    def make() -> str:
        claim, evidence = paid_attempt()
        store.write(lambda tx: remote_jobs.accepted(tx, evidence, "remote-1"))
        store.write(
            lambda tx: remote_wait.hand_off(
                tx, claim.task_id, claim.lease, poll_in_seconds=5, remote_limit_seconds=HOUR
            )
        )
        return claim.task_id

    return make


# --- when we are well ---


def test_we_are_well_from_the_first_tick_while_ticks_follow_in_time(store: Store, clock: Clock) -> None:
    assert store.database.read(leader.well_since) == NEVER, "nobody dispatches"
    well = Well(store, clock)
    since = store.database.read(leader.well_since)
    assert since < text(clock) < NEVER
    well.passes(100)
    assert not well.tick(0)
    assert store.database.read(leader.well_since) == since
    clock.advance(11)
    assert store.database.read(leader.well_since) == NEVER, (
        "no tick for as long as this: the sweep knows nothing"
    )


@pytest.mark.parametrize(
    ("by", "passed"),
    [(HOUR, 0.25), (-HOUR, 0.25), (0.25, None), (30, 30), (HOUR, HOUR)],
    ids=["a sleep or a step ahead", "a step back", "a start or a failure", "a gap", "a long gap"],
)
def test_the_time_in_which_we_are_well_begins_anew_after(
    by: float, passed: float | None, store: Store, clock: Clock, well: Well
) -> None:
    well.passes(100)
    clock.advance(by)
    before = text(clock)
    assert well.tick(passed)
    assert before <= store.database.read(leader.well_since) <= text(clock)
    clock.advance(1)
    assert not well.tick(1)


def test_a_dispatcher_that_takes_over_begins_anew(store: Store, clock: Clock, well: Well) -> None:
    well.passes(100)
    before = text(clock)
    Well(store, clock)
    assert before <= store.database.read(leader.well_since) < NEVER


# --- rule 20: deadlines pause ---


def test_a_sleep_counts_no_failure(
    store: Store, clock: Clock, well: Well, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    clock.advance(HOUR)
    beat(store)
    assert swept(store) == {}, "before the dispatcher has ticked"
    well.tick(0.25)
    assert swept(store) == {}, "and after"
    well.passes(ATTEMPT_SECONDS - 10)
    assert swept(store) == {}, "its own limit may still strike: it has its whole time again"
    well.passes(20)
    assert swept(store) == {"retried": 1}
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"]) == ("pending", 1)


def test_a_deadline_binds_at_once_while_we_are_well(
    store: Store, well: Well, claimed_task: Callable[..., Claim]
) -> None:
    claimed_task()
    well.passes(ATTEMPT_SECONDS - 10)
    assert swept(store) == {}
    well.passes(20)
    assert swept(store) == {"retried": 1}


@pytest.mark.parametrize("ahead", [HOUR, 30 * HOUR], ids=["past its deadline", "past its expiry"])
def test_a_clock_that_steps_fails_no_paid_request_in_flight(
    ahead: float,
    store: Store,
    clock: Clock,
    well: Well,
    paid_attempt: Callable[[], tuple[Claim, Evidence]],
) -> None:
    claim, _ = paid_attempt()
    clock.advance(ahead)
    beat(store)
    assert swept(store) == {}
    well.tick(0.25)
    well.passes(300)
    assert swept(store) == {}
    row = store.task(claim.task_id)
    assert (row["status"], store.entries(claim.task_id)) == ("processing", [(1, "debit", -1)])
    well.passes(ATTEMPT_SECONDS - 290)
    assert swept(store) == {"failed": 1}, "no answer about it for as long as an attempt may take"


# --- rule 40: no verdict unasked ---


def test_a_remote_job_is_asked_before_it_is_overdue(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    clock.advance(2 * HOUR)
    assert swept(store) == {}
    well.tick(0.25)
    well.passes(30)
    assert swept(store) == {}, "we are well, and no poll was made"
    assert store.database.read(lambda tx: dispatch.seconds_to_next_due(tx).get()) == 0.0
    ask(store.write, task_id, Word.SILENT)
    assert swept(store) == {}, "no answer is none"
    ask(store.write, task_id)
    assert swept(store) == {"failed": 1}
    assert code(store, task_id) == "remote_lost"
    assert store.entries(task_id) == [(1, "debit", -1), (1, "refund", 1)]


def test_an_answer_from_before_the_limit_or_before_an_absence_is_none(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    well.passes(HOUR - 20)
    ask(store.write, task_id)
    well.passes(60)
    assert swept(store) == {}, "it may have finished since"
    ask(store.write, task_id)
    well.passes(1)  # times are in milliseconds, and both may happen within one
    well.tick(None)  # the dispatcher was started again, and has seen nothing of the time before
    assert swept(store) == {}
    ask(store.write, task_id)
    assert swept(store) == {"failed": 1}


@pytest.mark.parametrize("sets_right", [False, True])
def test_an_answer_from_a_time_that_never_was_is_none(
    store: Store, clock: Clock, well: Well, remote_task: Make, sets_right: bool
) -> None:
    """The clock was ahead, and the job was asked about beyond its limit; then the clock was set right."""
    task_id = remote_task()
    clock.advance(HOUR + 100)
    well.tick(None)
    ask(store.write, task_id)
    clock.advance(-HOUR)
    well.tick(None)
    if sets_right:
        store.write(clock_steps.set_right)
    limit = store.task(task_id)["remote_deadline_at"]
    well.passes(HOUR - 100 + 10)
    assert limit < text(clock), "it is overdue"
    assert swept(store) == {}, "no poll was made since its limit"
    well.passes(200)
    if sets_right:
        assert swept(store) == {}, "the time of that answer has come, and it is none"
    ask(store.write, task_id)
    assert swept(store) == {"failed": 1}


def test_a_question_that_slept_is_asked_again(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    """Its answer was in the socket when the lid was closed."""
    task_id = remote_task()
    lease = store.write(lambda tx: claim_poll(tx, task_id))
    clock.advance(2 * HOUR)
    well.tick(0.25)
    store.write(lambda tx: remote_wait.not_yet(tx, task_id, lease, 0))
    well.passes(30)
    assert swept(store) == {}
    ask(store.write, task_id)
    assert swept(store) == {"failed": 1}


@pytest.mark.parametrize("ahead", [2 * HOUR, 2 * DAY], ids=["overdue", "expired"])
def test_a_job_whose_picture_is_being_fetched_is_not_given_up(
    ahead: float, store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    clock.advance(ahead)
    well.tick(0.25)
    for _ in range(3):
        ask(store.write, task_id)
        well.passes(30)
    store.write(lambda tx: claim_poll(tx, task_id))
    well.passes(60)
    assert swept(store) == {}
    well.passes(260)
    assert swept(store) == {"failed": 1}, "a poll that is lost holds it no longer than a poll may take"


def test_a_dead_service_holds_no_task_for_ever(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    clock.advance(2 * DAY)
    well.tick(0.25)
    for _ in range(2):
        well.passes(31)
        ask(store.write, task_id, Word.SILENT)
    well.passes(31)
    assert swept(store) == {}, "two questions"
    ask(store.write, task_id, Word.SILENT)
    assert swept(store) == {"failed": 1}
    assert code(store, task_id) == "expired"
    assert store.value("SELECT cancel_wanted FROM remote_job") == 1


def test_a_job_that_could_not_be_polled_is_polled_before_it_expires(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    """The workers, or the broker, were away for longer than a task lives, and the dispatcher was well all the time."""
    task_id = remote_task()
    for _ in range(4):
        ask(store.write, task_id)
        well.passes(31)
    well.passes(2 * DAY)
    assert swept(store) == {}, "it may have finished since"
    ask(store.write, task_id)
    assert swept(store) == {"failed": 1}
    assert code(store, task_id) == "expired"


def test_a_job_that_is_not_to_be_asked_yet_expires_without_another_question(
    store: Store, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    for _ in range(4):
        ask(store.write, task_id, Word.SILENT)
        well.passes(31)
    well.passes(DAY - 200)
    ask(store.write, task_id, Word.SILENT, poll_in_seconds=300)
    well.passes(150)
    assert swept(store) == {"failed": 1}
    assert code(store, task_id) == "expired"


def test_questions_in_a_hurry_or_of_another_time_are_not_enough(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    clock.advance(2 * DAY)
    well.tick(0.25)
    for _ in range(5):
        ask(store.write, task_id, Word.SILENT)
    assert swept(store) == {}
    well.passes(70)
    well.tick(None)
    ask(store.write, task_id, Word.SILENT)
    assert store.task(task_id)["questions"] == 1
    well.passes(70)
    assert swept(store) == {}


def test_an_expired_job_leaves_the_sweep_time_between_its_polls(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    """A service that hangs keeps a poll out nearly always; while one is out there is no verdict."""
    task_id = remote_task()
    clock.advance(2 * DAY)
    well.tick(0.25)
    ask(store.write, task_id, Word.SILENT)
    clock.advance(70)
    assert store.claim_polls() == []
    clock.advance(21)
    assert [poll.task_id for poll in store.claim_polls()] == [task_id]


def test_a_service_that_only_reports_has_rounds_in_which_to_do_it(
    store: Store, clock: Clock, well: Well, remote_task: Make
) -> None:
    task_id = remote_task()
    clock.advance(2 * HOUR)
    well.tick(0.25)
    for _ in range(2):
        ask(store.write, task_id, Word.UNASKABLE)
        assert swept(store) == {}
        well.passes(31)
    assert swept(store) == {}
    ask(store.write, task_id, Word.UNASKABLE)
    assert swept(store) == {"failed": 1}
    assert code(store, task_id) == "remote_lost"


def test_a_waiting_task_with_a_remote_job_to_go_on_with_expires_only_after_an_attempt_that_can_not(
    store: Store,
    clock: Clock,
    well: Well,
    paid_attempt: Callable[[], tuple[Claim, Evidence]],
    live_worker: Callable[..., str],
) -> None:
    """Its worker died between the service's yes and our hand-off, and for a day no other one lives."""
    claim, evidence = paid_attempt()
    store.write(lambda tx: remote_jobs.accepted(tx, evidence, "remote-1"))
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    clock.advance(2 * DAY)
    well.tick(0.25)
    assert swept(store) == {"released": 1}
    for passed in (100, 700, DAY):
        well.passes(passed)
        assert swept(store) == {}, "the paid picture could not be polled"
    assert store.task(claim.task_id)["status"] == "pending"
    live_worker("worker-2")
    for put_back, counts in ((claims.release, {}), (postponed, {"failed": 1})):
        (again,) = store.dispatch()
        store.write(lambda tx, again=again, put_back=put_back: put_back(tx, again.task_id, again.lease))
        assert swept(store) == counts, (
            "a drain says nothing; a service that is down for its other pictures does"
        )
    assert code(store, claim.task_id) == "expired"


def test_a_resumed_job_expires_like_any_other_once_it_is_over(
    store: Store, clock: Clock, paid_attempt: Callable[[], tuple[Claim, Evidence]]
) -> None:
    claim, evidence = paid_attempt()
    store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.FAILED))
    clock.advance(2 * DAY)
    assert swept(store) == {"failed": 1}
    assert code(store, claim.task_id) == "expired"


def test_a_handed_off_task_starts_without_questions(store: Store, well: Well, remote_task: Make) -> None:
    task_id = remote_task()
    ask(store.write, task_id)
    row = store.task(task_id)
    assert row["questions"] == 1 and row["answered_at"] == row["asked_at"] and row["asked_since"] is not None
    store.write(lambda tx: tx.execute("UPDATE task_queue SET status = 'cancelled', finished_at = updated_at"))
    store.write(lambda tx: tx.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", task_id))
    row = store.task(task_id)
    assert (row["questions"], row["asked_at"], row["asked_since"], row["answered_at"]) == (
        0,
        None,
        None,
        None,
    )
