"""/v1/credits/{user}: a service grants its users credits and reads their accounts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web

from config.price import MOST_CREDITS
from supervisor.database.interface.database import Transaction
from supervisor.store.ledger import credits
from supervisor.store.ledger.credits import Granted
from web.handling.context import check_is_service, context_of
from web.handling.path_names import user_in_path
from web.handling.request_bodies import is_storable, judge_json, members_of
from web.handling.responses import json_answer
from web.http.problems import Problem

MOST_REFERENCE_CHARACTERS = 200
_OURS = "http:"  # separate from the references of `darkroom credits grant`


async def grant(request: web.Request) -> web.Response:
    """201 with the grant; 200 if it was made before; 409 if its reference belongs to another grant."""
    user = _user(request)
    amount, reference = await judge_json(request, grant_in)
    given = await granted(
        request, lambda tx: credits.grant_once(tx, user, amount, _OURS + reference), user, amount
    )
    body = {"user": user, "amount": amount, "reference": reference, "balance": given.balance}
    return json_answer(body, status=201 if given.is_new else 200)


async def show(request: web.Request) -> web.Response:
    """200 with a user's balance and the newest entries of the ledger; none for an unknown user."""
    user = _user(request)
    return json_answer(await context_of(request).read(request, lambda tx: credits.statement(tx, user)))


async def granted(
    request: web.Request, step: Callable[[Transaction], Granted], user: str, amount: int
) -> Granted:
    """The step's grant, whether made now or before.  Two at once with the same reference: the second finds the first.

    Raises a Problem, 409, if its reference stands for a grant to another user, or of another amount.
    """
    given = await context_of(request).write(request, step)
    if (given.user, given.amount) != (user, amount):
        raise Problem(
            409,
            "This reference stands for another grant: another user, or another amount.",
            kind="reference_reused",
        )
    return given


def grant_in(body: Any, *, given_reference: str | None = None) -> tuple[int, str]:
    """(amount, reference).  given_reference: for a body without one.  Raises a Problem, 422."""
    given, wrong = members_of(body, ("amount", "reference"))
    amount, reference = given.get("amount"), given.get("reference", given_reference)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 1 <= amount <= MOST_CREDITS:
        wrong.append(("/amount", f"This must be a whole number from 1 to {MOST_CREDITS:,}."))
    is_text = isinstance(reference, str) and 1 <= len(reference) <= MOST_REFERENCE_CHARACTERS
    if not is_text or not is_storable(str(reference)):
        wrong.append(
            ("/reference", f"This must be text of 1 to {MOST_REFERENCE_CHARACTERS} characters, without NUL.")
        )
    if wrong:
        raise Problem(422, "The grant can't be made.", kind="bad_params", errors=wrong)
    assert isinstance(amount, int) and isinstance(reference, str)
    return amount, reference


def _user(request: web.Request) -> str:
    """The user in the path.  Raises a Problem: 403 if the caller is not a service, 404 for an impossible user name."""
    check_is_service(request)
    return user_in_path(request)
