"""GET /start: the link that lets a browser on this host in.  It sets a cookie and goes on to the console.

The cookie holds the start secret.  It is of this port alone by its name, kept from scripts, and sent by no other
site's page.  A link of an earlier start sets nothing; the page it leads to says what to do.
"""

from __future__ import annotations

import hmac
from typing import Any

from aiohttp import web

from web.http.context import parts_of
from web.http.demo_access import refusal
from web.http.problems import Problem

HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


async def enter(request: web.Request) -> web.Response:
    """303 to the console, with the cookie where the key is that of this start."""
    parts = parts_of(request)
    reason = None if parts.settings.lets_demo_in else "This server wants a token of everybody."
    reason = reason or refusal(**asked_from(request), origins=[], fetch_sites=[])
    if reason is not None:
        raise Problem(403, reason, kind="forbidden")
    answer = web.Response(status=303, headers={"Location": "/", **HEADERS})
    if _is_key(request.query.get("key", ""), parts.start_secret):
        answer.set_cookie(
            cookie_name(request), parts.start_secret, httponly=True, samesite="Strict", path="/"
        )
    return answer


def has_cookie(request: web.Request) -> bool:
    """Whether the browser has followed the link of this start."""
    return _is_key(request.cookies.get(cookie_name(request), ""), parts_of(request).start_secret)


def cookie_name(request: web.Request) -> str:
    """One for each port: a browser sends a host's cookies to all of its servers."""
    return f"darkroom-{_own_port(request)}"


def asked_from(request: web.Request) -> dict[str, Any]:
    """Who is at the other end, and how they ask, as `demo_access.refusal` wants it."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return {
        "peer": peer[0] if peer else None,
        "port": _own_port(request),
        "version": request.version,
        "hosts": request.headers.getall("Host", []),
        "header_names": request.headers.keys(),
    }


def _own_port(request: web.Request) -> int | None:
    here = request.transport.get_extra_info("sockname") if request.transport else None
    return here[1] if here else None


def _is_key(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())
