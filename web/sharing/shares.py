"""POST /v1/works/{work_id}/shares: a link that shows a finished work to everybody who has it, for a while.

A link is a signed token and not stored.  It names the work and no user.  It ends at its time, when the work is deleted,
and when the tokens that its user had at its making are revoked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from supervisor.core.errors import WorkNotFound
from supervisor.core.ids import is_task_id
from supervisor.core.lifecycle import Status
from supervisor.security.tokens import make_share_token, read_share_token
from supervisor.store.feed import works
from web.handling.context import context_of, user_of
from web.handling.origin import origin_of
from web.handling.request_bodies import judge_json, members_of
from web.handling.responses import json_answer
from web.http.problems import Problem

SHARED_PATH = "/shared/{token}"
HOUR, DAY = 3600, 86_400
TTL_SECONDS = (HOUR, DAY, 7 * DAY, 30 * DAY)


async def share(request: web.Request) -> web.Response:
    """201 with the link.  404, 409 for a work without finished pictures and files, 422."""
    context, work_id = context_of(request), request.match_info["work_id"]
    seconds = await judge_json(request, _wanted)
    user = user_of(request)
    doc = (
        await context.read(request, lambda tx: works.get(tx, work_id, user)) if is_task_id(work_id) else None
    )
    if doc is None:
        raise WorkNotFound(work_id if is_task_id(work_id) else "of that name")
    if doc["status"] != Status.COMPLETED or not (doc["images"] or files_of(doc)):
        raise Problem(
            409,
            "Only a finished work with pictures or files can be shown to others.",
            kind="nothing_to_share",
        )
    token = make_share_token(context.secret, work_id, ttl_seconds=seconds)
    expires_at = read_share_token(context.secret, token).expires_at
    ends = datetime.fromtimestamp(expires_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    url = origin_of(request) + SHARED_PATH.format(token=token)
    return json_answer({"url": url, "expires_at": ends}, status=201)


def files_of(doc: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The films, sounds and other files of a work, as stored: [{key, media_type, bytes, name, …}]."""
    return list((doc["outputs"] or {}).get("files", ()))


def _wanted(body: Any) -> int:
    """For how many seconds.  Raises a Problem, 422."""
    given, wrong = members_of(body, ("ttl_seconds",))
    seconds = given.get("ttl_seconds")
    if isinstance(seconds, bool) or seconds not in TTL_SECONDS:
        wrong.append(("/ttl_seconds", f"This must be one of {', '.join(map(str, TTL_SECONDS))}."))
    if wrong:
        raise Problem(422, "The link can't be made.", kind="bad_params", errors=wrong)
    return int(given["ttl_seconds"])
