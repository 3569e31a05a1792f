"""/v1/ops/…: the operators' view of the system, and their actions on tasks and parts; every action is recorded."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import web

from supervisor.core.errors import TaskNotFound, WebhookNotFound, WorkerNotFound
from supervisor.core.ids import is_webhook_id
from supervisor.database.interface.database import Transaction
from supervisor.health.diagnosis import diagnose
from supervisor.health.troubles import troubles
from supervisor.processes.host_state import clock_ahead_seconds, is_broker_up, look_around
from supervisor.security.tokens import is_user_name
from supervisor.selection.task_filter import BadFilter, read_filter
from supervisor.services.sweep import sweep_now
from supervisor.store.limits import pauses
from supervisor.store.operators import (
    audit,
    database_space,
    operator_actions,
    overview,
    task_details,
    task_search,
)
from supervisor.store.recovery import stuck_views
from supervisor.store.tasks import user_actions
from web.api.tasks import STATUSES
from web.handling.context import context_of
from web.handling.path_names import id_in_path, task_in_path
from web.handling.request_bodies import bad_cursor, read_json, text_of
from web.handling.responses import json_answer
from web.http.detached_work import finished
from web.http.problems import Problem, unprocessable
from web.operators.action_requests import one_line, write
from web.operators.authorisation import operator_of, viewer_of
from web.operators.ops_samples import SAMPLES

View = dict[str, Any]

MOST_PAUSE_BYTES = 4096
MOST_FOUND = 50
FOUND = (
    "task_id", "user_openid", "type", "status", "stage", "progress", "queue_position", "eta_seconds", "attempt",
    "max_attempts", "error", "created_at",
)  # fmt: skip


async def show_overview(request: web.Request) -> web.Response:
    """200 with the state of the whole system."""
    viewer = viewer_of(request)
    context = context_of(request)
    before = time.time()
    seen = await context.read(request, lambda tx: overview.read(tx, context.settings))
    seen["clock_ahead_seconds"] = clock_ahead_seconds(seen["at"], before, time.time())
    seen["hears_changes"] = context.metrics.hears_changes
    seen["database_refuses"] = await asyncio.to_thread(database_space.refusal, context.database)
    seen["store_trouble"] = context.store_trouble()
    seen |= await asyncio.to_thread(look_around, context.settings)
    samples = request.app[SAMPLES]
    seen["samples"] = list(samples)
    seen["you"] = {"user": viewer.name, "role": viewer.role}
    return json_answer({**seen, "troubles": troubles(seen)})


async def find_tasks(request: web.Request) -> web.Response:
    """200 with a page of tasks of any user, newest first."""
    viewer_of(request)
    context = context_of(request)
    if "stuck" in request.query:
        return await _find_stuck(request)
    if any(name in request.query for name in FILTERED_BY):
        return await _find_by_filter(request)
    user, cursor = (request.query.get(name) for name in ("user", "cursor"))
    status, type_ = _status_of(request), text_of(request, "type")
    if user is not None and not is_user_name(user):
        raise unprocessable("/user", "user must be 1-128 characters, no control characters.")
    try:
        page = await context.read(
            request,
            lambda tx: user_actions.page(
                tx, user, status=status, type_=type_, limit=MOST_FOUND, cursor=cursor
            ),
        )
    except ValueError:
        raise bad_cursor() from None
    items = [await context.queue_positions.placed(each) for each in page.items]
    return json_answer({"items": [{name: each[name] for name in FOUND} for each in items], "next": page.next})


def _status_of(request: web.Request) -> str | None:
    """The status that tasks are to have, of the query."""
    status = request.query.get("status")
    if status is not None and status not in STATUSES:
        raise unprocessable("/status", f"status must be one of {', '.join(sorted(STATUSES))}.")
    return status


async def _find_stuck(request: web.Request) -> web.Response:
    """200 with the tasks that the next sweep would rescue, each with the reason."""
    if request.query["stuck"] != "true":
        raise unprocessable("/stuck", "stuck must be true, or left out.")
    for other in sorted(request.query.keys() - {"stuck", "status"}):
        raise unprocessable(f"/{other}", f"stuck goes with status alone: leave out stuck, or {other}.")
    status, context = _status_of(request), context_of(request)
    found = await context.read(request, lambda tx: stuck_views.read(tx, MOST_FOUND, status=status))
    placed = [(await context.queue_positions.placed(view), reason) for view, reason in found]
    items = [{**{name: view[name] for name in FOUND}, "stuck": reason} for view, reason in placed]
    return json_answer({"items": items, "next": None})


FILTERED_BY = ("code", "text", "provider", "from", "to")


async def _find_by_filter(request: web.Request) -> web.Response:
    """200 with the tasks that meet a filter, the newest; 422 for a wrong condition."""
    context = context_of(request)
    try:
        wanted = read_filter({name: text for name, text in request.query.items() if name != "cursor"})
    except BadFilter as bad:
        raise unprocessable(f"/{bad.member}", str(bad)) from None

    def find(tx: Transaction) -> list[View]:
        found = task_search.newest(tx, context.settings, wanted, MOST_FOUND)
        views = (user_actions.get(tx, each["task_id"]) for each in found)
        return [view for view in views if view is not None]

    items = [await context.queue_positions.placed(each) for each in await context.read(request, find)]
    return json_answer({"items": [{name: each[name] for name in FOUND} for each in items], "next": None})


async def show_task(request: web.Request) -> web.Response:
    """200 with one task and all its data."""
    viewer_of(request)
    task_id, context = task_in_path(request), context_of(request)
    is_up = await asyncio.to_thread(is_broker_up, context.settings)
    found = await context.read(
        request, lambda tx: task_details.examine(tx, context.settings, task_id, is_broker_up=is_up)
    )
    if found is None:
        raise TaskNotFound(task_id)
    placed = await context.queue_positions.placed(found.pop("view"))
    position, eta = placed["queue_position"], placed["eta_seconds"]
    why = diagnose(found, position=position, eta_seconds=eta)
    return json_answer({**found, "why": why, "queue_position": position, "eta_seconds": eta})


async def cancel(request: web.Request) -> web.Response:
    """202 with the cancelled task; 409 when it has finished."""
    operator, task_id, context = operator_of(request), task_in_path(request), context_of(request)
    view = await write(request, lambda tx: operator_actions.cancel(tx, operator, task_id))
    context.queue_positions.note_left(view)
    return _done(view)


async def retry(request: web.Request) -> web.Response:
    """202 with the task, pending again and paid for again; 402, 409 as for its user."""
    operator, task_id, context = operator_of(request), task_in_path(request), context_of(request)
    view = await write(request, lambda tx: operator_actions.retry(tx, context.settings, operator, task_id))
    context.queue_positions.note_joined(view)
    return _done(view)


async def release(request: web.Request) -> web.Response:
    """202 with the task, which another worker may take now; 409 if there is nothing to release."""
    operator, task_id, context = operator_of(request), task_in_path(request), context_of(request)
    return _done(
        await write(request, lambda tx: operator_actions.release(tx, context.settings, operator, task_id))
    )


async def drain(request: web.Request) -> web.Response:
    """202; the worker takes nothing new, and a new process begins in its place."""
    operator, worker_id = operator_of(request), id_in_path(request, "worker_id", WorkerNotFound)
    await write(request, lambda tx: operator_actions.drain(tx, operator, worker_id))
    return json_answer({"worker": worker_id, "state": "draining"}, status=202)


async def resend(request: web.Request) -> web.Response:
    """202 with the webhook, which is sent again from the beginning of its schedule, with the same id."""
    operator, webhook_id = operator_of(request), request.match_info["webhook_id"]
    if not is_webhook_id(webhook_id):
        raise WebhookNotFound("of that name")
    sent = await write(request, lambda tx: operator_actions.resend(tx, operator, webhook_id))
    return json_answer(sent, status=202)


async def pause(request: web.Request) -> web.Response:
    """201 with the pause; 422 for an unknown name."""
    operator, context = operator_of(request), context_of(request)
    body = await read_json(request, MOST_PAUSE_BYTES)
    kind, name, reason = _asked_pause(body)
    known = context.settings.tasks if kind == pauses.TYPE else context.settings.providers
    if name not in known:
        raise unprocessable("/name", f"There is no {kind} {name!r} in the settings.")
    await write(request, lambda tx: operator_actions.pause(tx, operator, kind, name, reason))
    return json_answer({"kind": kind, "name": name, "reason": reason}, status=201)


async def resume(request: web.Request) -> web.Response:
    """204; 404 if it is not paused."""
    operator, kind, name = operator_of(request), request.match_info["kind"], request.match_info["name"]
    is_name = kind in pauses.KINDS and name.isprintable()
    if not (is_name and await write(request, lambda tx: operator_actions.resume(tx, operator, kind, name))):
        raise Problem(404, "Nothing of that kind and name is paused.", kind="not_found")
    return web.Response(status=204)


async def sweep(request: web.Request) -> web.Response:
    """200 with the results of a sweep that is run now; one at a time."""
    operator, context = operator_of(request), context_of(request)
    await context.read(request, lambda _: None)  # before the work begins, though nothing is read
    async with request.app[SWEEPING]:
        counts = await finished(
            context.on_files(sweep_now, context.database, context.settings, context.files)
        )
    await write(request, lambda tx: audit.record(tx, operator, "sweep", "sweep", "now", after=counts))
    return json_answer({"counts": counts})


SWEEPING = web.AppKey("SWEEPING", asyncio.Lock)


def _asked_pause(body: Any) -> tuple[str, str, str]:
    given = body if isinstance(body, dict) else {}
    kind, name, reason = given.get("kind"), given.get("name"), given.get("reason", "")
    if kind not in pauses.KINDS:
        raise unprocessable("/kind", "kind must be 'type' or 'provider'.")
    if not isinstance(name, str):
        raise unprocessable("/name", "name must be a string.")
    return kind, name, one_line(reason, "reason")


def _done(view: dict[str, Any]) -> web.Response:
    return json_answer({name: view[name] for name in ("task_id", "status", "attempt")}, status=202)
