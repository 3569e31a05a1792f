"""The cookie that lets in a browser of this host: it holds the secret of this start, and is only for this port."""

from __future__ import annotations

import hmac
from typing import Any

from aiohttp import web

from web.handling.context import context_of


def has_cookie(request: web.Request) -> bool:
    """Whether the browser has followed the link of this start."""
    return is_key(request.cookies.get(cookie_name(request), ""), context_of(request).start_secret)


def cookie_name(request: web.Request) -> str:
    """One for each port: a browser sends a host's cookies to all of its servers."""
    return f"darkroom-{_own_port(request)}"


def asked_from(request: web.Request) -> dict[str, Any]:
    """The peer and the request's properties, for `demo_access.refusal`."""
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


def is_key(given: str, secret: str) -> bool:
    """Whether this is the secret of this start, compared in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), secret.encode())
