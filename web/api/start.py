"""GET /start: the link that lets a browser on this host in.  It sets a cookie and goes on to the console.

The cookie holds the start secret.  Its name contains the port, scripts can't read it, and other sites' pages can't send
it.  A link of an earlier start sets no cookie; the page then says what to do.
"""

from __future__ import annotations

from aiohttp import web

from web.access.start_cookie import asked_from, cookie_name, is_key
from web.handling.context import context_of
from web.http.demo_access import refusal
from web.http.problems import Problem

HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


async def enter(request: web.Request) -> web.Response:
    """303 to the console, with the cookie if the key belongs to this start."""
    context = context_of(request)
    reason = None if context.settings.lets_demo_in else "This server needs a token from every user."
    reason = reason or refusal(**asked_from(request), origins=[], fetch_sites=[])
    if reason is not None:
        raise Problem(403, reason, kind="forbidden")
    answer = web.Response(status=303, headers={"Location": "/", **HEADERS})
    if is_key(request.query.get("key", ""), context.start_secret):
        answer.set_cookie(
            cookie_name(request), context.start_secret, httponly=True, samesite="Strict", path="/"
        )
    return answer
