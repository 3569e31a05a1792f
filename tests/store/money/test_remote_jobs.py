"""Evidence of paid requests: written before they are sent, never removed, and used by rescue."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost, MayBeBilledAlready, ProviderFull, ProviderTooFast
from supervisor.core.rescue import GiveUp, PollAgain, RunAgain, after_unanswered
from supervisor.remote.job_states import MOVES, RemoteState
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence
from supervisor.store.tasks import claims, user_actions
from tests.conftest import Clock, Store
from tests.support.databases import REFUSED

CAREFUL = Provider(kind="http", may_bill_twice=False)
EASY = Provider(kind="http", may_bill_twice=True)


def begin(
    store: Store, claim: Claim, provider: Provider = CAREFUL, part: int = 0, name: str = "ai"
) -> Evidence:
    return store.write(lambda tx: remote_jobs.begin(tx, claim, name, provider, part))


def limited(**limits: Any) -> Provider:
    return Provider(kind="http", may_bill_twice=True, limits=limits)  # type: ignore[arg-type]


def row(store: Store, evidence: Evidence) -> dict[str, Any]:
    (found,) = store.all("SELECT * FROM remote_job WHERE id = ?", evidence.id)
    return found


def kill_worker_and_rescue(store: Store, may_bill_twice: frozenset[str]) -> list[stuck_tasks.Rescued]:
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    return store.write(
        lambda tx: stuck_tasks.rescue(
            tx, chance=random.random, may_bill_twice=may_bill_twice, deadlines=False
        )
    )


# --- begin ---


def test_a_request_is_written_down_under_its_lease_with_a_unique_reference(store, claimed_task):
    claim = claimed_task()
    first, second = begin(store, claim), begin(store, claim, part=1)
    assert first.reference == f"{claim.task_id}.1.{claim.lease}.0.0" != second.reference
    found = row(store, first)
    assert (found["task_id"], found["charge"], found["lease"]) == (claim.task_id, 1, claim.lease)
    assert (found["provider"], found["state"], found["remote_id"]) == ("ai", "submitting", None)
    with pytest.raises(Exception, match="exists already"):
        begin(store, claim)


def test_a_worker_without_the_lease_can_not_begin(store, claimed_task):
    claim = claimed_task()
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
    with pytest.raises(LeaseLost):
        begin(store, claim)
    assert store.value("SELECT count(*) FROM remote_job") == 0


def claimed_again(store: Store, claim: Claim) -> Claim:
    """The next attempt's claim, on another worker than a dead one."""
    if store.value("SELECT 1 FROM worker WHERE id = 'worker-2'") is None:
        store.write(lambda tx: workers.register(tx, "worker-2", host="here", pid=2, slots=100))
    (again,) = [each for each in store.dispatch("worker-2") if each.task_id == claim.task_id]
    return again


@pytest.mark.parametrize("state", ["submitting", "unknown"])
def test_no_way_back_to_pending_sends_an_unanswered_request_again(store, claimed_task, state):
    claim = claimed_task()
    evidence = begin(store, claim)
    if state == "unknown":
        store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.UNKNOWN))
    store.write(
        lambda tx: claims.release(tx, claim.task_id, claim.lease)
    )  # a path that knows nothing of evidence
    again = claimed_again(store, claim)
    with pytest.raises(MayBeBilledAlready):
        begin(store, again, CAREFUL)
    assert begin(store, again, EASY).reference.endswith(f".{again.lease}.0.0")


@pytest.mark.parametrize(
    "state", [RemoteState.DONE, RemoteState.FAILED, RemoteState.LOST, RemoteState.CANCELLED]
)
def test_an_answered_request_may_be_sent_again(store, claimed_task, state):
    claim = claimed_task()
    evidence = begin(store, claim)
    assert store.write(lambda tx: remote_jobs.settle(tx, evidence, state))
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0))
    begin(store, claimed_again(store, claim), CAREFUL)


def test_a_new_charge_is_a_new_order(store, claimed_task):
    claim = claimed_task()
    begin(store, claim)
    store.write(lambda tx: claims.fail(tx, claim.task_id, claim.lease, "unknown_outcome", "Nobody knows."))
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, claim.task_id))
    begin(store, claimed_again(store, claim), CAREFUL)


# --- limits ---


def test_a_provider_has_a_limit_of_open_jobs(store, claimed_task):
    provider = limited(concurrency=2)
    first, second, third = claimed_task("u-1"), claimed_task("u-2"), claimed_task("u-3")
    evidence = begin(store, first, provider)
    begin(store, second, provider)
    with pytest.raises(ProviderFull):
        begin(store, third, provider)
    begin(store, third, provider, name="another")
    store.write(lambda tx: remote_jobs.accepted(tx, evidence, "remote-1"))
    with pytest.raises(ProviderFull):  # a job that waits at the service is open still
        begin(store, third, provider, part=1)
    store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.DONE))
    begin(store, third, provider, part=1)


def test_a_provider_is_asked_so_many_times_a_second(store, claimed_task):
    provider = limited(rps=2)
    claim = claimed_task()
    begin(store, claim, provider, part=0)
    begin(store, claim, provider, part=1)
    with pytest.raises(ProviderTooFast) as caught:
        begin(store, claim, provider, part=2)
    assert 0 < caught.value.wait_seconds <= 0.5
    assert store.value("SELECT count(*) FROM remote_job") == 2


def test_the_bucket_fills_with_time_and_never_above_a_seconds_worth(store, claimed_task, clock: Clock):
    provider = limited(rps=0.01)
    claim = claimed_task()
    begin(store, claim, provider, part=0)
    with pytest.raises(ProviderTooFast) as caught:
        begin(store, claim, provider, part=1)
    assert 90 < caught.value.wait_seconds <= 100
    clock.advance(caught.value.wait_seconds + 0.1)
    begin(store, claim, provider, part=1)
    clock.advance(1000)
    begin(store, claim, provider, part=2)
    with pytest.raises(ProviderTooFast):
        begin(store, claim, provider, part=3)


def test_a_clock_that_is_set_back_takes_no_tokens(store, claimed_task, clock: Clock):
    provider = limited(rps=1)
    claim = claimed_task()
    clock.advance(1000)
    begin(store, claim, provider, part=0)
    clock.advance(-500)
    with pytest.raises(ProviderTooFast) as caught:
        begin(store, claim, provider, part=1)
    assert caught.value.wait_seconds <= 1


def test_an_order_refused_by_the_rate_limit_takes_no_place(store, claimed_task):
    provider = limited(rps=1, concurrency=5)
    claim = claimed_task()
    begin(store, claim, provider, part=0)
    for part in (1, 2, 3):
        with pytest.raises(ProviderTooFast):
            begin(store, claim, provider, part=part)
    assert store.database.read(lambda tx: remote_jobs.count_open(tx, "ai")) == 1


# --- a known state is never undone ---


def in_state(store: Store, claim: Claim, state: RemoteState, part: int) -> Evidence:
    evidence = begin(store, claim, EASY, part)
    if state is not RemoteState.SUBMITTING:
        store.write(
            lambda tx: tx.execute("UPDATE remote_job SET state = ? WHERE id = ?", state.value, evidence.id)
        )
    return evidence


def test_the_database_allows_exactly_the_moves_of_the_table(store, claimed_task, producer):
    claim = claimed_task()
    parts = itertools.count()
    for source in RemoteState:
        for target in RemoteState:
            evidence = in_state(store, claim, source, next(parts))
            legal = source == target or target in MOVES.get(source, ())
            try:
                producer.execute("UPDATE remote_job SET state = ? WHERE id = ?", (target.value, evidence.id))
                moved = True
            except REFUSED as error:
                assert "never taken back" in str(error)
                moved = False
            assert moved == legal, (source, target)


def test_late_news_is_news_and_old_news_is_not(store, claimed_task):
    evidence = begin(store, claimed_task())
    assert store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.UNKNOWN))
    assert store.write(lambda tx: remote_jobs.accepted(tx, evidence, "remote-7"))
    assert not store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.UNKNOWN))
    assert store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.DONE))
    assert not store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.FAILED))
    assert (row(store, evidence)["state"], row(store, evidence)["remote_id"]) == ("done", "remote-7")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM remote_job",
        "UPDATE remote_job SET lease = lease + 1",
        "UPDATE remote_job SET provider = 'another'",
        "UPDATE remote_job SET reference = 'r'",
        "INSERT INTO remote_job (task_id, charge, lease, provider, reference, state) VALUES ('t',1,1,'p','r','done')",
    ],
)
def test_evidence_is_append_only_for_plain_sql_too(store, claimed_task, producer, statement):
    evidence = begin(store, claimed_task())
    with pytest.raises(REFUSED):
        producer.execute(statement)
    assert row(store, evidence)["state"] == "submitting"


@pytest.mark.sqlite_only
def test_evidence_is_not_replaced_either(store, claimed_task, producer):
    evidence = begin(store, claimed_task())
    with pytest.raises(REFUSED):
        producer.execute("INSERT OR REPLACE INTO remote_job SELECT * FROM remote_job")
    assert row(store, evidence)["state"] == "submitting"


def test_a_cancel_wants_the_remote_job_cancelled(store, claimed_task):
    claim = claimed_task()
    evidence = begin(store, claim)
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    assert (row(store, evidence)["cancel_wanted"], row(store, evidence)["state"]) == (1, "submitting")


# --- rescue ---


def test_the_verdict_on_an_unanswered_request():
    again = RunAgain(3.0, "deaths")
    assert after_unanswered(again, may_bill_twice=True) is again
    verdict = after_unanswered(again, may_bill_twice=False)
    assert isinstance(verdict, GiveUp)
    assert (verdict.code, verdict.counts) == ("unknown_outcome", "deaths")
    for other in (GiveUp("worker_died", "Died.", "deaths"), PollAgain()):
        assert after_unanswered(other, may_bill_twice=False) is other


def test_a_worker_killed_in_mid_call_fails_the_task_where_a_second_bill_is_not_allowed(store, claimed_task):
    before = store.settings.credits.signup_grant
    claim = claimed_task()
    evidence = begin(store, claim)
    (rescued,) = kill_worker_and_rescue(store, frozenset())
    assert (rescued.reason.value, rescued.action) == ("dead_worker", "failed")
    task = store.task(claim.task_id)
    assert task["status"] == "failed" and '"unknown_outcome"' in task["error"]
    assert (task["deaths"], task["failures"]) == (1, 0)
    assert store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]
    assert store.balance() == before
    assert row(store, evidence)["state"] == "unknown"


def test_a_worker_killed_in_mid_call_runs_it_again_where_a_second_bill_is_allowed(store, claimed_task):
    claim = claimed_task()
    evidence = begin(store, claim, EASY)
    (rescued,) = kill_worker_and_rescue(store, frozenset({"ai"}))
    assert rescued.action == "released"
    assert store.task(claim.task_id)["status"] == "pending"
    assert store.entries(claim.task_id) == [(1, "debit", -1)]
    assert row(store, evidence)["state"] == "unknown"
    begin(store, claimed_again(store, claim), EASY)


def test_every_asked_provider_must_allow_it(store, claimed_task):
    claim = claimed_task()
    begin(store, claim, EASY, name="easy")
    begin(store, claim, EASY, part=1, name="other")
    (rescued,) = kill_worker_and_rescue(store, frozenset({"easy"}))
    assert rescued.action == "failed"


@pytest.mark.parametrize("state", [RemoteState.DONE, RemoteState.FAILED])
def test_a_worker_killed_after_the_answer_is_an_ordinary_death(store, claimed_task, state):
    claim = claimed_task()
    evidence = begin(store, claim)
    store.write(lambda tx: remote_jobs.settle(tx, evidence, state))
    (rescued,) = kill_worker_and_rescue(store, frozenset())
    assert rescued.action == "released"
    assert row(store, evidence)["state"] == state


def test_a_worker_killed_between_knowing_nothing_and_saying_so_is_no_ordinary_death(store, claimed_task):
    claim = claimed_task()
    evidence = begin(store, claim)
    store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.UNKNOWN))
    (rescued,) = kill_worker_and_rescue(store, frozenset())
    assert rescued.action == "failed"


def test_a_deadline_in_mid_call_follows_the_same_verdict(store, claimed_task, clock: Clock):
    careful, easy = claimed_task("u-1"), claimed_task("u-2")
    begin(store, careful, CAREFUL, name="careful")
    begin(store, easy, EASY, name="easy")
    clock.advance(700)
    done = store.write(
        lambda tx: stuck_tasks.rescue(tx, chance=random.random, may_bill_twice=frozenset({"easy"}))
    )
    assert {each.task_id: each.action for each in done} == {
        careful.task_id: "failed",
        easy.task_id: "retried",
    }
    assert '"unknown_outcome"' in store.task(careful.task_id)["error"]


def test_abandoned_evidence_gives_its_place_back(store, claimed_task, clock: Clock):
    provider = limited(concurrency=1)
    cancelled: Claim = claimed_task("u-1")
    evidence = begin(store, cancelled, provider)
    store.write(lambda tx: user_actions.cancel(tx, cancelled.task_id))
    assert store.write(remote_jobs.close_stale) == 0  # its worker may be about to say more
    clock.advance(remote_jobs.STALE_SECONDS + 1)
    assert store.write(remote_jobs.close_stale) == 1
    assert row(store, evidence)["state"] == "unknown"
    begin(store, claimed_task("u-2"), provider)
    clock.advance(remote_jobs.STALE_SECONDS + 1)
    assert store.write(remote_jobs.close_stale) == 0  # a request may take as long as its AI time-out


@pytest.mark.sqlite_only
def test_looking_for_stale_evidence_reads_open_rows_only(store):
    plan = store.database.read(
        lambda tx: tx.all(
            "EXPLAIN QUERY PLAN UPDATE remote_job SET state = 'unknown' WHERE state IN ('submitting','waiting')"
            " AND state = 'submitting' AND updated_at <= 'x'"
        )
    )
    assert any("remote_job_open" in each["detail"] for each in plan), plan
