"""Operators' actions: each changes the row by the lifecycle's own steps and is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.core.errors import AlreadyFinished, LeaseLost, NotReleasable, ProviderIsDown, WorkerNotFound
from supervisor.health.troubles import troubles
from supervisor.store.limits import pauses, providers
from supervisor.store.operators import audit, operator_actions, overview, task_details
from supervisor.store.operators.audit import Operator
from supervisor.store.queue import queue_snapshot
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims
from supervisor.store.tasks import user_actions as tasks
from tests.conftest import Clock, Store
from tests.support.databases import REFUSED, Plain
from tests.support.workers import complete
from web.openapi.ops_schemas import OpsOverview
from web.openapi.ops_task_schemas import OpsExaminedTask

OPERATOR = Operator("o-oncall", "operator")
COSTLY = Provider(kind="http", may_bill_twice=False)  # type: ignore[arg-type]


def actions(store: Store) -> list[tuple[str, str, str]]:
    """(action, kind, target), newest first."""
    rows = store.database.read(lambda tx: audit.newest(tx, 50))
    assert all((row["operator"], row["role"]) == OPERATOR and row["at"] for row in rows)
    return [(row["action"], row["kind"], row["target"]) for row in rows]


def test_a_released_task_is_taken_from_its_worker_at_no_cost(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    view = store.write(lambda tx: operator_actions.release(tx, store.settings, OPERATOR, claim.task_id))
    row = store.task(claim.task_id)
    assert (view["status"], row["failures"], row["deaths"], row["ready"]) == ("pending", 0, 0, 1)
    with pytest.raises(LeaseLost):
        store.write(lambda tx: complete(tx, claim.task_id, claim.lease, []))
    (entry,) = store.database.read(lambda tx: audit.of_task(tx, claim.task_id))
    assert entry["before"]["status"] == "processing" and entry["after"]["status"] == "pending"


def test_a_task_that_waits_for_its_time_is_due_at_once(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 300))
    assert store.dispatch() == []
    store.write(lambda tx: operator_actions.release(tx, store.settings, OPERATOR, claim.task_id))
    assert [hint.task_id for hint in store.dispatch()] == [claim.task_id]


def test_a_remote_job_is_asked_about_at_once(store: Store, handed_off_task: Callable[..., str]) -> None:
    task_id = handed_off_task(poll_in_seconds=300)
    assert store.claim_polls() == []
    store.write(lambda tx: operator_actions.release(tx, store.settings, OPERATOR, task_id))
    assert [poll.task_id for poll in store.claim_polls()] == [task_id]


def test_a_request_that_may_be_billed_twice_is_not_released(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    store.write(lambda tx: remote_jobs.begin(tx, claim, "costly", COSTLY, 1))
    with pytest.raises(NotReleasable, match="costly"):
        store.write(lambda tx: operator_actions.release(tx, store.settings, OPERATOR, claim.task_id))
    assert store.task(claim.task_id)["status"] == "processing" and actions(store) == []


def test_a_refused_action_leaves_no_entry(store: Store, completed_task: Callable[..., str]) -> None:
    task_id = completed_task()
    with pytest.raises(AlreadyFinished):
        store.write(lambda tx: operator_actions.cancel(tx, OPERATOR, task_id))
    with pytest.raises(NotReleasable, match="completed"):
        store.write(lambda tx: operator_actions.release(tx, store.settings, OPERATOR, task_id))
    with pytest.raises(WorkerNotFound):
        store.write(lambda tx: operator_actions.drain(tx, OPERATOR, "nobody"))
    assert actions(store) == []


def test_a_cancel_is_undone_by_a_retry_and_both_are_recorded(
    store: Store, admitted_task: Callable[..., str]
) -> None:
    task_id = admitted_task()
    store.write(lambda tx: operator_actions.cancel(tx, OPERATOR, task_id))
    store.write(lambda tx: operator_actions.retry(tx, store.settings, OPERATOR, task_id))
    assert store.task(task_id)["status"] == "pending"
    assert actions(store) == [("retry", "task", task_id), ("cancel", "task", task_id)]


def test_a_paused_type_leaves_the_pick_until_it_is_resumed(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    paused, other = admitted_task(), admitted_task("o-2", type_="fitting")
    store.write(
        lambda tx: operator_actions.pause(tx, OPERATOR, "type", "photography", "the model is replaced")
    )
    assert [hint.task_id for hint in store.dispatch()] == [other]
    assert store.write(lambda tx: operator_actions.resume(tx, OPERATOR, "type", "photography"))
    assert [hint.task_id for hint in store.dispatch()] == [paused]
    assert not store.write(lambda tx: operator_actions.resume(tx, OPERATOR, "type", "photography"))
    assert [action for action, _, _ in actions(store)] == ["resume", "pause"]


def test_a_paused_provider_is_sent_nothing_new(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    live_worker()
    admitted_task()
    store.write(lambda tx: operator_actions.pause(tx, OPERATOR, "provider", "studio", ""))
    assert store.dispatch() == []
    limits = store.settings.providers["studio"].limits
    with pytest.raises(ProviderIsDown):
        store.write(lambda tx: providers.take_room(tx, "studio", limits, probe_seconds=30))
    store.write(lambda tx: operator_actions.resume(tx, OPERATOR, "provider", "studio"))
    assert len(store.dispatch()) == 1


def test_a_pause_wakes_the_dispatcher(store: Store, producer: Plain) -> None:
    if store.database.read(lambda tx: tx.dialect.name) == "postgresql":
        producer.execute("LISTEN darkroom_dispatch")
        store.write(lambda tx: pauses.pause(tx, "type", "photography", OPERATOR.name, ""))
        store.write(lambda tx: pauses.resume(tx, "type", "photography"))
        raw: Any = producer
        assert len(list(raw.raw.notifies(timeout=90, stop_after=2))) == 2
    else:
        before = store.value("SELECT dispatch FROM wake")
        store.write(lambda tx: pauses.pause(tx, "type", "photography", OPERATOR.name, ""))
        store.write(lambda tx: pauses.resume(tx, "type", "photography"))
        assert store.value("SELECT dispatch FROM wake") == before + 2


def test_a_drained_worker_gets_nothing_new(
    store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    worker = live_worker()
    assert store.write(lambda tx: operator_actions.drain(tx, OPERATOR, worker)) == "live"
    admitted_task()
    assert store.dispatch() == []


def test_the_record_can_not_be_rewritten(
    store: Store, producer: Plain, live_worker: Callable[..., str]
) -> None:
    worker = live_worker()
    store.write(lambda tx: operator_actions.drain(tx, OPERATOR, worker))
    for statement in ("UPDATE audit SET operator = 'o-2'", "DELETE FROM audit"):
        with pytest.raises(REFUSED, match="append-only"):
            producer.execute(statement)


def seen(store: Store) -> dict[str, Any]:
    return {
        **store.database.read(lambda tx: overview.read(tx, store.settings)),
        "you": {"user": "ann", "role": "viewer"},
        "processes": [],
        "is_broker_up": True,
    }


def codes(store: Store) -> set[tuple[str, str | None]]:
    return {(each["code"], each["subject"]) for each in troubles(seen(store))}


def test_the_overview_shows_troubles(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim], admitted_task: Callable[..., str]
) -> None:
    assert ("no_workers", None) in codes(store)
    claim = claimed_task()
    assert ("no_workers", None) not in codes(store) and ("stuck", "deadline") not in codes(store)
    admitted_task("o-2")
    clock.advance(700)
    assert {("stuck", "deadline"), ("queue_old", "photography")} <= codes(store)
    now = seen(store)
    assert [(each["task_id"], each["reason"]) for each in now["stuck"]] == [(claim.task_id, "deadline")]
    assert [each["task_id"] for each in now["running"]] == [claim.task_id]
    (worker,) = now["workers"]
    assert (worker["held"], worker["state"]) == (1, "live")
    store.write(lambda tx: operator_actions.pause(tx, OPERATOR, "provider", "studio", ""))
    assert ("provider_paused", "studio") in codes(store)


def test_failures_are_grouped_by_type_and_code(store: Store, failed_task: Callable[..., str]) -> None:
    tasks = [failed_task(f"o-{n}") for n in range(3)]
    (group,) = seen(store)["failures"]
    assert (group["type"], group["code"], group["count"]) == ("photography", "invalid_input", 3)
    assert group["last_task"] in tasks


def test_a_task_is_examined_with_all_that_belongs_to_it(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task("o-7")
    store.write(lambda tx: remote_jobs.begin(tx, claim, "costly", COSTLY, 1))
    found = store.database.read(lambda tx: task_details.examine(tx, store.settings, claim.task_id))
    assert found is not None
    assert found["task"]["user_openid"] == "o-7" and found["worker"]["state"] == "live"
    assert [job["provider"] for job in found["remote_jobs"]] == ["costly"]
    assert [each["event"] for each in found["events"]][-1] == "claimed"
    assert found["stuck"] is None


def test_next_tasks_are_in_the_order_of_the_pick_with_positions_in_the_whole_queue(
    store: Store,
    admitted_task: Callable[..., str],
    cancelled_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:
    first = admitted_task("o-1")
    second = admitted_task("o-1")
    of_another = admitted_task("o-2", type_="fitting")
    urgent = admitted_task("o-3", priority=5)
    admitted_task("o-4", run_after="2099-01-01T00:00:00.000Z")
    cancelled_task("o-5")
    seen = store.database.read(lambda tx: overview.read(tx, store.settings))["line"]
    assert [each["task_id"] for each in seen] == [urgent, first, of_another, second]
    assert [each["position"] for each in seen] == [0, 1, 2, 3]
    assert (seen[2]["type"], seen[2]["user_openid"], seen[0]["priority"]) == ("fitting", "o-2", 5)
    order = store.database.read(lambda tx: queue_snapshot.read_order(tx, store.settings))
    for each in seen:
        view = store.database.read(lambda tx, of=each["task_id"]: tasks.get(tx, of))  # type: ignore[misc]
        assert view is not None and order.placed(view)["queue_position"] == each["position"]
    live_worker(slots=1)
    assert [hint.task_id for hint in store.dispatch()] == [urgent]
    seen = store.database.read(lambda tx: overview.read(tx, store.settings))["line"]
    assert [(each["position"], each["task_id"]) for each in seen][:1] == [(0, first)]


def test_each_database_returns_the_described_fields(
    store: Store, claimed_task: Callable[..., Claim], failed_task: Callable[..., str],
    handed_off_task: Callable[..., str], admitted_task: Callable[..., str], clock: Clock,
) -> None:  # fmt: skip
    failed_task()
    claim = claimed_task()
    store.write(lambda tx: remote_jobs.begin(tx, claim, "costly", COSTLY, 1))
    handed_off_task("o-2")
    admitted_task("o-3")
    store.write(lambda tx: operator_actions.pause(tx, OPERATOR, "type", "fitting", "a test"))
    clock.advance(700)
    seen = store.database.read(lambda tx: overview.read(tx, store.settings))
    assert seen["running"] and seen["stuck"] and seen["line"] and seen["failures"] and seen["audit"]
    for name, field in OpsOverview.model_fields.items():
        if name in seen:
            TypeAdapter(field.annotation).validate_json(json.dumps(seen[name]), strict=True)
    found = store.database.read(lambda tx: task_details.examine(tx, store.settings, claim.task_id))
    assert found is not None and found["remote_jobs"] and found["stuck"] == "deadline"
    for name, field in OpsExaminedTask.model_fields.items():
        if name in found:
            TypeAdapter(field.annotation).validate_json(json.dumps(found[name]), strict=True)


def test_a_healthy_system_has_no_troubles() -> None:
    well: dict[str, Any] = {
        "workers": [{"state": "live", "is_fresh": True}],
        "dispatcher": "d-1",
        "dispatcher_silent_seconds": 0.2,
        "dispatcher_working_seconds": 3600.0,
        "judge": "dispatcher",
        "is_broker_up": True,
        "deadly": [],
        "ends": [],
        "postponed": [],
        "notices": [],
        "pending_limit": 100,
        "slots": {"all": 4, "busy": 1},
        "stuck_counts": {},
        "running": [],
        "providers": [{"name": "studio", "breaker": "closed", "troubles": 0, "is_paused": False}],
        "queue": [
            {
                "type": "photography",
                "oldest_seconds": 3.0,
                "pending": 1,
                "due": 1,
                "is_paused": False,
                "has_worker": True,
                "needs": "",
                "usual_seconds": None,
            }
        ],
        "sweeps": [{"finished_at": "2026-01-01T00:00:00.000Z", "ago_seconds": 40.0}],
        "processes": [{"name": "web", "state": "ready"}],
        "webhooks": {"oldest_seconds": 300.0, "addresses": []},
    }
    assert troubles(well) == []
    well["processes"] = [{"name": "web", "state": "given up"}]
    well["sweeps"] = [{"finished_at": "2026-01-01T00:00:00.000Z", "ago_seconds": 400.0}]
    assert [each["code"] for each in troubles(well)] == ["sweep_silent", "process_down"]
    assert troubles({**well, "is_broker_up": False})[0]["code"] == "broker_away"
    owed = {**well, "webhooks": {"oldest_seconds": 3700.0, "addresses": []}}
    assert [each["code"] for each in troubles(owed)][-1] == "webhooks_late"
