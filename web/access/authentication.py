"""Authentication: a bearer token, a feed ticket, or, on a loopback host without either, the demo user.

A wrong token never counts as a missing one.  Everything under `/v1/` needs an identity, except `OPEN_PATHS`.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Handler

from supervisor.security.tokens import (
    BadToken,
    Identity,
    Ticket,
    is_user_name,
    read_feed_ticket,
    read_user_token,
)
from web.access.start_cookie import asked_from, has_cookie
from web.handling.context import IDENTITY, Context, context_of
from web.http.demo_access import is_of_a_browser, names_another_host, refusal
from web.http.problems import CHALLENGE, Problem
from web.limits.rate_limits import count_stranger

log = logging.getLogger("darkroom.web")

DEMO = Identity("demo", "admin")
FEED_PATH = "/v1/works/feed"
# Paths that have their own proof, or only public data.
OPEN_PATHS = frozenset(
    {
        "/v1/auth/wechat",
        "/v1/callbacks/{token}",
        "/v1/types",
        "/replicate/v1/predictions/{task_id}/stream",
        "/fal/storage/upload/{upload_id}",
        "/fal/storage/files/{upload_id}",
    }
)
LINK_NEEDED = (
    "This browser is not known here yet: open the link that `darkroom up` has printed below its address, or the one "
    "that `darkroom link` prints."
)
# Doors of other services' SDKs, whose keys are our tokens: some of them call the scheme of a token otherwise.
DOORS = ("/openai/v1/", "/replicate/v1/", "/fal/")
_SCHEMES_OF_DOORS = ("bearer", "key", "token")
TICKET = web.RequestKey("TICKET", Ticket)


@web.middleware
async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Set the request's identity, or answer 401 or 403; open the account of a user seen for the first time."""
    _warn_of_a_proxy(request, context_of(request))
    resource = request.match_info.route.resource
    if (
        resource is not None
        and resource.canonical.startswith(("/v1/", *DOORS))
        and resource.canonical not in OPEN_PATHS
        and request.method != "OPTIONS"  # a browser's preflight, which can't carry a token
    ):
        context = context_of(request)
        try:
            identity = _acting_for(identify(request, context), request)
        except Problem:
            await count_stranger(request)
            raise
        if not asks_for_estimate(request):  # an estimate stores nothing, not even an account
            await context.ensure_account(identity.user)
        request[IDENTITY] = identity
    return await handler(request)


def identify(request: web.Request, context: Context) -> Identity:
    """The caller's identity.  Raises a Problem: 401 without a proof, 403 for a demo user that may be a foreign web
    page."""
    try:
        given = request.headers.getall("Authorization", [])
        if given:
            return _of_header(request, given, context)
        if "ticket" in request.query and request.rel_url.path == FEED_PATH:
            ticket = read_feed_ticket(context.secret, request.query["ticket"], before=context.secret_before)
            request[TICKET] = ticket
            # One user's feed, from any requester.
            return Identity(ticket.user, "user", ticket.expires_at, ticket.proofs)
    except BadToken as bad:
        raise unauthorized(str(bad)) from None
    return _demo(request, context)


def asks_for_estimate(request: web.Request) -> bool:
    """Whether only an estimate is requested."""
    return (
        request.method == "POST" and request.path == "/v1/tasks" and request.query.get("estimate") == "true"
    )


def unauthorized(detail: str) -> Problem:
    """401, with the accepted proofs."""
    return Problem(401, detail, kind="unauthorized", headers=CHALLENGE)


def _of_header(request: web.Request, given: list[str], context: Context) -> Identity:
    scheme, _, token = given[0].partition(" ")
    schemes = _SCHEMES_OF_DOORS if request.path.startswith(DOORS) else ("bearer",)
    if len(given) > 1 or scheme.lower() not in schemes:
        raise BadToken("Authorization must be given once, as 'Bearer' and a token.")
    return read_user_token(context.secret, token.strip(), before=context.secret_before)


def _demo(request: web.Request, context: Context) -> Identity:
    if not context.settings.lets_demo_in:
        raise unauthorized("A token is needed: Authorization: Bearer <token>.")
    reason = refusal(
        **asked_from(request),
        origins=request.headers.getall("Origin", []),
        fetch_sites=request.headers.getall("Sec-Fetch-Site", []),
    )
    if reason is not None:
        raise Problem(403, reason, kind="forbidden")
    if is_of_a_browser(request.headers.keys()) and not has_cookie(request):
        raise Problem(403, LINK_NEEDED, kind="start_link_needed")
    return DEMO


def _warn_of_a_proxy(request: web.Request, context: Context) -> None:
    """Log once: a request names another host, perhaps through a proxy that adds no headers."""
    hosts = request.headers.getall("Host", [])
    if context.settings.lets_demo_in and not context.has_warned and names_another_host(hosts):
        context.has_warned = True
        log.warning(
            "a request names the host %.100r, but this server is for %s alone and takes who asks there without a token "
            "for the operator: if a proxy stands before it, set DARKROOM_DEMO_USER=false (docs/proxies.md)",
            hosts[0],
            context.settings.host,
        )


def _acting_for(identity: Identity, request: web.Request) -> Identity:
    """A service may name the user it acts for; other callers may not."""
    named = request.headers.getall("X-User", [])
    if not named or named == [identity.user]:
        return identity
    if identity.role != "service":
        raise Problem(403, "Only a token with role 'service' may act for another user.", kind="forbidden")
    user = named[0].strip()  # bytes that are not UTF-8 come as surrogates, which no name may hold
    if len(named) > 1 or not is_user_name(user):
        raise Problem(
            422, "X-User must name one user: 1-128 characters, no control characters.", kind="bad_params"
        )
    return Identity(user, identity.role, identity.expires_at, identity.proofs)
