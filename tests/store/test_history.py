"""A task's history: every step in order, attributed to the process that made it, and never changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from actors.providers.base import Lost, ProviderError, RateLimited
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost
from supervisor.core.lifecycle import TRANSITIONS, Event, Status
from supervisor.objects.open_store import open_file_store
from supervisor.schema.shared import history_rows
from supervisor.services.sweep import sweep
from supervisor.store.tasks import claims, history, remote_wait, user_actions
from tests.conftest import Clock, Store
from tests.support.databases import REFUSED, Plain


def events(store: Store, task_id: str) -> list[str]:
    found = store.database.read(lambda tx: history.timeline(tx, task_id))
    assert found is not None
    return [each["event"] for each in found]


def happened(store: Store, task_id: str, event: str) -> dict[str, Any]:
    """The one step of that name."""
    found = store.database.read(lambda tx: history.timeline(tx, task_id))
    assert found is not None
    (only,) = [each for each in found if each["event"] == event]
    return only


def test_a_task_that_succeeds_has_every_step_in_order(
    store: Store, completed_task: Callable[..., str]
) -> None:
    task_id = completed_task()
    assert events(store, task_id) == ["submitted", "debited", "admitted", "claimed", "completed"]
    claimed = happened(store, task_id, "claimed")
    assert (claimed["worker"], claimed["lease"], claimed["attempt"]) == ("worker-1", 1, 1)
    assert happened(store, task_id, "debited")["credits"] == -1


def test_a_retry_says_why_the_attempt_failed_and_when_the_next_is_due(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(
        lambda tx: claims.retry(tx, claim.task_id, claim.lease, 30, code="ai_timeout", message="Too slow.")
    )
    assert events(store, claim.task_id)[-2:] == ["attempt_failed", "retried"]
    assert happened(store, claim.task_id, "attempt_failed")["error"] == {
        "code": "ai_timeout",
        "message": "Too slow.",
    }
    retried = happened(store, claim.task_id, "retried")
    assert retried["run_after"] == store.task(claim.task_id)["run_after"] and retried["worker"] == "worker-1"


def test_a_lost_lease_leaves_no_trace(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    before = events(store, claim.task_id)
    with pytest.raises(LeaseLost):
        store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 1, code="internal", message="-"))
    assert events(store, claim.task_id) == before


@pytest.mark.parametrize("kind", [ProviderError, Lost, RateLimited])
def test_an_errors_text_can_be_stored_whatever_a_service_or_a_model_says(
    store: Store, claimed_task: Callable[..., Claim], kind: type[ProviderError]
) -> None:
    """Else the attempt has no end, and its task keeps its worker's slot and offers."""
    error = kind("half \ud800, nothing \0" + "x" * 1_000_000)
    error.code = ProviderError("", code="co\0de").code
    put_back, failed = claimed_task("o-1"), claimed_task("o-2")
    store.write(
        lambda tx: claims.postpone(
            tx, put_back.task_id, put_back.lease, 20, code=error.code, message=error.message
        )
    )
    store.write(lambda tx: claims.fail(tx, failed.task_id, failed.lease, error.code, error.message))
    told = store.task(failed.task_id)["error"]
    told = json.loads(told) if isinstance(told, str) else told
    assert told["message"].startswith("half \ufffd, nothing \ufffdx") and told["code"] == "co\ufffdde"
    assert len(told["message"]) < 10_000 and str(error) == error.message


def test_the_causes_that_put_a_task_back_are_distinguished(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    drained, died, full = (claimed_task(f"o-{n}") for n in range(3))
    store.write(lambda tx: claims.release(tx, drained.task_id, drained.lease))
    store.write(lambda tx: claims.release(tx, died.task_id, died.lease, died=True))
    store.write(lambda tx: claims.postpone(tx, full.task_id, full.lease, 20))
    assert happened(store, drained.task_id, "released")["error"] is None
    assert happened(store, died.task_id, "released")["error"]["code"] == "worker_died"
    assert happened(store, full.task_id, "postponed")["run_after"] is not None


def test_a_remote_job_is_handed_off_once_and_its_polls_are_not_listed(
    store: Store, polled_task: Callable[..., tuple[str, int]]
) -> None:
    task_id, lease = polled_task()
    store.write(lambda tx: remote_wait.not_yet(tx, task_id, lease, 0, progress=40))
    assert events(store, task_id) == ["submitted", "debited", "admitted", "claimed", "handed_off"]


def test_steps_by_plain_sql_are_in_it_too(
    store: Store, producer: Plain, pending_task: Callable[..., str]
) -> None:
    task_id = pending_task(type_="no_such_type")
    store.admit_waiting()
    assert events(store, task_id) == ["submitted", "rejected"]
    assert happened(store, task_id, "rejected")["error"]["code"] == "unknown_type"


def test_a_resubmission_by_plain_sql_is_one_step(
    store: Store, producer: Plain, failed_task: Callable[..., str]
) -> None:
    task_id = failed_task()
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE id = ?", (task_id,))
    store.admit_waiting()
    assert events(store, task_id)[-5:] == ["failed", "refunded", "resubmitted", "debited", "admitted"]


def test_one_statement_over_many_tasks_writes_each_ones_step(
    store: Store, producer: Plain, failed_task: Callable[..., str]
) -> None:
    failed = [failed_task(f"o-{n % 2}") for n in range(4)]
    producer.execute("UPDATE task_queue SET status = 'pending' WHERE status = 'failed'")
    assert [events(store, task_id).count("resubmitted") for task_id in failed] == [1, 1, 1, 1]


def test_every_arrow_that_changes_the_status_has_a_name() -> None:
    named = {
        Event.ADMIT: "admitted",
        Event.REJECT: "rejected",
        Event.CLAIM: "claimed",
        Event.HAND_OFF: "handed_off",
        Event.COMPLETE: "completed",
        Event.FAIL: "failed",
        Event.ADVANCE: "advanced",
        Event.RETRY: "retried",
        Event.ORDER_AGAIN: "postponed",
        Event.RELEASE: "released",
        Event.POSTPONE: "postponed",
        Event.CANCEL: "cancelled",
        Event.RESUBMIT: "resubmitted",
    }
    assert {arrow.event for arrow in TRANSITIONS if arrow.source != arrow.target} <= set(named)
    given = set(re.findall(r"(?:THEN|ELSE) '(\w+)'", history_rows.event_of("new", "old"))) | set(Status)
    assert set(named.values()) <= given


def test_the_history_of_an_open_task_cannot_be_rewritten(
    store: Store, producer: Plain, claimed_task: Callable[..., Claim]
) -> None:
    task_id = claimed_task().task_id
    for statement in (
        "UPDATE task_event SET event = 'completed' WHERE task_id = ?",
        "DELETE FROM task_event WHERE task_id = ?",
    ):
        with pytest.raises(REFUSED, match="history"):
            producer.execute(statement, (task_id,))
    assert events(store, task_id)[-1] == "claimed"


def test_it_goes_with_its_task(store: Store, producer: Plain, completed_task: Callable[..., str]) -> None:
    task_id = completed_task()
    producer.execute("DELETE FROM task_queue WHERE id = ?", (task_id,))
    assert store.value("SELECT count(*) FROM task_event") == 0


def test_the_sweep_forgets_old_steps_of_finished_tasks_alone(
    store: Store, clock: Clock, completed_task: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    finished, waits = completed_task(), admitted_task("o-2", run_after="2999-01-01T00:00:00.000Z")
    store.settings = store.settings.model_copy(
        update={"retention": store.settings.retention.model_copy(update={"event_days": 1})}
    )
    clock.advance(86_300)
    assert store.write(lambda tx: history.prune(tx, 86_400, 1000)) == 0
    clock.advance(200)
    store.write(lambda tx: tx.execute("UPDATE task_queue SET expires_at = NULL WHERE id = ?", waits))
    sweep(store.database, store.settings, open_file_store(store.settings))
    assert store.value("SELECT count(*) FROM task_event WHERE task_id = ?", finished) == 0
    assert store.value("SELECT count(*) FROM task_event WHERE task_id = ?", waits) == 2


def test_only_its_own_user_sees_it(store: Store, completed_task: Callable[..., str]) -> None:
    task_id = completed_task("o-1")
    read = store.database.read
    assert read(lambda tx: history.timeline(tx, task_id, "o-2")) is None
    assert read(lambda tx: history.timeline(tx, task_id, "o-1")) is not None
    assert json.dumps(read(lambda tx: history.timeline(tx, task_id)))
