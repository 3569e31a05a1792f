"""The role that each address of the operators requires; a refusal names it."""

from __future__ import annotations

from aiohttp import web

from supervisor.security.roles import Role, may
from supervisor.store.operators.audit import Operator
from web.handling.context import IDENTITY
from web.http.problems import Problem

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
