"""POST /v1/callbacks/{token}: an AI service reports on a remote job.

The token in the address is the only proof, and it allows only one thing: to add a report on one request.  The report is
neither trusted nor interpreted here; a worker reads it like the answer to a poll.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from supervisor.security.tokens import BadToken, read_callback_token
from supervisor.store.remote import remote_reports
from web.handling.context import context_of
from web.http.body_reader import read_body
from web.http.detached_work import finished
from web.http.problems import Problem
from web.limits.rate_limits import count_stranger

PATH = "/v1/callbacks/{token}"
MOST_BYTES = 1024 * 1024
MOST_HEADER_BYTES = 8192
# The headers that services use for signatures; all others describe the sender, or come from us.
KEPT = ("content-digest", "content-type", "date", "digest", "signature", "webhook-", "x-")
LEFT_OUT = ("x-forwarded-", "x-real-ip", "x-user", "x-darkroom-")


async def report(request: web.Request) -> web.Response:
    """200 once the report is stored, and 200 for a report that changes nothing: a repeated one, or one on an ended job.

    403 for an invalid token, 413 for a report above 1 MiB.
    """
    context = context_of(request)
    try:
        callback = read_callback_token(
            context.secret, request.match_info["token"], before=context.secret_before
        )
    except BadToken as bad:
        await count_stranger(request)
        raise Problem(403, str(bad), kind="forbidden") from None
    try:
        body = await read_body(request, MOST_BYTES)
    except web.HTTPRequestEntityTooLarge:
        # Only its arrival is stored: a service that can't be polled will send nothing else.
        await finished(
            context.database.write_async(
                lambda tx: remote_reports.store(tx, callback.reference, remote_reports.TOO_LARGE, b"")
            )
        )
        raise _too_large() from None
    headers = kept_headers(request.headers)
    # Shielded: the report counts even if the service disconnects after it has sent everything.
    await finished(
        context.database.write_async(lambda tx: remote_reports.store(tx, callback.reference, headers, body))
    )
    return web.json_response({})


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that a signature may use, by lower-case names; at most MOST_HEADER_BYTES of them."""
    kept: dict[str, str] = {}
    size = 0
    for name, value in headers.items():
        lower = name.lower()
        size += len(lower) + len(value)
        if lower.startswith(KEPT) and not lower.startswith(LEFT_OUT) and size <= MOST_HEADER_BYTES:
            kept[lower] = value.encode("utf-8", "replace").decode().replace("\x00", "")
    return kept


def _too_large() -> Problem:
    detail = f"A report may have {MOST_BYTES} bytes; send addresses of pictures, not pictures."
    return Problem(413, detail, kind="too_large")
