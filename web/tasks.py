"""/v1/tasks: submit, look, list, cancel, retry."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from supervisor.faults import BadParams, TaskNotFound
from supervisor.ids import is_task_id
from supervisor.lifecycle import FINAL, OPEN
from supervisor.store import tasks
from supervisor.task_params import BadTask, check_submission
from web.answers import accepted_task, json_answer, shown_page, shown_task
from web.bodies import bad_cursor, limit_of, read_json
from web.parts import IDENTITY, parts_of, user_of
from web.problems import unprocessable

STATUSES = frozenset(str(status) for status in (*OPEN, *FINAL))


async def submit(request: web.Request) -> web.Response:
    """202 once the task is stored.  402 too few credits, 422 bad input, 429 too many open, 503 the queue is full."""
    parts = parts_of(request)
    identity = request[IDENTITY]
    order = check_submission(
        await read_json(request), parts.settings, may_jump_the_queue=identity.role != "user"
    )
    new = tasks.NewTask(identity.user, order.type, order.params, order.priority, order.run_after)
    try:
        # A caller who goes away takes nothing back: what was handed to the writer is stored as a whole.
        view = await asyncio.shield(
            parts.database.write_async(lambda tx: tasks.submit(tx, parts.settings, new))
        )
    except BadTask:
        raise
    except BadParams as bad:  # an image that is not there is known only to the store
        raise BadTask([("/params/images", str(bad))], bad.code) from None
    return json_answer(accepted_task(view), status=202)


async def show(request: web.Request) -> web.Response:
    """200 with the task as it is now."""
    parts, task_id, user = parts_of(request), _task_id(request), user_of(request)
    view = await parts.database.read_async(lambda tx: tasks.get(tx, task_id, user))
    if view is None:
        raise TaskNotFound(task_id)
    return json_answer(shown_task(view, parts.links.link))


async def list_tasks(request: web.Request) -> web.Response:
    """200 with a page of tasks, newest first."""
    parts, user, limit = parts_of(request), user_of(request), limit_of(request)
    status, type_, cursor = (request.query.get(name) for name in ("status", "type", "cursor"))
    if status is not None and status not in STATUSES:
        raise unprocessable("/status", f"status must be one of {', '.join(sorted(STATUSES))}.")
    try:
        page = await parts.database.read_async(
            lambda tx: tasks.page(tx, user, status=status, type_=type_, limit=limit, cursor=cursor)
        )
    except ValueError:
        raise bad_cursor() from None
    return json_answer(shown_page(page, [shown_task(view, parts.links.link) for view in page.items]))


async def cancel(request: web.Request) -> web.Response:
    """202 with the cancelled task; 409 when it has finished."""
    task_id, user = _task_id(request), user_of(request)
    return await _changed(request, lambda tx: tasks.cancel(tx, task_id, user))


async def retry(request: web.Request) -> web.Response:
    """202 with the task, pending again and paid for again; 402 too few credits, 409 when it can't be run again."""
    settings, task_id, user = parts_of(request).settings, _task_id(request), user_of(request)
    return await _changed(request, lambda tx: tasks.resubmit(tx, settings, task_id, user))


async def _changed(request: web.Request, step: Any) -> web.Response:
    parts = parts_of(request)
    view = await asyncio.shield(parts.database.write_async(step))
    return json_answer(shown_task(view, parts.links.link), status=202)


def _task_id(request: web.Request) -> str:
    task_id = request.match_info["task_id"]
    if not is_task_id(task_id):
        raise TaskNotFound("of that name")
    return task_id
