"""Short-lived tokens: a ticket that opens a stream, and a user's token that a service requests."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from supervisor.security.tokens import (
    TICKET_FIRST_USE_SECONDS,
    is_user_name,
    make_feed_ticket,
    make_user_token,
)
from supervisor.store.limits import blocks
from web.handling.context import IDENTITY, check_is_service, context_of
from web.handling.request_bodies import judge_json, members_of
from web.handling.responses import json_answer
from web.http.problems import Problem

TOKEN_SECONDS = range(1, 86_401)
DEFAULT_TOKEN_SECONDS = 3600


async def issue_ticket(request: web.Request) -> web.Response:
    """201 with a ticket for `?ticket=`: its first use must be within a minute; then it can reopen that stream for an
    hour."""
    context, identity = context_of(request), request[IDENTITY]
    await context.check_token(request)
    ticket = make_feed_ticket(context.secret, identity.user, asked_by=identity.proofs)
    return json_answer({"ticket": ticket, "expires_in": TICKET_FIRST_USE_SECONDS}, status=201)


async def issue_token(request: web.Request) -> web.Response:
    """201 with a token of role `user`, for a page or an SDK of that user.

    403 if the caller is not a service, or if the user is blocked; 422.

    It expires after `ttl_seconds`, and ends when the service's own token is revoked.
    """
    context, identity = context_of(request), request[IDENTITY]
    check_is_service(request)
    user, seconds = await judge_json(request, _wanted)
    await context.read(request, lambda tx: blocks.refuse(blocks.ask(tx, user)))
    token = make_user_token(context.secret, user, ttl_seconds=seconds, asked_by=identity.proofs)
    return json_answer({"token": token, "expires_in": seconds}, status=201)


def _wanted(body: Any) -> tuple[str, int]:
    """(user, seconds).  Raises a Problem, 422."""
    given, wrong = members_of(body, ("user", "ttl_seconds"))
    user, seconds = given.get("user"), given.get("ttl_seconds", DEFAULT_TOKEN_SECONDS)
    if not isinstance(user, str) or not is_user_name(user):
        wrong.append(("/user", "This must name the user: 1-128 characters, no control characters."))
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds not in TOKEN_SECONDS:
        wrong.append(("/ttl_seconds", f"This must be a whole number from 1 to {TOKEN_SECONDS[-1]:,}."))
    if wrong:
        raise Problem(422, "The token can't be made.", kind="bad_params", errors=wrong)
    return str(user), seconds
