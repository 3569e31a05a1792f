"""POST /v1/callbacks/{token}: an AI service reports on a remote job.

The token in the address is the only proof there is, and it allows one thing: to add a report on one request to that
request's task.  Nothing of the report is believed or understood here; a worker reads it as it reads a poll.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from supervisor.security.tokens import BadToken, read_callback_token
from supervisor.store.remote import remote_reports
from web.handling.context import context_of
from web.handling.quotas import count_stranger
from web.http.body_reader import read_body
from web.http.detached_work import finished
from web.http.problems import Problem

PATH = "/v1/callbacks/{token}"
MOST_BYTES = 1024 * 1024
MOST_HEADER_BYTES = 8192
# What a service signs its reports with; everything else says where it came from, or is ours.
KEPT = ("content-digest", "content-type", "date", "digest", "signature", "webhook-", "x-")
LEFT_OUT = ("x-forwarded-", "x-real-ip", "x-user", "x-darkroom-")


async def report(request: web.Request) -> web.Response:
    """200 once the report is stored, and 200 for one that changes nothing: a repeat, or one of a job that is over.

    403 for a token that is not ours, 413 for a report above 1 MiB.
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
        # Nothing of it is kept but that it came: a service that can't be asked has said its last word.
        await finished(
            context.database.write_async(
                lambda tx: remote_reports.store(tx, callback.reference, remote_reports.TOO_LARGE, b"")
            )
        )
        raise _too_large() from None
    headers = kept_headers(request.headers)
    # Shielded: a service that hangs up once it has sent everything has reported all the same.
    await finished(
        context.database.write_async(lambda tx: remote_reports.store(tx, callback.reference, headers, body))
    )
    return web.json_response({})


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those that a signature may be made of, by names in small letters; at most MOST_HEADER_BYTES of them."""
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
