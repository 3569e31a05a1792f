"""/v1/ops/users/…: one user as operators see them, and what admins do to users."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Transaction
from supervisor.store.limits import blocks
from supervisor.store.operators import administration, user_view
from web.api.grants import grant_in, granted
from web.handling.context import context_of
from web.handling.path_names import user_in_path
from web.handling.request_bodies import judge_json, members_of
from web.handling.responses import json_answer
from web.http.problems import Problem, unprocessable
from web.limits.rate_limits import used_this_minute
from web.operators.action_requests import one_line, write
from web.operators.authorisation import admin_of, viewer_of

OURS = "ops:"  # so that these references differ from those of services and of the command line
MOST_BLOCKED = 200


async def list_blocked(request: web.Request) -> web.Response:
    """200 with the users who are blocked, the newest first."""
    viewer_of(request)
    items = await context_of(request).read(request, lambda tx: blocks.all_blocked(tx, MOST_BLOCKED))
    return json_answer({"items": items})


async def show(request: web.Request) -> web.Response:
    """200 with all that is known of a user; 404 for one who was never seen."""
    viewer_of(request)
    user, context = user_in_path(request), context_of(request)
    seen = await context.read(request, lambda tx: user_view.read(tx, context.settings, user))
    if seen is None:
        raise Problem(404, "This user was never seen.", kind="not_found")
    streams = {
        "name": "streams",
        "used": context.hub.streams_of(user),
        "most": context.settings.limits.streams_per_user,
    }
    seen["limits"] += [streams, *await used_this_minute(request, user)]
    return json_answer(seen)


async def block(request: web.Request) -> web.Response:
    """200 with the block, new or with another reason; 422 for a block of oneself."""
    admin, user = admin_of(request), user_in_path(request)
    reason = await judge_json(request, _reason_in)
    if user == admin.name:
        raise unprocessable("/user", "You can't block yourself: nobody could end that block from here.")
    stands = await write(request, lambda tx: administration.block(tx, admin, user, reason))
    return json_answer({"user": user, **stands})


async def unblock(request: web.Request) -> web.Response:
    """204; 404 for a user who is not blocked."""
    admin, user = admin_of(request), user_in_path(request)
    if not await write(request, lambda tx: administration.unblock(tx, admin, user)):
        raise Problem(404, "This user is not blocked.", kind="not_found")
    return web.Response(status=204)


async def grant(request: web.Request) -> web.Response:
    """As `POST /v1/credits/{user}/grants`, recorded; without a reference, each request is a new grant."""
    admin, user = admin_of(request), user_in_path(request)
    amount, reference = await judge_json(request, lambda body: grant_in(body, given_reference=new_ulid()))
    given = await granted(
        request, lambda tx: administration.grant(tx, admin, user, amount, OURS + reference), user, amount
    )
    body = {"user": user, "amount": amount, "reference": reference, "balance": given.balance}
    return json_answer(body, status=201 if given.is_new else 200)


async def revoke(request: web.Request) -> web.Response:
    """200: every token that the user has had until now is refused."""
    admin, user, now = admin_of(request), user_in_path(request), time.time()

    def step(tx: Transaction) -> None:
        administration.revoke_user(tx, admin, user, now)

    await write(request, step)
    return json_answer({"user": user, "not_before": now})


def _reason_in(body: Any) -> str:
    given, wrong = members_of(body, ("reason",))
    if wrong:
        raise Problem(422, "The user can't be blocked like this.", kind="bad_params", errors=wrong)
    return one_line(given.get("reason"), "reason", fewest=1)
