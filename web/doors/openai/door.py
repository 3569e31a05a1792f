"""/openai/v1: pictures as OpenAI's SDKs order them, answered once they are there.

The SDKs know no order that is looked at later, so the request is held until its task has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from web.doors.door_bodies import form_order, json_order
from web.doors.door_orders import Asked, asked_of, beginning, handed_in, repeatable
from web.doors.held_answers import failure_of, held_answer
from web.doors.held_requests import View, check_room, steps
from web.doors.openai.answers import (
    FORMATS,
    created,
    error_answer,
    error_body,
    model_shown,
    picture,
    pictures,
)
from web.doors.repeated_orders import Carried
from web.doors.type_names import names_at, type_named
from web.handling.context import Context, context_of
from web.handling.origin import origin_of
from web.handling.responses import json_answer
from web.http.problems import Problem, unprocessable

DOOR = "openai"
_FILES = ("image", "image[]", "mask")
_OWN = ("model", "response_format", "stream", "partial_images", "user")
_STREAM_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


async def list_models(request: web.Request) -> web.Response:
    """200 with every type."""
    await context_of(request).check_token(request)
    names = names_at(context_of(request).settings, DOOR)
    return json_answer({"object": "list", "data": [model_shown(name) for name in names]})


async def show_model(request: web.Request) -> web.Response:
    """200 with one of them; 404."""
    await context_of(request).check_token(request)
    name = request.match_info["model"]
    if name not in names_at(context_of(request).settings, DOOR):
        raise Problem(404, f"There is no model '{name[:100]}'.", kind="model_not_found")
    return json_answer(model_shown(name))


async def generate(request: web.Request) -> web.StreamResponse:
    """200 with the pictures, or with events."""
    since = beginning()
    async with json_order(request, lambda body: _asked(request, body)) as asked:
        return await _answered(request, asked, since)


async def edit(request: web.Request) -> web.StreamResponse:
    """The same of a form with pictures, for edits and variations."""
    since = beginning()
    if request.headers.get("Content-Type", "").lower().startswith("application/json"):
        return await generate(request)
    async with form_order(request, _FILES, lambda name: name.removesuffix("[]")) as members:
        asked = _asked(request, members, is_form=True)
        return await _answered(request, asked, since)


def _asked(request: web.Request, body: Any, *, is_form: bool = False) -> Asked:
    if not isinstance(body, dict):
        raise unprocessable("", "The body must be a JSON object.")
    model, stream, format_ = body.get("model"), body.get("stream"), body.get("response_format")
    if not isinstance(model, str):
        names = ", ".join(names_at(context_of(request).settings, DOOR))
        raise unprocessable("/model", f"model must name one of {names}.")
    if format_ is not None and format_ not in FORMATS:
        raise unprocessable("/response_format", f"response_format must be one of {', '.join(FORMATS)}.")
    members = {name: value for name, value in body.items() if name not in _OWN}
    wanted = {"formats": (format_,) if format_ else FORMATS, "stream": stream in (True, "true")}
    type_ = type_named(context_of(request).settings, DOOR, model)
    return asked_of(request, DOOR, type_, members, body=body, is_form=is_form, wanted=wanted)


async def _answered(request: web.Request, asked: Asked, since: Callable[[], float]) -> web.StreamResponse:
    context = context_of(request)
    check_room(context)
    order = repeatable(request, asked, since)
    async with Carried(request, order) as hand_in:
        submitted, _ = await handed_in(request, asked, order, hand_in)
        if asked.wanted["stream"]:
            return await _streamed(request, context, submitted.view)
        return await _held(request, context, submitted.view, asked.wanted["formats"])


async def _held(
    request: web.Request, context: Context, view: View, formats: tuple[str, ...]
) -> web.StreamResponse:
    origin = origin_of(request)
    return await held_answer(
        request,
        context,
        view,
        lambda done: pictures(context, done, origin, formats),
        lambda failed: error_answer(failure_of(failed)),
        {"x-request-id": view["task_id"]},
    )


# --- streams ---


async def _streamed(request: web.Request, context: Context, view: View) -> web.StreamResponse:
    """Events: a comment for each step of its progress, then each picture; or an error, which the SDK raises."""
    kind = "image_edit" if request.path.endswith("/edits") else "image_generation"
    response = web.StreamResponse(headers={**_STREAM_HEADERS, "x-request-id": view["task_id"]})
    response.content_type = "text/event-stream"
    await response.prepare(request)
    async for seen in steps(context, view):
        view = seen
        await response.write(b": %d%% %s\n\n" % (view["progress"], str(view["stage"]).encode()))
    if view["status"] != "completed":
        await response.write(b"event: error\ndata: %s\n\n" % orjson.dumps(error_body(failure_of(view))))
    else:
        for image in (view["result"] or {}).get("images") or []:
            more = {"type": f"{kind}.completed", "created_at": created(view)}
            await response.write(b"event: %s.completed\ndata: " % kind.encode())
            async for piece in picture(context, image, origin_of(request), FORMATS, **more):
                await response.write(piece)
            await response.write(b"\n\n")
        await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response
