"""Errors as `application/problem+json` (RFC 9457): the errors, their status and form.

Handlers raise a `Problem` for errors of HTTP, and domain faults for all others.  One middleware turns both into
answers, and also aiohttp's own 404, 405 and 413.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from supervisor.core import errors as faults
from supervisor.core.task_params import BadTask
from supervisor.database.interface.errors import InterfaceError, OperationalError
from supervisor.objects.disk_space import is_full
from supervisor.objects.object_store import StoreAway
from supervisor.pictures import picture_errors
from web.http.request_ids import request_id_of

log = logging.getLogger("darkroom.web")

MEDIA_TYPE = "application/problem+json"
MOST_ERRORS_TOLD = 20
# Every answer has these headers: they forbid to guess a body's type and hide the version.  If a browser shows an answer
# that is not one of our pages, it may load nothing, be in no frame and send no referrer.
HEADERS_OF_ALL = {
    "X-Content-Type-Options": "nosniff",
    "Server": "Darkroom",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
_TYPE = "urn:darkroom:problem:"
USER_BLOCKED = "user_blocked"
TOLD_IN_LOG = frozenset({401, 402, 403, 429, 503})
REASON = web.RequestKey("REASON", str)  # the reason of a refusal, for the access log
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="darkroom"'}  # goes with each 401


class Problem(Exception):
    """An error that is an answer.  kind: a short name for programs, kept stable; detail: a sentence for people."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        errors: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind = status, detail, kind
        self.errors, self.headers = errors, dict(headers or {})

    def to_response(self, instance: str, request_id: str) -> web.Response:
        """The answer.  instance: the requested path, without its query."""
        told, untold = self.errors[:MOST_ERRORS_TOLD], len(self.errors) - MOST_ERRORS_TOLD
        body: dict[str, Any] = {
            "type": _TYPE + self.kind if self.kind else "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": _sendable(
                self.detail + (f" (and {untold} more mistakes than are listed)" if untold > 0 else "")
            ),
            "instance": _sendable(instance),
            "request_id": request_id,
        }
        if told:
            body["errors"] = [
                {"pointer": _sendable(pointer), "detail": _sendable(detail)} for pointer, detail in told
            ]
        # here too, because answers to non-HTTP bytes pass no other place
        headers = {**HEADERS_OF_ALL, **self.headers}
        return web.Response(
            status=self.status, body=orjson.dumps(body), content_type=MEDIA_TYPE, headers=headers
        )


def told_in_one(problem: Problem) -> str:
    """Everything that the problem says, as one text, for clients that show one text and no list."""
    told = [
        f"{pointer.strip('/').replace('/', '.')}: {detail}"
        for pointer, detail in problem.errors
        if pointer.strip("/")
    ]
    return _sendable("; ".join(told[:MOST_ERRORS_TOLD]) or problem.detail)


def unprocessable(pointer: str, detail: str) -> Problem:
    """422 for one member of the input."""
    return Problem(422, detail, kind="bad_params", errors=[(pointer, detail)])


def unavailable(detail: str, *, retry_after_seconds: float = 1, kind: str = "unavailable") -> Problem:
    """503 with a time for the next try."""
    return Problem(503, detail, kind=kind, headers=_after(retry_after_seconds))


def problem_of(error: Exception) -> Problem | None:
    """The problem for a domain fault; None for an unexpected error."""
    match error:
        case Problem():
            return error
        case web.RequestPayloadError():  # broken gzip, for one
            return Problem(400, "The body can't be read as its headers say.", kind="unreadable_body")
        case web.HTTPException():
            return _of_aiohttp(error)
        case BadTask():
            return Problem(422, str(error), kind=error.code, errors=error.errors)
        case faults.BadParams():
            return Problem(422, str(error), kind=error.code)
        case faults.Revoked():
            return Problem(401, str(error), kind="unauthorized", headers=CHALLENGE)
        case faults.TaskNotFound() | faults.WorkNotFound():
            return Problem(404, str(error), kind="not_found")
        case faults.AlreadyFinished():
            return Problem(409, str(error), kind="already_finished")
        case faults.WorkerNotFound() | faults.WebhookNotFound() | faults.BulkNotFound():
            return Problem(404, str(error), kind="not_found")
        case faults.NotReleasable():
            return Problem(409, str(error), kind="not_releasable")
        case faults.NotRetryable():
            return Problem(409, str(error), kind="not_retryable")
        case faults.KeyReused():
            return Problem(
                422, str(error), kind="idempotency_key_reused", errors=[("/Idempotency-Key", str(error))]
            )
        case faults.UserBlocked():
            return Problem(403, str(error), kind=USER_BLOCKED)
        case faults.InsufficientCredits():
            return Problem(402, str(error), kind="insufficient_credits")
        case faults.TooManyOpenTasks():
            return Problem(
                429, str(error), kind="too_many_open_tasks", headers=_after(error.retry_after_seconds)
            )
        case faults.QueueFull():
            return unavailable(str(error), retry_after_seconds=error.retry_after_seconds, kind="queue_full")
        case faults.DatabaseBusy():
            return unavailable(str(error))
        # without Retry-After: a client without an Idempotency-Key must check first
        case faults.OutcomeUnknown():
            return Problem(503, str(error), kind="outcome_unknown")
        case _ if is_full(error):
            log.error("a disk is full: %s", error)
            return unavailable(
                "The disk is full; nothing was stored. Try again later.", retry_after_seconds=30
            )
        case StoreAway():
            log.error("the file store failed: %s", error)
            return unavailable(
                "The file store can't be used just now; nothing was stored.", retry_after_seconds=5
            )
        case picture_errors.TooManyBytes():
            return Problem(413, str(error), kind="too_many_bytes")
        case picture_errors.NotAPicture():
            return Problem(415, str(error), kind="not_a_picture")
        case picture_errors.PictureFault():
            return Problem(422, str(error), kind="image_unusable", errors=[("/image", str(error))])
        case OperationalError() | InterfaceError():
            log.error("the database failed: %s", error)
            return unavailable(
                "The database can't be used just now; nothing was stored.", retry_after_seconds=5
            )
    return None


Shape = Callable[[Problem], web.Response]
SHAPES = web.AppKey("SHAPES", Mapping[str, Shape])  # {beginning of a path: how errors are answered there}
Bar = Callable[[web.Request], Awaitable[Problem | None]]
BAR: web.AppKey[Bar] = web.AppKey("BAR")  # why the caller may make no request at all, if that is so


def answer_to(request: web.Request, problem: Problem) -> web.Response:
    """The problem in the form of this address: at a door for another service's SDKs, in that service's form."""
    path = public_path(request)
    for prefix, shape in request.app[SHAPES].items():
        if path.startswith(prefix):
            answer = shape(problem)
            answer.headers.update({**HEADERS_OF_ALL, **answer.headers})
            return answer
    return problem.to_response(path, request_id_of(request))


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as problem+json; an unexpected one is logged with its traceback and answered with a plain 500."""
    try:
        return await handler(request)
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            log.exception("%s %s failed", request.method, public_path(request))
            problem = Problem(500, "The request failed inside the server; the log there says why.")
        problem = await refusal_told(request, problem)
        if problem.status in TOLD_IN_LOG:
            request[REASON] = problem.detail
        faults.drop_frames(error)  # they hold the request with its body
        return answer_to(request, problem)


async def refusal_told(request: web.Request, problem: Problem) -> Problem:
    """The problem for a refused caller.  A caller who may make no request at all gets that reason, and not a mistake of
    the request."""
    is_barred = problem.status in (401, 429) or problem.kind == USER_BLOCKED
    is_about_the_question = 400 <= problem.status < 500 and not is_barred
    return (await request.app[BAR](request) if is_about_the_question else None) or problem


def public_path(request: web.Request) -> str:
    """The path without secrets: without the query, and without tokens in the path."""
    resource = request.match_info.route.resource
    if resource is not None and "token" in request.match_info:
        return resource.canonical
    return request.rel_url.raw_path


async def name_ourselves(_: web.Request, response: web.StreamResponse) -> None:
    """Before any answer's head is sent: add the headers of every answer."""
    response.headers["Server"] = HEADERS_OF_ALL["Server"]
    for name, value in HEADERS_OF_ALL.items():
        response.headers.setdefault(name, value)  # a page has its own policy


async def expect_100_continue(request: web.Request) -> None:
    """The only expectation that HTTP knows; any other is 417, as a problem."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        problem = Problem(417, "The only expectation that can be met is 100-continue.")
        answer = answer_to(request, problem)
        raise web.HTTPExpectationFailed(text=answer.text, content_type=answer.content_type)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _of_aiohttp(error: web.HTTPException) -> Problem:
    headers = {name: value for name, value in error.headers.items() if name in ("Allow", "Location")}
    match error:
        case web.HTTPMethodNotAllowed():
            detail = f"{error.method} is not possible here; possible is {', '.join(sorted(error.allowed_methods))}."
        case web.HTTPNotFound():
            detail = "There is nothing at this address."
        case web.HTTPRequestEntityTooLarge():
            detail = "The body is larger than is accepted here."
        case _:
            detail = f"{error.reason}."
    return Problem(error.status, detail, headers=headers)


def _sendable(text: str) -> str:
    """A text that UTF-8 can encode: a problem may quote the request, which may hold other characters."""
    return text.encode("utf-8", "replace").decode()


def _after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}
