"""One task with everything known about it and its AI service: the input of `supervisor.health.diagnosis`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from config.settings import Settings
from supervisor.core.placement import at_once, in_words
from supervisor.database.interface.database import Row, Transaction
from supervisor.health.liveness import Liveness
from supervisor.objects.disk_space import WAITING, WAITING_FOR_THE_STORE
from supervisor.schema.tables import OPEN
from supervisor.steps.lanes import read_lane
from supervisor.store.ledger import provider_costs
from supervisor.store.limits import pauses
from supervisor.store.operators import attempt_logs, audit, overview
from supervisor.store.queue import dispatch, liveness
from supervisor.store.queue.capacity import less_held
from supervisor.store.recovery import stuck_tasks
from supervisor.store.sql.rows import decoded
from supervisor.store.tasks import history, shown_steps, task_views
from supervisor.store.webhooks import webhook_attempts

View = dict[str, Any]


def examine(tx: Transaction, settings: Settings, task_id: str, *, is_broker_up: bool = True) -> View | None:
    """The task's row, history, steps, remote jobs, costs, webhooks, service, and operators' actions; None for no task.

    `view` is the user's view of the task, with its place instead of its position.  is_broker_up: the caller's finding.
    """
    row = tx.one(
        f"""SELECT id AS task_id, user_openid, type, status, stage, progress, attempt, lease, worker_id AS worker,
            priority, charge, failures, deaths, max_attempts, error, run_after,
            next_poll_at, remote_deadline_at, deadline_at, expires_at, created_at, updated_at, processing_started_at,
            finished_at, lane, params, {overview.unchanged(tx)} AS unchanged_seconds,
            {tx.as_text(tx.shifted("deadline_at", str(-settings.stuck_grace_seconds)))} AS limit_at,
            CASE WHEN run_after > {tx.now} THEN 1 ELSE 0 END AS is_early,
            CASE WHEN status = 'processing' AND begun_lease < lease
                THEN {tx.seconds_since("processing_started_at")} END AS unbegun_seconds
            FROM task_queue WHERE id = :task_id""",
        task_id=task_id,
    )
    if row is None:
        return None
    params, is_early = decoded(row.pop("params")), bool(row.pop("is_early"))
    lane = row.pop("lane")
    jobs = tx.all(
        f"""SELECT provider, state, remote_id, lease, charge, cancel_wanted, created_at, updated_at,
            {tx.seconds_since("created_at")} AS age_seconds FROM remote_job
            WHERE task_id = :task_id ORDER BY id""",
        task_id=task_id,
    )
    unbegun_seconds = row.pop("unbegun_seconds")
    if any(
        job["lease"] == row["lease"] for job in jobs
    ):  # it has begun, and its worker's next heartbeat records that
        unbegun_seconds = None
    alive = liveness.read(tx, settings.silent_seconds)
    return {
        "task": {**row, "error": decoded(row["error"])},
        "view": task_views.get(tx, task_id),
        "stuck": stuck_tasks.reason_of(tx, task_id),
        "worker": _holder(tx, row["worker"]),
        "house": {
            "is_dispatcher_fresh": alive.is_dispatcher_fresh,
            "dispatcher_silent_seconds": alive.dispatcher.silent_seconds,
            "takes_tasks": bool(alive.taking),
            "is_broker_up": is_broker_up,
            "free_slots": max(0, alive.slots - sum(each.busy for each in alive.taking)),
        },
        "limits": _limits(tx, settings, row),
        "room": _room(tx, settings, row["type"], lane, alive),
        "is_paused": pauses.is_paused(tx, pauses.TYPE, row["type"]),
        "waits_for_its_time": is_early,
        "unbegun_seconds": unbegun_seconds,
        "waits_for_room": row["worker"] is not None and row["stage"] in (WAITING, WAITING_FOR_THE_STORE),
        "service": _service(tx, settings, row, lane, params, jobs),
        "events": history.timeline(tx, task_id) or [],
        "remote_jobs": [{**job, "cancel_wanted": bool(job["cancel_wanted"])} for job in jobs],
        "steps": [
            {name: value for name, value in step.items() if name != "images"}
            for step in shown_steps.shown(tx, task_id)
        ],
        "costs": provider_costs.of_task(tx, task_id),
        "logs": attempt_logs.of_task(tx, task_id),
        "webhooks": webhook_attempts.of_task(tx, task_id),
        "audit": audit.of_task(tx, task_id),
    }


def _holder(tx: Transaction, worker_id: str | None) -> Row | None:
    return tx.one(
        f"""SELECT id, host, pid, state, {tx.seconds_since("seen_at")} AS silent_seconds
            FROM worker WHERE id = :worker_id""",
        worker_id=worker_id,
    )


def _limits(tx: Transaction, settings: Settings, row: Row) -> View:
    """Running tasks of the task's user and type, and their limits; 0 for no limit."""
    is_running = f"{OPEN} AND status <> 'pending'"
    of_type = settings.tasks.get(row["type"])
    most_of_type = of_type.max_running if of_type is not None else 0
    of_user = "SELECT count(*) FROM task_queue WHERE user_openid = :user AND"
    return {
        "user_running": int(tx.value(f"{of_user} {is_running}", user=row["user_openid"])),
        "user_limit": settings.limits.running_tasks_per_user,
        "type_running": dispatch.running_of_type(tx, row["type"]) if most_of_type else 0,
        "type_limit": most_of_type,
    }


def _room(tx: Transaction, settings: Settings, type_: str, lane: str, alive: Liveness) -> View:
    """What its type or its step needs, whether workers take tasks and none takes it, and how many have room now."""
    needs = {type_: read_lane(lane).needs} if lane else settings.needs_of_types
    return {
        "needs": in_words(needs.get(type_, {})),
        "has_worker": at_once(type_, needs, alive.rooms) > 0 or not alive.taking,
        "free": at_once(type_, needs, less_held(tx, alive.free_rooms, settings)),
    }


def _service(
    tx: Transaction, settings: Settings, row: Row, lane: str, params: Any, jobs: Sequence[Row]
) -> View:
    """The service of the present or next request.  is_available: whether it, or its fallback, may be used now;
    asked_seconds: for how long a request of this claim has been unanswered, or None; remote_id: of its job.
    """
    type_ = settings.tasks.get(row["type"])
    step = read_lane(lane) if lane else None
    chain: tuple[str, ...] = step.chain if step else type_.all_providers if type_ is not None else ()
    wished = params.get("provider") if isinstance(params, dict) else None
    if isinstance(wished, str) and wished in settings.providers:
        chain = (wished,)
    terms = step or type_
    of_charge = [job for job in jobs if job["charge"] == row["charge"]]
    asked = [job for job in of_charge if job["state"] == "submitting" and job["lease"] == row["lease"]]
    waiting = [job for job in of_charge if job["state"] == "waiting"]
    if asked or waiting:
        chain = ((asked or waiting)[-1]["provider"],)
    name = chain[0] if chain else None
    state = tx.one(
        "SELECT opened_at, reason, until FROM provider_state WHERE name = :name AND breaker = 'open'",
        name=name,
    )
    return {
        "name": name,
        "is_available": not chain or any(_may_be_asked(tx, each) for each in chain),
        "is_paused": name is not None and pauses.is_paused(tx, pauses.PROVIDER, name),
        "down_since": state["opened_at"] if state else None,
        "down_reason": state["reason"] if state else None,
        "asked_next_at": state["until"] if state else None,
        "may_bill_twice": name in settings.providers_that_may_bill_twice,
        "ai_timeout_seconds": terms.ai_timeout_seconds if terms is not None else None,
        "asked_seconds": asked[-1]["age_seconds"] if asked else None,
        "remote_id": waiting[-1]["remote_id"] if waiting else None,
    }


def _may_be_asked(tx: Transaction, provider: str) -> bool:
    is_open = tx.value(
        f"SELECT 1 FROM provider_state WHERE name = :provider AND breaker <> 'closed' AND until > {tx.now}",
        provider=provider,
    )
    return is_open is None and not pauses.is_paused(tx, pauses.PROVIDER, provider)
