"""GET /files/{key}?exp=&sig=: a stored picture, for whoever holds a good link."""

from __future__ import annotations

import asyncio
import mimetypes
import time

from aiohttp import web

from supervisor.files import is_key
from web.parts import parts_of
from web.problems import Problem

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "inline",
}


async def fetch(request: web.Request) -> web.StreamResponse:
    """200 with the picture; 403 when the link was altered or has expired, 404 when the picture is gone."""
    parts = parts_of(request)
    key, expires = request.match_info["key"], request.query.get("exp", "")
    if not is_key(key) or not parts.links.holds(key, expires, request.query.get("sig", "")):
        raise Problem(403, "This link was altered or has expired; ask for the work again.", kind="bad_link")
    headers = {
        **_HEADERS,
        "Content-Type": mimetypes.guess_type(key)[0] or "application/octet-stream",
        "Cache-Control": f"private, max-age={max(0, int(expires) - int(time.time()))}, immutable",
    }
    try:
        path = await asyncio.to_thread(parts.files.local_path, key)
        if path is not None:
            return web.FileResponse(path, headers=headers)
        return web.Response(body=await asyncio.to_thread(parts.files.read, key), headers=headers)
    except FileNotFoundError:
        raise Problem(404, "This picture is gone.", kind="not_found") from None
