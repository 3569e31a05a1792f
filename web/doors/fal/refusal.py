"""The answer to a refused request, in the form that fal's SDKs raise as an error."""

from __future__ import annotations

import orjson
from aiohttp import web

from web.doors.door_orders import place_of
from web.http.problems import Problem, told_in_one


def error_answer(problem: Problem) -> web.Response:
    """The error as the SDKs raise it: `detail` for both, `message` where nothing else is shown."""
    message = told_in_one(problem)
    detail: object = message
    if problem.status == 422 and problem.errors:
        kind = problem.kind or "value_error"
        detail = [
            {"loc": ["body", *place_of(pointer)], "msg": sentence, "type": kind}
            for pointer, sentence in problem.errors
        ]
    body = {"detail": detail, "message": message, "error_type": problem.kind or None}
    headers = {"Cache-Control": "no-store", "x-fal-request-id": "-", **problem.headers}
    if problem.kind:
        headers["x-fal-error-type"] = problem.kind
    return web.Response(
        status=problem.status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )
