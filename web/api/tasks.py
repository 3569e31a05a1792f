"""/v1/tasks: submit, show, list, cancel, retry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from supervisor.core.errors import BadParams, Fault, TaskNotFound
from supervisor.core.lifecycle import FINAL, OPEN
from supervisor.core.task_params import BadTask, Submission, check_submission
from supervisor.database.interface.database import Transaction
from supervisor.pictures.media_types import type_of_file
from supervisor.security.roles import is_bound, may
from supervisor.store.tasks import history, idempotency_keys, images, shown_steps, task_views, user_actions
from supervisor.store.tasks.estimates import estimate
from supervisor.store.tasks.new_task import Key, NewTask
from supervisor.store.tasks.submit import Submitted
from supervisor.telemetry import tracing
from web.access.authentication import asks_for_estimate
from web.api.large_data import with_large_data
from web.api.prefer_wait import task_after, wait_of
from web.handling.context import IDENTITY, TASK, TRACE, Context, context_of, user_of
from web.handling.idempotency_header import REPLAYED, key_of
from web.handling.path_names import task_in_path
from web.handling.request_bodies import bad_cursor, judge_json, limit_of, text_of
from web.handling.responses import accepted_task, json_answer, shown_page, shown_task, steps_with_links
from web.http.detached_work import finished
from web.http.problems import unprocessable

STATUSES = frozenset(str(status) for status in (*OPEN, *FINAL))

View = dict[str, Any]
Step = Callable[[Transaction], View]


async def submit(request: web.Request) -> web.Response:
    """202 once the task is stored; with `Prefer: wait=N`, 200 if it ends in time.

    402 too few credits, 422 bad input, 429 too many open tasks, 503 the queue is full.  With `estimate=true` 200 with
    the price, and nothing is stored.
    """
    context = context_of(request)
    if "estimate" in request.query:
        return await _estimate(request)
    with tracing.span("submit", "server", parent=request.headers.get("traceparent", "")) as span:
        request[TRACE] = span.trace_id
        view, is_replay = await _stored(request, span.traceparent)
        span.set_attributes(
            task_id=view["task_id"], type=view["type"], outcome="replayed" if is_replay else "stored"
        )
    request[TASK] = view["task_id"]
    headers = dict(REPLAYED) if is_replay else {}
    seconds = wait_of(request)
    if seconds is not None:
        view, has_waited = await task_after(context, view, seconds)
        headers |= {"Preference-Applied": f"wait={seconds}"} if has_waited else {}
        if has_waited and view["status"] in FINAL:
            return json_answer(
                shown_task(await context.queue_positions.placed(view), context.links.link), headers=headers
            )
    return json_answer(accepted_task(await context.queue_positions.placed(view)), status=202, headers=headers)


async def _estimate(request: web.Request) -> web.Response:
    context, identity = context_of(request), request[IDENTITY]
    if not asks_for_estimate(request):
        raise unprocessable("/estimate", "estimate must be true, or left out.")
    may_jump = not is_bound(identity.role)
    order = await judge_json(
        request, lambda body: check_submission(body, context.settings, may_jump_the_queue=may_jump)
    )
    try:
        told = await context.read(request, lambda tx: estimate(tx, context.settings, identity.user, order))
    except BadParams as bad:
        raise BadTask([(f"/params/{bad.member}", str(bad))], bad.code) from None
    placed = await context.queue_positions.placed(told["view"])
    members = ("queue_position", "eta_seconds")
    return json_answer(
        {"credits": told["credits"], "balance": told["balance"], **{each: placed[each] for each in members}}
    )


async def _stored(request: web.Request, trace: str) -> Submitted:
    """The task of a request, or the earlier one with the same key.  trace: the trace of the task."""
    context, identity = context_of(request), request[IDENTITY]

    def judge(body: Any) -> tuple[Submission, Key | None]:
        order = check_submission(body, context.settings, may_jump_the_queue=not is_bound(identity.role))
        return order, key_of(request, identity.user, body)

    order, key = await judge_json(request, judge)
    new = NewTask(
        identity.user,
        order.type,
        order.params,
        order.priority,
        order.run_after,
        checked=order.checked,
        key=key,
        webhook=order.webhook,
        trace=trace,
        proofs=identity.proofs,
    )
    return await stored(context, new, context.submissions.begin(new))


async def stored(context: Context, new: NewTask, submission: Awaitable[Submitted]) -> Submitted:
    """The stored order, or the earlier one with the same key.  submission: of `new`, under way.

    Raises as `Submissions.submit`, and BadTask.
    """
    try:
        return await submission
    except BadTask:
        raise
    except BadParams as bad:  # only the store finds a missing image
        raise BadTask([(f"/params/{bad.member}", str(bad))], bad.code) from None
    except Fault as fault:
        context.notices.refused(fault, new.user)
        raise


async def show(request: web.Request) -> web.Response:
    """200 with the task as it is now."""
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)

    def read(tx: Transaction) -> tuple[View, list[View]] | None:
        view = user_actions.get(tx, task_id, user)
        return None if view is None else (view, shown_steps.shown(tx, task_id))

    found = await context.read(request, read)
    if found is None:
        raise TaskNotFound(task_id)
    view, its_steps = found
    shown = shown_task(await context.queue_positions.placed(view), context.links.link)
    shown |= steps_with_links(its_steps, context.links.link)
    return json_answer(await with_large_data(context, view, shown))


async def show_events(request: web.Request) -> web.Response:
    """200 with the task's history, oldest first."""
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)
    items = await context.read(request, lambda tx: history.timeline(tx, task_id, user))
    if items is None:
        raise TaskNotFound(task_id)
    return json_answer({"items": items})


async def show_order(request: web.Request) -> web.Response:
    """200 with what the task was ordered as: enough to order the same again."""
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)

    def read(tx: Transaction) -> tuple[task_views.Order, list[images.KeptInput]] | None:
        order = task_views.order_of(tx, task_id, user)
        return None if order is None else (order, images.inputs_of(tx, user, order.params))

    found = await context.read(request, read)
    if found is None:
        raise TaskNotFound(task_id)
    order, inputs = found
    shown = [
        {
            "id": each.id,
            "kind": each.kind,
            "url": context.links.link(each.key),
            "media_type": each.media_type or type_of_file(each.key),
            "name": each.name or each.key.rpartition("/")[2],
        }
        for each in inputs
    ]
    return json_answer({"type": order.type, "params": order.params, "inputs": shown})


async def list_tasks(request: web.Request) -> web.Response:
    """200 with a page of tasks, newest first."""
    context, user, limit = context_of(request), user_of(request), limit_of(request)
    status, cursor, type_ = request.query.get("status"), request.query.get("cursor"), text_of(request, "type")
    if status is not None and status not in STATUSES:
        raise unprocessable("/status", f"status must be one of {', '.join(sorted(STATUSES))}.")
    try:
        page = await context.read(
            request,
            lambda tx: user_actions.page(tx, user, status=status, type_=type_, limit=limit, cursor=cursor),
        )
    except ValueError:
        raise bad_cursor() from None
    items = [
        shown_task(await context.queue_positions.placed(view), context.links.link) for view in page.items
    ]
    return json_answer(shown_page(page, items))


async def cancel(request: web.Request) -> web.Response:
    """202 with the cancelled task; 409 when it has finished."""
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)
    view, is_replay = await _once(request, lambda tx: user_actions.cancel(tx, task_id, user))
    if not is_replay:
        context.queue_positions.note_left(view)
    return await _changed(context, view, is_replay)


async def retry(request: web.Request) -> web.Response:
    """202 with the task, pending again and paid for again.

    402 too few credits, 409 if it can't be run again; 429 and 503 as for an order, but not for operators.
    """
    context, task_id, user = context_of(request), task_in_path(request), user_of(request)
    obeys_limits = not may(request[IDENTITY].role, "operator")

    def put_back(tx: Transaction) -> View:
        return user_actions.resubmit(tx, context.settings, task_id, user, obeys_limits=obeys_limits)

    try:
        view, is_replay = await _once(request, put_back)
    except Fault as fault:
        context.notices.refused(fault, user)
        raise
    if not is_replay:
        context.queue_positions.note_joined(view)
    return await _changed(context, view, is_replay)


async def _once(request: web.Request, step: Step) -> tuple[View, bool]:
    """The step's task, or the earlier one with the same key; and whether it is the earlier one.

    A caller that disconnects undoes nothing: a step that was passed to the writer is stored as a whole.
    """
    key = key_of(request, user_of(request))
    return await finished(context_of(request).write(request, lambda tx: idempotency_keys.once(tx, key, step)))


async def _changed(context: Context, view: View, is_replay: bool) -> web.Response:
    shown = shown_task(await context.queue_positions.placed(view), context.links.link)
    return json_answer(shown, status=202, headers=REPLAYED if is_replay else None)
