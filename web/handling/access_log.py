"""Every request counted, timed and logged, with the route's pattern and never with a query or a token.

The line names the user, the address and the id of the request, and for a refusal (401, 402, 403, 429) its reason, so
that the log shows who floods the server and why requests are refused.
"""

from __future__ import annotations

import logging
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from web.handling.context import FIRST_BYTE_AT, IDENTITY, TASK, TRACE, address_of, context_of
from web.http.problems import REASON, public_path
from web.http.request_ids import request_id_of

log = logging.getLogger("darkroom.access")

UNMATCHED = "unmatched"
GONE = 499  # the client disconnected before the answer: nginx's number
QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})
# Of the reports of services, which may be many for one job, only refused ones are told: the worker tells of its end.
REPORTS = "/v1/callbacks/{token}"


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle the request, then log its result."""
    started = time.perf_counter()
    status = GONE
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        ended = time.perf_counter()
        answered = request.get(FIRST_BYTE_AT)
        if answered is not None:  # a stream was answered when it began
            status = 200
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else UNMATCHED
        context_of(request).metrics.observe_request(
            route, request.method, status, (answered or ended) - started
        )
        is_quiet = route in QUIET_ROUTES or (route == REPORTS and status < 300)
        level = logging.DEBUG if is_quiet else logging.INFO
        if log.isEnabledFor(level):
            milliseconds = (ended - started) * 1000
            log.log(
                level, "%s %s %d %.1f ms", request.method, public_path(request), status, milliseconds,
                extra=_particulars(request),
            )  # fmt: skip


def _particulars(request: web.Request) -> dict[str, str]:
    """Further members of the line; unknown ones are left out."""
    identity = request.get(IDENTITY)
    told = {
        "user": identity.user if identity else None,
        "address": address_of(request),
        "reason": request.get(REASON),
        "task": request.get(TASK) or request.match_info.get("task_id"),
        "trace_id": request.get(TRACE),
        "request_id": request_id_of(request),
    }
    return {name: value for name, value in told.items() if value}
