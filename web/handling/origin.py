"""Under which address a caller has reached this server: links that leave with an answer begin with it."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from web.handling.context import context_of
from web.http.client_address import client_address

_ORIGIN = web.RequestKey("ORIGIN", str)


def origin_of(request: web.Request) -> str:
    """`http://HOST` or `https://HOST`, as the caller has written it."""
    known = request.get(_ORIGIN)
    if known is None:
        known = request[_ORIGIN] = _origin_of(request)
    return known


def linked_from(request: web.Request) -> Callable[[str], str]:
    """Makes a file's key a link that begins with the caller's own address for this server."""
    origin, link = origin_of(request), context_of(request).links.link
    return lambda key: origin + link(key)


def _origin_of(request: web.Request) -> str:
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport else None
    trusted = context_of(request).settings.trusted_proxies
    address = peer[0] if peer else None
    scheme = request.scheme
    forwarded = request.headers.get("X-Forwarded-Proto", "").lower()
    # One hop back leads to another address only where this one is a proxy that is trusted.
    if forwarded in ("http", "https") and client_address(address, ["192.0.2.1"], trusted) == "192.0.2.1":
        scheme = forwarded
    return f"{scheme}://{request.headers.get('Host', '')}"
