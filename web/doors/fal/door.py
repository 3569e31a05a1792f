"""/fal/queue, /fal/run, /fal/proxy: requests as fal's SDKs order, watch and cancel them.

Each of fal's hosts is a prefix here.  The SDK for JavaScript sends everything to one address with fal's own in
`x-fal-target-url`: that is read as a name of one of these handlers, and nothing is ever fetched from it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from supervisor.core.errors import AlreadyFinished, TaskNotFound
from supervisor.core.json_text import json_bytes
from supervisor.core.lifecycle import FINAL
from supervisor.doors.fal_request import fault_of, links_of, output_of, status_of
from supervisor.pictures.media_types import type_of_file
from supervisor.store.tasks import task_views, user_actions
from web.doors.door_bodies import json_order
from web.doors.door_orders import Asked, asked_of, beginning, handed_in, repeatable
from web.doors.fal import uploads
from web.doors.fal.addresses import Target, queue_target, run_target, target_of
from web.doors.fal.refusal import error_answer
from web.doors.held_answers import failure_of, held_answer
from web.doors.held_requests import View, check_room, news, sent, steps
from web.doors.repeated_orders import Carried
from web.doors.type_names import name_of, type_named
from web.handling.context import Context, context_of, user_of
from web.handling.origin import linked_from, origin_of
from web.handling.responses import json_answer
from web.http.detached_work import finished
from web.http.problems import Problem, unprocessable

DOOR = "fal"
WEBHOOK = "fal_webhook"
_STREAM_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


async def queue(request: web.Request) -> web.StreamResponse:
    """What fal's queue would answer."""
    return await _answered(request, queue_target(request.method, _below(request), _query(request)))


async def run(request: web.Request) -> web.StreamResponse:
    """What fal's host of direct calls would answer."""
    return await _answered(request, run_target(_below(request), _query(request)))


async def proxy(request: web.Request) -> web.StreamResponse:
    """The same by the address in `x-fal-target-url`; 400 for any that is none of fal's."""
    return await _answered(request, target_of(request.method, request.headers.get("x-fal-target-url", "")))


def _below(request: web.Request) -> str:
    return "/" + str(request.match_info["app_path"])


def _query(request: web.Request) -> tuple[tuple[str, str], ...]:
    return tuple(request.query.items())


async def _answered(request: web.Request, target: Target) -> web.StreamResponse:
    match target.what:
        case "submit" | "run" | "stream":
            return await _order(request, target)
        case "initiate":
            return await uploads.initiate(request)
        case "/status":
            return await _status(request, target)
        case "/status/stream":
            return await _status_stream(request, target)
        case "/cancel":
            return await _cancel(request, target)
    return await _result(request, target)


# --- orders ---


async def _order(request: web.Request, target: Target) -> web.StreamResponse:
    since = beginning()
    async with json_order(request, lambda body: _asked(request, target, body)) as asked:
        context = context_of(request)
        if target.what != "submit":
            check_room(context)
        order = repeatable(request, asked, since)
        async with Carried(request, order) as hand_in:
            submitted, params = await handed_in(request, asked, order, hand_in)
            view = submitted.view
            headers = {"x-fal-request-id": view["task_id"]}
            if target.what == "submit":
                placed = await context.queue_positions.placed(view)
                told = {
                    **status_of(placed, target.app, origin_of(request), with_logs=False),
                    **links_of(view["task_id"], target.app, origin_of(request)),
                    "status": "IN_QUEUE",
                    "queue_position": placed["queue_position"] or 0,
                }
                return await sent(request, json_answer(told, headers=headers))
            if target.what == "stream":
                return await _stream(request, context, view, params, headers)
            return await held_answer(
                request,
                context,
                view,
                partial(_body, request, params),
                lambda ended: error_answer(failure_of(ended)),
                headers,
            )


def _asked(request: web.Request, target: Target, body: Any) -> Asked:
    if not isinstance(body, dict):
        raise unprocessable("", "The body must be a JSON object: the input.")
    webhook = dict(target.query).get(WEBHOOK)
    return asked_of(
        request,
        DOOR,
        type_named(context_of(request).settings, DOOR, target.app),
        body,
        body=[target.what, target.app, target.query, body],
        webhook=webhook,
        webhook_door={"door": DOOR, "origin": origin_of(request)},
    )


async def _body(request: web.Request, params: dict[str, Any], view: View) -> AsyncIterator[bytes]:
    yield json_bytes(_output(request, view, params))


async def _stream(
    request: web.Request, context: Context, view: View, params: dict[str, Any], headers: dict[str, str]
) -> web.StreamResponse:
    """Comments for its progress, then the output as the one event; or an `error`, which the SDKs raise or yield."""
    response = await _event_stream(request, headers)
    async for seen in steps(context, view):
        view = seen
        await response.write(b": %d%% %s\n\n" % (view["progress"], str(view["stage"]).encode()))
    fault = fault_of(view)
    if fault is not None:
        body = {"detail": fault[1], "message": fault[1], "error_type": fault[0]}
        await response.write(b"event: error\ndata: %s\n\n" % orjson.dumps(body))
    else:
        await response.write(b"data: %s\n\n" % json_bytes(_output(request, view, params)))
    await response.write_eof()
    return response


# --- requests ---


async def _status(request: web.Request, target: Target) -> web.Response:
    """200 with the status, once there is news of it or after a moment."""
    view = await news(request, target.task_id, user_of(request), partial(_read, request, target))
    return json_answer(
        await _shown(request, _found(view, target), target), headers={"x-fal-request-id": target.task_id}
    )


async def _status_stream(request: web.Request, target: Target) -> web.StreamResponse:
    """Each status as an event, the last one COMPLETED."""
    context, told = context_of(request), b""
    view = _found(await _read(request, target), target)
    check_room(context)
    response = await _event_stream(request, {"x-fal-request-id": target.task_id})
    async for seen in steps(context, view):
        now = json_bytes(await _shown(request, seen, target))
        await response.write(b"data: %s\n\n" % now if now != told else b":\n\n")
        told = now
    await response.write_eof()
    return response


async def _result(request: web.Request, target: Target) -> web.Response:
    """200 with the output; 400 before the end, 422 where there is none."""
    view = _found(await _read(request, target), target)
    if view["status"] not in FINAL:
        raise Problem(400, "The request is still in progress.", kind="still_in_progress")
    fault = fault_of(view)
    if fault is not None:
        raise Problem(422, fault[1], kind=fault[0])
    context = context_of(request)
    params = await context.read(request, lambda tx: task_views.params_of(tx, target.task_id))
    return json_answer(_output(request, view, params), headers={"x-fal-request-id": target.task_id})


async def _cancel(request: web.Request, target: Target) -> web.Response:
    """202 once it is cancelled; 400 where it has ended."""
    context, user = context_of(request), user_of(request)
    try:
        view = await finished(
            context.write(request, lambda tx: user_actions.cancel(tx, target.task_id, user))
        )
    except AlreadyFinished:
        return json_answer(
            {
                "status": "ALREADY_COMPLETED",
                "detail": "The request has ended.",
                "message": "The request has ended.",
            },
            status=400,
        )
    context.queue_positions.note_left(view)
    return json_answer({"status": "CANCELLATION_REQUESTED"}, status=202)


async def _shown(request: web.Request, view: View, target: Target) -> dict[str, Any]:
    context = context_of(request)
    with_logs = dict(target.query).get("logs", "").lower() in ("1", "true")
    placed = await context.queue_positions.placed(view)
    app = name_of(context.settings, DOOR, view["type"])
    return status_of(placed, app, origin_of(request), with_logs=with_logs)


async def _read(request: web.Request, target: Target) -> View | None:
    user = user_of(request)
    return await context_of(request).read(request, lambda tx: task_views.get(tx, target.task_id, user))


def _found(view: View | None, target: Target) -> View:
    if view is None:
        raise TaskNotFound(target.task_id)
    return view


def _output(request: web.Request, view: View, params: dict[str, Any]) -> dict[str, Any]:
    return output_of(view, params, linked_from(request), type_of_file)


async def _event_stream(request: web.Request, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={**_STREAM_HEADERS, **headers})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    return response
