"""/replicate/v1: predictions, as Replicate's SDKs order, poll, stream and cancel them."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from supervisor.core.errors import AlreadyFinished, TaskNotFound
from supervisor.core.json_text import json_bytes
from supervisor.doors.replicate_prediction import logs_of, output_of, prediction
from supervisor.store.tasks import task_views, user_actions
from supervisor.webhooks.signing_keys import key_of_user
from web.api.files import A_FILE, keep, media_type_of
from web.api.prefer_wait import asked_wait
from web.doors.door_bodies import form_order, json_order
from web.doors.door_orders import Asked, asked_of, beginning, handed_in, repeatable
from web.doors.held_requests import View, check_room, ended, news, sent, steps
from web.doors.order_members import FormFile
from web.doors.repeated_orders import Carried
from web.doors.replicate.models import (
    Model,
    model_by_version,
    model_named,
    model_of,
    shown_model,
    shown_version,
)
from web.handling.context import Context, context_of, user_of
from web.handling.origin import linked_from, origin_of
from web.handling.path_names import task_in_path
from web.handling.responses import json_answer
from web.http.detached_work import finished
from web.http.problems import Problem, told_in_one, unprocessable

DOOR = "replicate"
DEFAULT_WAIT_SECONDS = 60
MOST_HOLD_SECONDS = 55.0  # the SDK for Python gives up after 60.5
EARLIER_SECONDS = 0.3  # before the time that was asked for, when the SDK gives up
LEAST_HOLD_SECONDS = 0.2
MODEL_PATH = "/replicate/v1/models/{owner}/{model_name}"
STREAM_PATH = "/replicate/v1/predictions/{task_id}/stream"
_STREAM_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
# Members of an `input` that is a client object by mistake; such an object holds the user's key.
_A_CLIENT = {"auth", "baseUrl", "userAgent"}


def error_answer(problem: Problem) -> web.Response:
    """The error as the SDKs raise it: a problem as `application/json`, with its sentence as one text."""
    body = {
        "type": f"urn:darkroom:problem:{problem.kind}" if problem.kind else "about:blank",
        "title": web.Response(status=problem.status).reason,
        "status": problem.status,
        "detail": told_in_one(problem),
    }
    return json_answer(body, status=problem.status, headers=problem.headers)


# --- orders ---


async def create(request: web.Request) -> web.Response:
    """201 with the prediction: as it is ordered, or ended where `Prefer: wait` was granted."""
    since = beginning()
    seconds = wait_of(request)
    async with json_order(request, lambda body: _asked(request, body)) as asked:
        context, model = context_of(request), asked.wanted["model"]
        if seconds is not None:
            check_room(context)
        order = repeatable(request, asked, since)
        async with Carried(request, order) as hand_in:
            submitted, params = await handed_in(request, asked, order, hand_in)
            view = submitted.view
            if seconds is not None:
                view = await ended(context, view, max(LEAST_HOLD_SECONDS, seconds - since()))
            told = _shown(request, view, params, model, is_order=True)
            return await sent(request, json_answer(told, status=201))


def _asked(request: web.Request, body: Any) -> Asked:
    settings = context_of(request).settings
    if not isinstance(body, dict) or not isinstance(body.get("input"), dict):
        raise unprocessable("/input", "input must be a JSON object.")
    given = body["input"]
    if given.keys() >= _A_CLIENT:
        raise unprocessable(
            "/input",
            "input is a client object, with its key; give the model's input. Nothing of it was kept.",
        )
    if "owner" in request.match_info:
        name = f"{request.match_info['owner']}/{request.match_info['model_name']}"
        model = model_named(settings, name)
    elif isinstance(body.get("version"), str):
        model = model_by_version(settings, body["version"])
    else:
        raise unprocessable("/version", "version must name a model's version.")
    webhook, events = body.get("webhook"), body.get("webhook_events_filter")
    if webhook is not None and not isinstance(webhook, str):
        raise unprocessable("/webhook", "webhook must be an address.")
    if webhook is not None and events is not None and "completed" not in events:
        webhook = None  # the end is the only event that is told
    told_as = {"door": DOOR, "origin": origin_of(request), "model": model.name, "version": model.version}
    return asked_of(
        request,
        DOOR,
        model.type,
        given,
        body=body,
        webhook=webhook,
        webhook_door=told_as,
        wanted={"model": model},
    )


def wait_of(request: web.Request) -> float | None:
    """Seconds for which the order may be held; None where it does not ask for that.  `wait` alone means a minute."""
    text = asked_wait(request)
    if text is None:
        return None
    is_number = text.isascii() and text.isdigit() and len(text) <= 4
    return min((int(text) if is_number else DEFAULT_WAIT_SECONDS) - EARLIER_SECONDS, MOST_HOLD_SECONDS)


# --- predictions ---


async def show(request: web.Request) -> web.Response:
    """200 with the prediction, once there is news of it or after a moment."""
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)
    view = await news(
        request, task_id, user, lambda: context.read(request, lambda tx: task_views.get(tx, task_id, user))
    )
    if view is None:
        raise TaskNotFound(task_id)
    return await _told(request, view)


async def list_predictions(request: web.Request) -> web.Response:
    """200 with the newest predictions."""
    context, user = context_of(request), user_of(request)
    page = await context.read(request, lambda tx: user_actions.page(tx, user, limit=20))
    shown = [_shown(request, view, {}, model_of(context.settings, view["type"])) for view in page.items]
    return json_answer({"previous": None, "next": None, "results": shown})


async def cancel(request: web.Request) -> web.Response:
    """200 with the prediction, canceled; as it is where it has ended."""
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)
    try:
        view = await finished(context.write(request, lambda tx: user_actions.cancel(tx, task_id, user)))
        context.queue_positions.note_left(view)
    except AlreadyFinished:
        found = await context.read(request, lambda tx: task_views.get(tx, task_id, user))
        if found is None:
            raise TaskNotFound(task_id) from None
        view = found
    return await _told(request, view)


async def stream(request: web.Request) -> web.StreamResponse:
    """200 with events: `logs` at each step, `output` for each file, `error`, `done`.  The address proves itself."""
    context, task_id = context_of(request), task_in_path(request)
    proof = request.query
    if not context.links.holds(_stream_key(task_id), proof.get("exp", ""), proof.get("sig", "")):
        raise Problem(
            403, "This link was altered or has expired; look at the prediction again.", kind="bad_link"
        )
    view = await context.database.read_async(lambda tx: task_views.get(tx, task_id, None))
    if view is None:
        raise TaskNotFound(task_id)
    check_room(context)
    response = web.StreamResponse(headers=_STREAM_HEADERS)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await _write_events(request, context, view, response)
    return response


async def _write_events(
    request: web.Request, context: Context, view: View, response: web.StreamResponse
) -> None:
    number, logs = 0, ""

    async def tell(name: str, data: str) -> None:
        nonlocal number
        number += 1
        lines = "".join(f"data: {line}\n" for line in data.split("\n"))
        await response.write(f"event: {name}\nid: {number}\n{lines}\n".encode())

    async for seen in steps(context, view):
        view = seen
        if logs_of(view) == logs:
            await response.write(b":\n\n")
        else:
            logs = logs_of(view)
            await tell("logs", logs)
    output = output_of(view, linked_from(request))
    for each in output if isinstance(output, list) else [] if output is None else [output]:
        await tell("output", each if isinstance(each, str) else json_bytes(each).decode())
    if view["status"] == "failed":
        message = str((view["error"] or {}).get("message", "The task failed."))
        await tell("error", orjson.dumps({"detail": message}).decode())
    reason = {"failed": {"reason": "error"}, "cancelled": {"reason": "canceled"}}.get(view["status"], {})
    await tell("done", orjson.dumps(reason).decode())
    await response.write_eof()


async def _told(request: web.Request, view: View) -> web.Response:
    context = context_of(request)
    params = await context.read(request, lambda tx: task_views.params_of(tx, view["task_id"]))
    return json_answer(_shown(request, view, params, model_of(context.settings, view["type"])))


def _shown(
    request: web.Request, view: View, params: dict[str, Any], model: Model, *, is_order: bool = False
) -> dict[str, Any]:
    proof = context_of(request).links.link(_stream_key(view["task_id"])).partition("?")[2]
    return prediction(
        view,
        model=model.name,
        version=model.version,
        given=params,
        origin=origin_of(request),
        link=linked_from(request),
        is_order=is_order,
        stream_proof=f"?{proof}",
    )


def _stream_key(task_id: str) -> str:
    """The key that the link of a stream signs; no file has such a key."""
    return f"streams/{task_id}"


# --- models and files ---


async def show_model(request: web.Request) -> web.Response:
    """200 with a model and its version; 404."""
    await context_of(request).check_token(request)
    settings = context_of(request).settings
    return json_answer(shown_model(settings, model_named(settings, _name_in(request))))


async def show_version(request: web.Request) -> web.Response:
    """200 with a model's version; 404."""
    await context_of(request).check_token(request)
    settings = context_of(request).settings
    model = model_named(settings, _name_in(request), request.match_info["version"])
    return json_answer(shown_version(settings, model))


def _name_in(request: web.Request) -> str:
    return f"{request.match_info['owner']}/{request.match_info['model_name']}"


async def upload(request: web.Request) -> web.Response:
    """201 with the file; its `urls.get` is an input of an order."""
    async with form_order(request, ("content",), lambda name: name, A_FILE) as members:
        files = [each for each in members.get("content", []) if isinstance(each, FormFile)]
        if not files:
            raise unprocessable("/content", "The form has no field 'content'.")
        file = await keep(request, files[0].content, files[0].name)
        context = context_of(request)
        link = origin_of(request) + context.links.link(file.key)
        told = {
            "id": file.id,
            "name": file.name or files[0].name or file.key.rpartition("/")[2],
            "content_type": media_type_of(file),
            "size": file.bytes,
            "etag": file.sha256,
            "checksums": {"sha256": file.sha256},
            "metadata": {},
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "expires_at": None,
            "urls": {"get": link},
        }
        return json_answer(told, status=201)


async def webhook_secret(request: web.Request) -> web.Response:
    """200 with the key that signs the webhooks of this user's predictions; each user has another key."""
    context, user = context_of(request), user_of(request)
    await context.check_token(request)
    return json_answer({"key": key_of_user(context.secret, user)})
