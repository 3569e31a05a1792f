"""Names in the path of a request: one that can name nothing is not found."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from supervisor.core.errors import Fault, TaskNotFound
from supervisor.core.ids import is_task_id
from supervisor.security.tokens import is_user_name
from web.http.problems import Problem


def task_in_path(request: web.Request) -> str:
    """Its id.  Raises TaskNotFound for an impossible one."""
    return id_in_path(request, "task_id", TaskNotFound)


def id_in_path(request: web.Request, name: str, not_found: Callable[[str], Fault]) -> str:
    """An id in the alphabet of tasks.  Raises `not_found` for an impossible one."""
    given = request.match_info[name]
    if not is_task_id(given):
        raise not_found("of that name")
    return given


def user_in_path(request: web.Request) -> str:
    """Raises a Problem, 404, for a name that no user can have."""
    user = request.match_info["user"]
    if not is_user_name(user):
        raise Problem(404, "That can name no user.", kind="not_found")
    return user
