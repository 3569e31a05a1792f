"""The way of an order through any door: named, translated, checked, its inputs stored, handed in once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from supervisor.core.task_params import Submission, check_submission
from supervisor.store.tasks.new_task import Key, NewTask, Repeatable
from supervisor.store.tasks.submit import Submitted
from supervisor.telemetry import tracing
from web.doors.door_bodies import canonical_hash
from web.doors.door_inputs import with_placeholders, with_uploads
from web.doors.order_members import params_of
from web.doors.repeated_orders import HandIn
from web.handling.context import IDENTITY, TASK, TRACE, context_of
from web.handling.idempotency_header import key_of


@dataclass(frozen=True)
class Asked:
    """An order as a door has understood it.

    params: as `params_of` makes them.  checked: the same as a submission, with placeholders where something is to be
    stored first.  body_hash: of all that was asked.  webhook_door: in whose words a webhook is told.  wanted: what the
    door itself needs to answer.
    """

    door: str
    type: str
    params: dict[str, Any]
    checked: Submission
    body_hash: str
    key: Key | None
    webhook: str | None = None
    webhook_door: dict[str, Any] | None = None
    wanted: dict[str, Any] = field(default_factory=dict)


def beginning() -> Callable[[], float]:
    """A function that tells how many seconds ago this was called."""
    begun = time.monotonic()
    return lambda: time.monotonic() - begun


def asked_of(
    request: web.Request,
    door: str,
    type_: str,
    members: dict[str, Any],
    *,
    body: Any,
    is_form: bool = False,
    webhook: str | None = None,
    webhook_door: dict[str, Any] | None = None,
    wanted: dict[str, Any] | None = None,
) -> Asked:
    """The order that these members of a body make, checked as far as can be before anything is stored.

    Raises a Problem and BadTask.
    """
    settings = context_of(request).settings
    params = params_of(members, settings.tasks[type_], is_form=is_form)
    checked = _check(request, type_, with_placeholders(params), webhook)
    hashed = canonical_hash(request.path, sorted(request.query.items()), body)
    key = key_of(request, request[IDENTITY].user, hashed)
    return Asked(door, type_, params, checked, hashed, key, webhook, webhook_door, wanted or {})


def repeatable(request: web.Request, asked: Asked, seconds_since_begin: Callable[[], float]) -> Repeatable:
    """What a repeat of this order would be known by."""
    return Repeatable(request[IDENTITY].user, asked.door, asked.body_hash, seconds_since_begin)


async def handed_in(
    request: web.Request, asked: Asked, order: Repeatable, hand_in: HandIn
) -> tuple[Submitted, dict[str, Any]]:
    """The task of an order, and its params.  Raises as `check_submission`, `with_uploads` and `hand_in`."""
    identity = request[IDENTITY]
    submission = asked.checked
    if submission.params != asked.params:
        submission = _check(request, asked.type, await with_uploads(request, asked.params), asked.webhook)
    with tracing.span("submit", "server", parent=request.headers.get("traceparent", "")) as span:
        request[TRACE] = span.trace_id
        submitted = await hand_in(
            NewTask(
                identity.user,
                submission.type,
                submission.params,
                checked=submission.checked,
                key=asked.key,
                webhook=submission.webhook,
                webhook_door=asked.webhook_door,
                trace=span.traceparent,
                proofs=identity.proofs,
                repeats=order,
            )
        )
        task_id = submitted.view["task_id"]
        outcome = "replayed" if submitted.is_replay else "stored"
        span.set_attributes(task_id=task_id, type=asked.type, outcome=outcome)
    request[TASK] = task_id
    return submitted, submission.params


def _check(request: web.Request, type_: str, params: dict[str, Any], webhook: str | None) -> Submission:
    body: dict[str, Any] = {"type": type_, "params": params}
    if webhook is not None:
        body["webhook"] = webhook
    return check_submission(body, context_of(request).settings, may_jump_the_queue=False)


def place_of(pointer: str) -> list[str]:
    """Where a mistake stands in a door's body: without the levels that only our own body has."""
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/") if part]
    while parts and parts[0] in ("params", "parameters"):
        parts = parts[1:]
    return parts
