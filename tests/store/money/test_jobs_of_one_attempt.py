"""Remote jobs of one attempt end one by one, and its verdict is the same as if they had ended together."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.attempts.outcomes import OrderAgain, Outcome, Postpone, as_stored, from_stored
from actors.providers.base import ContentRejected, Done, Failed, Lost, ProviderError, Transient
from actors.providers.base import Running as JobRuns
from actors.remote_jobs import poll_batch
from actors.remote_jobs.poll_one import Seen
from supervisor.core import rescue
from supervisor.core.claim import Claim
from supervisor.store.queue import dispatch
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks.results import ResultFile
from tests.conftest import Clock, Store
from tests.support.providers.accepted_jobs import (
    accept,
    begin,
    claimed_again,
    hand_off,
    poll,
    poller,
    polling_of,
)

Answers = dict[int, Any]
OUT_OF_MEMORY, REFUSED = Transient("Out of memory."), ContentRejected("No.")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """{number of a picture: an error, True for its file}; jobs of other pictures go on."""
    said: Answers = {}

    async def look(worker: Any, claim: Claim, job: remote_jobs.RemoteJob, reports: Any, room: Any) -> Seen:
        (n,) = job.pictures
        match said.get(n):
            case None:
                return Seen(job, JobRuns(poll_after_seconds=1.0))
            case ProviderError() as error:
                return Seen(job, Failed(error))
        return Seen(job, Done(images=()), (ResultFile(n, f"results/{job.task_id}/{n}.png", "00", 4, 3),))

    monkeypatch.setattr(poll_batch, "look_at", look)
    monkeypatch.setattr(poll_batch, "observe_call", lambda *_: None)
    return said


def _order(store: Store, claim: Claim, pictures: range) -> None:
    """A job for each picture, accepted by its service."""
    for n in pictures:
        accept(store, begin(store, claim, pictures=(n,), part=n))
    hand_off(store, claim)


def _claimed_again(store: Store, clock: Clock, claim: Claim) -> Claim:
    clock.advance(600)
    assert store.write(dispatch.ripen) == 1
    return claimed_again(store, claim)


async def _poll(store: Store, clock: Clock) -> None:
    clock.advance(60)
    await poll(store, store.database)


async def test_a_passing_failure_of_one_job_is_tried_again_though_others_ended_later(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], answers: Answers
) -> None:
    claim = claimed_task(count=3)
    _order(store, claim, range(3))
    answers[0] = OUT_OF_MEMORY
    await _poll(store, clock)
    answers[1] = OUT_OF_MEMORY
    await _poll(store, clock)
    assert store.task(claim.task_id)["status"] == "ai_processing"
    answers[2] = True
    await _poll(store, clock)
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"]) == ("pending", 1), "one attempt has failed"
    assert store.entries(claim.task_id) == [(1, "debit", -3)]

    answers |= {0: True, 1: True}
    _order(store, _claimed_again(store, clock, claim), range(2))
    await _poll(store, clock)
    row = store.task(claim.task_id)
    assert (row["status"], len(json.loads(store.work(claim.task_id)["images"]))) == ("completed", 3)
    assert store.entries(claim.task_id) == [(1, "debit", -3)]


async def test_a_failure_that_was_tried_again_counts_for_no_later_attempt(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], answers: Answers
) -> None:
    claim = claimed_task(count=2)
    _order(store, claim, range(2))
    answers[0] = OUT_OF_MEMORY
    await _poll(store, clock)
    answers[1] = True
    await _poll(store, clock)
    again = _claimed_again(store, clock, claim)
    assert store.database.read(lambda tx: remote_jobs.verdicts(tx, claim)) != []
    assert store.database.read(lambda tx: remote_jobs.verdicts(tx, again)) == []


@pytest.mark.parametrize("order", ["hopeless first", "hopeless last"])
async def test_what_a_retry_can_not_cure_is_refunded_and_the_rest_is_kept(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], answers: Answers, order: str
) -> None:
    claim = claimed_task(count=3)
    _order(store, claim, range(3))
    answers[2] = True
    errors = [REFUSED, OUT_OF_MEMORY]
    for n, error in enumerate(errors if order == "hopeless first" else errors[::-1]):
        answers[n] = error
        await _poll(store, clock)
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"]) == ("completed", 0)
    assert store.entries(claim.task_id) == [(1, "debit", -3), (1, "refund", 2)]


async def test_a_job_that_its_service_lost_is_not_ordered_again_where_that_may_be_billed_twice(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], answers: Answers
) -> None:
    claim = claimed_task(count=2)
    _order(store, claim, range(2))
    answers[0] = Lost("It knows no such job.")
    await _poll(store, clock)
    answers[1] = True
    await _poll(store, clock)
    assert store.task(claim.task_id)["status"] == "completed"
    assert store.entries(claim.task_id) == [(1, "debit", -2), (1, "refund", 1)]


async def test_a_failure_that_a_poller_saw_after_it_had_lost_its_lease_is_tried_again(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], answers: Answers
) -> None:
    claim = claimed_task(count=2)
    _order(store, claim, range(2))
    answers |= {0: OUT_OF_MEMORY, 1: True}
    clock.advance(60)
    (late,) = store.claim_polls()
    clock.advance(3600)
    store.claim_polls()  # the poll has taken so long that it was given to another poller
    await poll_batch.poll_tasks(poller(store, store.database), [(polling_of(late), late)])
    assert {row["state"] for row in store.all("SELECT state FROM remote_job")} == {"failed", "done"}
    assert store.task(claim.task_id)["status"] == "ai_processing"
    clock.advance(3600)
    await poll(store, store.database)  # nothing is left to be asked
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"]) == ("pending", 1)


OUTCOMES = st.one_of(
    st.builds(rescue.RunAgain, st.floats(0, 300), st.sampled_from(["failures", ""]), st.text(), st.text()),
    st.builds(rescue.GiveUp, st.text(), st.text(), st.sampled_from(["failures", ""]), st.text()),
    st.builds(Postpone, st.floats(0, 300), st.text(), st.text()),
    st.builds(OrderAgain, st.text(), st.text(), st.floats(0, 1)),
)


@given(outcome=OUTCOMES)
def test_a_verdict_is_read_as_it_was_stored(outcome: Outcome) -> None:
    stored = json.loads(json.dumps({"attempt": 3, "of_a_later_version": 1, **as_stored(outcome)}))
    assert as_stored(from_stored(stored)) == as_stored(outcome)
