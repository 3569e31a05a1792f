"""Pages of other origins that may call the API from a browser: those in ALLOWED_ORIGINS, and no other.

A browser asks first (`OPTIONS`, a preflight) and shows an answer to a page only if the answer names the page's origin.
Tokens are sent in headers that pages set themselves, so the browser's own credentials (cookies) are never allowed, and
`*` allows nothing without a token.  The demo user, who needs no token, stays closed to every foreign origin, allowed or
not: `demo_access` ensures that.
"""

from __future__ import annotations

from aiohttp import web

from config.settings import Settings
from web.handling.context import context_of
from web.http.problems import Problem

OPEN_TO_PAGES = ("/v1/", "/openai/v1/", "/replicate/v1/", "/fal/", "/files/", "/openapi.json")
METHODS = "GET, HEAD, POST, PUT, DELETE"
REQUEST_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Prefer, Range, Traceparent, X-Request-Id, X-User, "
    "X-Fal-Target-Url, X-Fal-Queue-Priority, X-Fal-Request-Timeout, X-Fal-Runner-Hint, X-Fal-Object-Lifecycle, "
    "X-Fal-Object-Lifecycle-Preference"
)
ANSWER_HEADERS = (
    "Idempotent-Replayed, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, "
    "X-Fal-Request-Id, X-Fal-Error-Type, X-Request-Id"
)
PREFLIGHT_SECONDS = 7200  # as long as Chromium keeps one


def is_open_to_pages(path: str, settings: Settings) -> bool:
    """Whether pages of other origins may call this path."""
    return bool(settings.allowed_origins) and path.startswith(OPEN_TO_PAGES)


async def answer_preflight(request: web.Request) -> web.Response:
    """204 for the preflight of a page of an allowed origin; 403 for any other."""
    if allowed_origin(request) is None:
        detail = "Pages of this origin may not call the API; DARKROOM_ALLOWED_ORIGINS names those that may."
        raise Problem(403, detail, kind="origin_not_allowed")
    headers = {
        "Access-Control-Allow-Methods": METHODS,
        "Access-Control-Allow-Headers": REQUEST_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
    }
    return web.Response(status=204, headers=headers)


async def name_the_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Before any answer's head is sent, also of streams and errors: add the page that may read it."""
    if not is_open_to_pages(request.rel_url.path, context_of(request).settings):
        return
    response.headers.add("Vary", "Origin")  # caches must not show one page's answer to another
    origin = allowed_origin(request)
    if origin is not None:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = ANSWER_HEADERS


def allowed_origin(request: web.Request) -> str | None:
    """The value of Access-Control-Allow-Origin for this request; None where its page may not read the answer."""
    allowed = context_of(request).settings.allowed_origins
    origins = request.headers.getall("Origin", [])
    if len(origins) != 1:
        return None
    if "*" in allowed:
        return "*"
    return origins[0] if origins[0].lower() in allowed else None
