"""Every request counted, timed and logged, with the route's pattern and never with a query or a token."""

from __future__ import annotations

import logging
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from web.parts import FIRST_BYTE_AT, TASK, TRACE, parts_of
from web.problems import public_path

log = logging.getLogger("darkroom.access")

UNMATCHED = "unmatched"
GONE = 499  # the caller went away before the answer: nginx's number, known to those who read logs
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Pass the request on; then say what became of it."""
    started = time.perf_counter()
    status = GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        ended = time.perf_counter()
        answered = request.get(FIRST_BYTE_AT)
        if answered is not None:  # a stream was answered when it began, whoever ended it
            status = 200
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else UNMATCHED
        parts_of(request).metrics.observe_request(
            route, request.method, status, (answered or ended) - started
        )
        level = logging.DEBUG if route in QUIET_ROUTES else logging.INFO
        if log.isEnabledFor(level):
            milliseconds = (ended - started) * 1000
            task = request.get(TASK) or request.match_info.get("task_id")
            trace = request.get(TRACE)
            log.log(
                level, "%s %s %d %.1f ms", request.method, public_path(request), status, milliseconds,
                extra={"task": task} | ({"trace_id": trace} if trace else {}) if task else None,
            )  # fmt: skip
