"""Reading a request's body: limited in bytes and in time, and never decompressed.

Every handler reads its body here.  aiohttp drops an unread body for ten seconds and then disconnects.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestPayloadError

from web.http.body_timeouts import Pace
from web.http.problems import Problem

PIECE_BYTES = 64 * 1024  # bytes handled at once; other requests are served between two pieces


@web.middleware
async def refuse_encoded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """415 for a compressed body at any address: its decompressed size would have no limit."""
    for given in request.headers.getall("Content-Encoding", []):
        if any(coding.strip().lower() not in ("", "identity") for coding in given.split(",")):
            raise Problem(
                415,
                "A body must be sent as it is, without Content-Encoding.",
                kind="encoded_body",
                headers={"Accept-Encoding": "identity"},  # RFC 9110, section 15.5.16
            )
    return await handler(request)


async def read_body(request: web.Request, most_bytes: int) -> bytes:
    """The whole body.  Raises as `pieces_of`."""
    if is_there(request, most_bytes):
        return request.content.read_nowait()  # the usual case
    return b"".join([piece async for piece in pieces_of(request, most_bytes)])


def is_there(request: web.Request, most_bytes: int) -> bool:
    """Whether the whole body came with the request's head, and is no larger."""
    content = request.content
    return content.is_eof() and content.exception() is None and content.total_bytes <= most_bytes


async def pieces_of(request: web.Request, most_bytes: float) -> AsyncGenerator[bytes]:
    """The body in pieces of at most PIECE_BYTES, as it comes in.

    Raises HTTPRequestEntityTooLarge as early as possible, and a Problem: 408 if it stalls, 400 if it breaks off.
    """
    if (request.content_length or 0) > most_bytes:
        raise web.HTTPRequestEntityTooLarge(int(most_bytes), request.content_length or 0)
    pace = Pace()
    while piece := await _next_piece(request, pace):
        if pace.received_bytes > most_bytes:
            raise web.HTTPRequestEntityTooLarge(int(most_bytes), pace.received_bytes)
        yield piece
        await asyncio.sleep(0)


async def _next_piece(request: web.Request, pace: Pace) -> bytes:
    asked_at = time.monotonic()
    try:
        async with asyncio.timeout(pace.patience_seconds):
            piece = await request.content.read(PIECE_BYTES)
    except TimeoutError:
        raise Problem(
            408,
            "The body came too slowly, or stopped; send the request again.",
            kind="body_timeout",
            headers={"Connection": "close"},
        ) from None
    except RequestPayloadError:
        raise Problem(
            400, "The body broke off, or is not in chunks as it says.", kind="broken_body"
        ) from None
    pace.note(len(piece), time.monotonic() - asked_at)
    return piece
