"""GET /files/{key}?exp=&sig=: a stored picture, for every holder of a valid link.

A picture in S3 is passed through, without a redirect: a mini-program may fetch only from the domains on its list, the
bucket may be reachable only from our own network, and all links have the same expiry, signature and headers for every
store.  Local files use the same code: aiohttp's own file response would answer some requests without a problem
document, or not at all, and wait for ever for a client that does not read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from aiohttp import web

from supervisor.media import file_kinds
from supervisor.objects.object_store import PIECE_BYTES, NoSuchPart, StoreAway, is_key
from supervisor.pictures.media_types import type_of_file
from web.handling.context import Context, context_of
from web.http.problems import Problem, unavailable

if TYPE_CHECKING:
    from supervisor.objects.object_store import OpenFile

log = logging.getLogger("darkroom.web")

# a client that reads nothing for so long is disconnected, and its file or S3 connection is closed
STALLED_SECONDS = 60.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
}


async def fetch(request: web.Request) -> web.StreamResponse:
    """200 with the picture; 403 if the link was altered or has expired, 404 if the picture is gone.

    206 with a part for a range, 416 if the range begins after the end, 304 if the caller has the picture.
    """
    context = context_of(request)
    key, expires = request.match_info["key"], request.query.get("exp", "")
    if not is_key(key) or not context.links.holds(key, expires, request.query.get("sig", "")):
        raise Problem(403, "This link was altered or has expired; ask for the work again.", kind="bad_link")
    name = key.rpartition("/")[2]  # a key needs no escapes
    cache = f"private, max-age={max(0, int(expires) - int(time.time()))}, immutable"
    return await send(request, key, name=name, cache=cache)


async def send(
    request: web.Request, key: str, *, name: str, cache: str, saves: bool = False
) -> web.StreamResponse:
    """A stored file for a caller who may have it: 200, 206 or 304.  Raises a Problem: 404, 416, 503.

    name: under which it is saved, ASCII without quotes.  cache: `Cache-Control`.  saves: whether it is not to be shown.
    """
    context, media_type = context_of(request), type_of_file(key)
    etag = key.rpartition("/")[2]  # an object never changes
    headers = {
        **_HEADERS,
        "Content-Disposition": f'{"attachment" if saves else _disposition(media_type)}; filename="{name}"',
        "ETag": f'"{etag}"',
        "Content-Type": media_type,
        "Cache-Control": cache,
    }
    try:
        opened = await _opened(request, context, key)
    except FileNotFoundError:
        raise Problem(404, "This picture is gone.", kind="not_found") from None
    except (StoreAway, OSError) as fault:
        log.error("the file store failed: %s", fault)
        raise unavailable("The picture can't be fetched just now.", retry_after_seconds=5) from None
    try:
        if any(each.value in (etag, "*") for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return await _passed_through(request, context, opened, headers)
    finally:
        opened.close()


def _disposition(media_type: str) -> str:
    """Pictures, films and sound are shown; every other file can only be saved."""
    is_shown = media_type.startswith("image/") or media_type in file_kinds.PLAYED
    return "inline" if is_shown else "attachment"


async def _opened(request: web.Request, context: Context, key: str) -> OpenFile:
    try:
        wanted = request.http_range if _asks_for_one_part(request) else slice(None)
    except ValueError:  # no part can be meant
        whole = await context.on_files(context.files.open, key, 0, 0)
        whole.close()
        raise _no_such_part(whole.size) from None
    try:
        last = None if wanted.stop is None else wanted.stop - 1
        return await context.on_files(context.files.open, key, wanted.start or 0, last)
    except NoSuchPart as beyond:
        raise _no_such_part(beyond.size) from None


def _no_such_part(size: int) -> Problem:
    return Problem(416, "The picture has no such part.", headers={"Content-Range": f"bytes */{size}"})


def _asks_for_one_part(request: web.Request) -> bool:
    """Several ranges, other units and HEAD requests get the whole file (RFC 9110, section 14.2)."""
    wanted = request.headers.get("Range", "")
    return request.method == "GET" and wanted.startswith("bytes=") and "," not in wanted


async def _passed_through(
    request: web.Request, context: Context, opened: OpenFile, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={**headers, "Accept-Ranges": "bytes"})
    response.content_length = opened.last + 1 - opened.first
    if response.content_length < opened.size:
        response.set_status(206)
        response.headers["Content-Range"] = f"bytes {opened.first}-{opened.last}/{opened.size}"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        while piece := await context.on_files(opened.read, PIECE_BYTES):
            async with asyncio.timeout(STALLED_SECONDS):
                await response.write(piece)
    except (StoreAway, TimeoutError) as error:
        # The status was sent already; the missing bytes show the client that the file is incomplete.
        log.warning("a picture broke off: %s", str(error) or "its reader took nothing")
        if request.transport is not None:
            request.transport.abort()
    return response
