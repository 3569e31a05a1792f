"""Who may ask: each address of the operators needs a step of the ladder of roles; a refusal names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aiohttp import web

from supervisor.database.interface.database import Transaction
from supervisor.security.roles import Role, may
from supervisor.store.operators.audit import Operator
from web.handling.context import IDENTITY, context_of
from web.http.detached_work import finished
from web.http.problems import Problem, unprocessable

T = TypeVar("T")

MOST_REASON_CHARACTERS = 200

_NEEDED: dict[Role, str] = {
    "viewer": "This is for operators: it needs a token with role 'viewer', 'operator' or 'admin'.",
    "operator": "This is for operators: it needs a token with role 'operator' or 'admin'.",
    "admin": "This is for admins among the operators: it needs a token with role 'admin'.",
}


def viewer_of(request: web.Request) -> Operator:
    """The caller, who may read.  Raises a Problem, 403, that names the roles that may."""
    return _caller(request, "viewer")


def operator_of(request: web.Request) -> Operator:
    """The caller, who may act.  Raises a Problem, 403, that names the roles that may."""
    return _caller(request, "operator")


def admin_of(request: web.Request) -> Operator:
    """The caller, who may act on users.  Raises a Problem, 403, that names the role that may."""
    return _caller(request, "admin")


def _caller(request: web.Request, needed: Role) -> Operator:
    identity = request[IDENTITY]
    if not may(identity.role, needed):
        raise Problem(403, f"{_NEEDED[needed]} Yours has role '{identity.role}'.", kind="forbidden")
    return Operator(identity.user, identity.role)


def one_line(value: object, name: str, *, fewest: int = 0) -> str:
    """A reason of one line.  Raises a Problem, 422."""
    is_line = isinstance(value, str) and fewest <= len(value.strip()) and len(value) <= MOST_REASON_CHARACTERS
    if not is_line or not str(value).isprintable():
        least = f"{fewest} to " if fewest else "at most "
        raise unprocessable(
            f"/{name}", f"{name} must be one line of {least}{MOST_REASON_CHARACTERS} characters."
        )
    return str(value).strip()


async def write(request: web.Request, step: Callable[[Transaction], T]) -> T:
    """The step's result.  A caller that disconnects undoes nothing."""
    return await finished(context_of(request).write(request, step))
