"""POST /v1/feed-tickets: leave to open a stream where no header can be set, such as a browser's EventSource."""

from __future__ import annotations

from aiohttp import web

from supervisor.security.tokens import TICKET_FIRST_USE_SECONDS, make_feed_ticket
from web.handling.context import IDENTITY, context_of
from web.handling.responses import json_answer


async def issue(request: web.Request) -> web.Response:
    """201 with a ticket for `?ticket=`: first use within a minute, then good to reopen that stream for an hour."""
    context, identity = context_of(request), request[IDENTITY]
    await context.read(request, lambda _: None)  # nothing but whether the token is still good
    ticket = make_feed_ticket(context.secret, identity.user, asked_by=identity.proofs)
    return json_answer({"ticket": ticket, "expires_in": TICKET_FIRST_USE_SECONDS}, status=201)
