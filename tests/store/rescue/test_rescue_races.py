"""Rescue during other commits: PostgreSQL shows a statement the old row and locks the new one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from supervisor.core.claim import Claim
from supervisor.core.rescue import Reason
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.open_database import open_database
from supervisor.store.recovery import stuck_tasks
from supervisor.store.recovery.stuck_tasks import Rescued
from supervisor.store.tasks import claims, remote_wait, user_actions
from tests.conftest import Clock, Store

pytestmark = pytest.mark.postgresql_only

# Every read of the clock reads this table, so a lock on it stops a statement midway: the statement has its snapshot,
# and has locked no row.  A clock that is not stable is looked at only then, and never while the statement is planned.
_UNSTABLE_CLOCK = "ALTER FUNCTION darkroom_now() VOLATILE"
_STOP_CLOCKS = "LOCK TABLE rule IN ACCESS EXCLUSIVE MODE"
_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'rule'::regclass"


@pytest.fixture
def other(store: Store) -> Iterator[Database]:
    """Another process's way to the same database."""
    store.write(lambda tx: tx.execute(_UNSTABLE_CLOCK))
    opened = open_database(store.settings)
    yield opened
    opened.close()


def _rescue_beside(
    store: Store, other: Database, step: Callable[[Transaction], object], *, deadlines: bool = True
) -> list[Rescued]:
    """What a rescue does that has read the stuck rows and then, before it locks them, meets the step's commit."""
    found: list[list[Rescued]] = []

    def rescue() -> None:
        found.append(store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, deadlines=deadlines)))

    rescuer = threading.Thread(target=rescue)

    def commit_in_between(tx: Transaction) -> None:
        tx.execute(_STOP_CLOCKS)
        rescuer.start()
        deadline = time.monotonic() + 30
        while not tx.value(_WAITING):
            assert time.monotonic() < deadline, "the rescue waits for the clock"
        step(tx)

    other.write_now(commit_in_between)
    rescuer.join(30)
    assert found, "the rescue has ended"
    return found[0]


def test_a_retry_that_commits_beside_a_rescue_is_no_second_failure(
    store: Store, other: Database, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(lambda tx: tx.execute("UPDATE task_queue SET max_attempts = 2"))
    clock.advance(3600)
    said = "The worker's own word."
    rescued = _rescue_beside(
        store,
        other,
        lambda tx: claims.retry(tx, claim.task_id, claim.lease, 2.0, code="provider_error", message=said),
    )
    assert rescued == []
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"], row["deaths"], row["error"]) == ("pending", 1, 0, None)
    assert store.entries(claim.task_id) == [(1, "debit", -1)]


def test_a_remote_job_whose_poller_puts_it_back_is_not_lost_beside_it(
    store: Store, other: Database, clock: Clock, polled_task: Callable[..., tuple[str, int]]
) -> None:
    task_id, lease = polled_task()
    clock.advance(3700)
    rescued = _rescue_beside(store, other, lambda tx: claims.retry(tx, task_id, lease, 2.0))
    assert rescued == []
    row = store.task(task_id)
    assert (row["status"], row["failures"]) == ("pending", 1)
    assert store.entries(task_id) == [(1, "debit", -1)], "nothing was given back"


def test_a_task_that_is_paid_for_again_is_not_judged_by_its_first_charge(
    store: Store, other: Database, clock: Clock, admitted_task: Callable[..., str]
) -> None:
    task_id = admitted_task()
    clock.advance(90_000)

    def cancel_and_retry(tx: Transaction) -> None:
        user_actions.cancel(tx, task_id)
        user_actions.resubmit(tx, store.settings, task_id)

    assert _rescue_beside(store, other, cancel_and_retry) == []
    assert store.task(task_id)["status"] == "pending"
    assert store.entries(task_id) == [(1, "debit", -1), (1, "refund", 1), (2, "debit", -1)]


def test_a_hand_off_beside_a_passed_deadline_continues(
    store: Store, other: Database, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    clock.advance(700)
    rescued = _rescue_beside(
        store,
        other,
        lambda tx: remote_wait.hand_off(
            tx, claim.task_id, claim.lease, poll_in_seconds=9, remote_limit_seconds=3600
        ),
    )
    assert rescued == []
    row = store.task(claim.task_id)
    assert (row["status"], row["failures"], row["lease"]) == ("ai_processing", 0, claim.lease)


def test_those_beside_a_task_that_moves_are_rescued_in_the_same_round(
    store: Store, other: Database, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    moving, stuck = claimed_task("a"), claimed_task("b")
    clock.advance(700)
    rescued = _rescue_beside(store, other, lambda tx: claims.retry(tx, moving.task_id, moving.lease, 2.0))
    assert rescued == [Rescued(stuck.task_id, Reason.DEADLINE, "retried")]
    row = store.task(moving.task_id)
    assert (row["status"], row["failures"]) == ("pending", 1)
    assert store.task(stuck.task_id)["failures"] == 1
    assert json.loads(store.work(stuck.task_id)["images"]) == []
