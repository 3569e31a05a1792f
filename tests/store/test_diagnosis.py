"""“User o-7's photo is at 40 % for eight minutes: why, and what now?” is answered at once, for every cause."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.health.troubles import troubles
from supervisor.remote.breaker import Sign
from supervisor.store.limits import providers
from supervisor.store.operators import operator_actions, overview
from supervisor.store.operators.audit import Operator
from supervisor.store.queue import workers
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, history, user_actions
from tests.conftest import Clock, Store
from tests.support.command_line import darkroom
from tests.support.diagnoses import why
from tests.support.workers import report_progress

EIGHT_MINUTES = 480
ONCE = Provider(kind="http", may_bill_twice=False)  # type: ignore[arg-type]
STUDIO = Provider(kind="studio")


@pytest.fixture
def at_40(store: Store, claimed_task: Callable[..., Claim]) -> Callable[..., Claim]:
    """User o-7's photo, at 40 %, its provider asked; the claim."""

    def make(provider: str = "studio", of: Provider = STUDIO) -> Claim:
        claim = claimed_task("o-7")
        store.write(lambda tx: remote_jobs.begin(tx, claim, provider, of, 0))
        store.write(lambda tx: report_progress(tx, claim.task_id, claim.lease, 40, "developing"))
        return claim

    return make


def wait(store: Store, clock: Clock, seconds: float = EIGHT_MINUTES) -> None:
    """Time passes, and the worker goes on to beat."""
    clock.advance(seconds)
    store.write(lambda tx: workers.beat(tx, "worker-1", 1))


def test_a_service_that_hangs_is_named_with_when_it_is_given_up_and_what_can_be_done(
    store: Store, at_40: Callable[..., Claim], clock: Clock
) -> None:
    claim = at_40()
    wait(store, clock, 120)
    told = why(store, claim.task_id)
    assert told["code"] == "processing.asked" and told["values"]["provider"] == "studio"
    assert told["values"]["patience_seconds"] == pytest.approx(180, abs=20)
    assert told["text"].startswith("Its worker lives and waits for studio, which was asked 2 min ago")
    assert "“Release” asks again" in told["text"]


def test_a_service_that_may_bill_twice_is_not_asked_again_and_the_diagnosis_says_so(
    store: Store, at_40: Callable[..., Claim], clock: Clock
) -> None:
    claim = at_40("costly", ONCE)
    wait(store, clock)
    told = why(store, claim.task_id)
    assert told["code"] == "processing.asked_once" and "nothing new for 8 min" in told["text"]
    assert "“Release” is refused" in told["text"] and "“Cancel” gives the credits back now" in told["text"]


def test_a_computing_worker_is_distinguished_from_a_waiting_one(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    claim = claimed_task("o-7")
    wait(store, clock, 15)
    assert why(store, claim.task_id)["code"] == "stuck.undelivered", "its worker has not begun it"
    begun = claims.Begun(claim.task_id, claim.lease, 0.0, 630.0)
    store.write(lambda tx: claims.mark_begun(tx, [begun]))
    wait(store, clock)
    told = why(store, claim.task_id)
    assert told["code"] == "processing" and told["values"]["limit_at"].endswith("Z")
    assert told["values"]["limit_at"] < store.task(claim.task_id)["deadline_at"], "the grace is the sweep's"
    assert "works on it with studio; nothing new for 8 min" in told["text"] and "after 5 min" in told["text"]


def test_a_silent_worker_is_left_to_the_rescue(
    store: Store, at_40: Callable[..., Claim], clock: Clock
) -> None:
    claim = at_40()
    clock.advance(14)
    assert why(store, claim.task_id)["code"] == "processing.silent"


def test_a_dead_worker_and_a_passed_deadline_are_stuck_and_the_command_line_gives_advice(
    store: Store, at_40: Callable[..., Claim], clock: Clock
) -> None:
    claim = at_40()
    wait(store, clock, 700)
    assert why(store, claim.task_id)["code"] == "stuck.deadline"
    where = {"DARKROOM_DATABASE_URL": store.settings.database_url}
    said = darkroom(store.settings.data_dir, "show", claim.task_id, **where).stdout
    assert "It has run past its deadline, 2" in said and "“Release” gives it to another worker now" in said
    told = json.loads(darkroom(store.settings.data_dir, "show", claim.task_id, "--json", **where).stdout)
    assert told["why"]["code"] == "stuck.deadline" and told["progress"] == 40
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    assert why(store, claim.task_id)["code"] == "stuck.dead_worker"


def test_a_remote_job_is_shown_with_its_id_its_next_poll_and_its_limit(
    store: Store, handed_off_task: Callable[..., str], clock: Clock
) -> None:
    task_id = handed_off_task("o-7", poll_in_seconds=30)
    told = why(store, task_id)
    assert told["code"] == "ai_processing" and told["values"]["deadline_at"] > told["values"]["poll_at"]
    store.write(
        lambda tx: operator_actions.pause(
            tx, Operator("o-oncall", "operator"), "provider", "studio", "a test"
        )
    )
    assert why(store, task_id)["code"] == "ai_processing.provider"
    clock.advance(4000)
    assert why(store, task_id)["code"] == "stuck.remote_overdue"


def test_a_waiting_task_shows_the_cause_of_its_wait(
    store: Store, admitted_task: Callable[..., str], clock: Clock
) -> None:
    task_id = admitted_task("o-7")
    assert why(store, task_id, position=3, eta_seconds=40)["text"].startswith("3 wait ahead of it")
    store.write(lambda tx: providers.take_room(tx, "studio", STUDIO.limits, probe_seconds=60))
    store.write(
        lambda tx: providers.note(
            tx, "studio", Sign.DOWN, probe=None, wait_seconds=60, reason="The key is wrong."
        )
    )
    told = why(store, task_id)
    assert told["code"] == "pending.provider" and "studio has been down since 2" in told["text"]
    store.write(
        lambda tx: operator_actions.pause(
            tx, Operator("o-oncall", "operator"), "type", "photography", "a test"
        )
    )
    assert why(store, task_id)["code"] == "pending.paused"


def test_a_task_that_is_tried_again_later_shows_why_the_attempt_failed(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task("o-7")
    store.write(lambda tx: history.note_failure(tx, claim.task_id, claim.lease, "ai_timeout", "It hung."))
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 300))
    told = why(store, claim.task_id)
    assert told["code"] == "pending.failed" and "Attempt 1 failed (It hung.)" in told["text"]


def test_ended_and_postponed_tasks_have_a_diagnosis_too(
    store: Store, completed_task: Callable[..., str], failed_task: Callable[..., str],
    admitted_task: Callable[..., str],
) -> None:  # fmt: skip
    assert why(store, completed_task())["code"] == "completed"
    assert "This can't be made." in why(store, failed_task())["text"]
    early = admitted_task("o-7", run_after="2099-01-01T00:00:00.000Z")
    assert why(store, early)["code"] == "pending.later"
    store.write(lambda tx: user_actions.cancel(tx, early))
    assert why(store, early)["code"] == "cancelled"


def test_running_tasks_without_progress_are_on_the_page_unasked(
    store: Store, at_40: Callable[..., Claim], clock: Clock
) -> None:
    claim = at_40()
    wait(store, clock)
    seen = store.database.read(lambda tx: overview.read(tx, store.settings))
    around = {"processes": [], "is_broker_up": True, "dispatcher": "d-1", "judge": "dispatcher"}
    (found,) = [each for each in troubles({**seen, **around}) if each["code"] == "no_progress"]
    assert found["subject"] == claim.task_id and "8 min" in found["text"]
