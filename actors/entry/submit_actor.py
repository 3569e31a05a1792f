"""Orders by Dramatiq: any Dramatiq producer may send `submit(...)`, with the rules of `POST /v1/tasks`.

A refusal is not an outage (CORRECTNESS 46).  An error in the order ends it.  If the database is away, locked or full,
the order waits without a limit, but not here: the message returns to the end of its queue, and any worker takes it
later, so that no sweep or drain waits for it and no worker's death loses it.  The task has the message's id.  So if an
order was stored but its confirmation was lost, the repeated message finds it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage

from actors.broker.broker import CONTROL_QUEUE
from supervisor.core.errors import (
    BadParams,
    Fault,
    InsufficientCredits,
    QueueFull,
    TooManyOpenTasks,
    UserBlocked,
    as_sentence,
)
from supervisor.core.ids import is_task_id
from supervisor.database.interface.database import Transaction
from supervisor.database.interface.errors import DatabaseError
from supervisor.store.sql.row_isolation import is_about_a_row

if TYPE_CHECKING:
    from actors.worker.worker import Worker
    from supervisor.store.tasks import user_actions

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 2.0  # how long an order may hold one of the two threads that sweeps and polls need too
AGAIN_SECONDS = 0.5
TELL_AGAIN_SECONDS = 60.0

REFUSALS = (BadParams, InsufficientCredits, TooManyOpenTasks, QueueFull)


class _NotNow(Exception):
    """The order could not be stored for now.  str() is a sentence."""


@dramatiq.actor(queue_name=CONTROL_QUEUE, time_limit=60_000)
async def submit(user_openid: str, type: str, params: dict[str, Any], **options: Any) -> None:
    """Make a task.  options: `task_id`, `priority`, `run_after`, `webhook`.

    Without a `task_id` the message's id is used, so that a message that is delivered twice makes one task.
    A refused order is logged, kept for operators (`store/operators/dead_letters`) and not tried again; a producer that
    needs the answer should use HTTP.  The order of a blocked user becomes a task that fails, as it does by SQL.
    """
    # Not at the top: producers, dispatcher and scheduler import this file, and run nothing.
    from actors.worker.worker import current_worker

    worker = current_worker()
    message = CurrentMessage.get_current_message()
    task_id = options.pop("task_id", None) or (message.message_id if message else None)
    try:
        new = _order(worker, task_id, user_openid, {"type": type, "params": params, **options})
        is_new, task_id = await _stored(worker, new)
    except (
        *REFUSALS,
        DatabaseError,
    ) as error:  # a database error about this order: all other errors may pass
        reason = as_sentence(error)
        log.warning("submission_refused", user=user_openid, type=type, reason=reason)
        await _keep_refused(worker, message.message_id if message else None, user_openid, type, reason)
    except _NotNow as reason:
        if message is None:
            raise
        worker.broker.give_back(message)
        _waits.tell(str(reason), time.monotonic())
    else:
        log.info("task_submitted", task=task_id, user=user_openid, type=type, again=not is_new)


async def _keep_refused(worker: Worker, message_id: str | None, user: Any, type_: Any, reason: str) -> None:
    """Keep a refused order for operators, since its producer hears nothing; if that fails, the log has it."""
    from supervisor.store.operators import dead_letters

    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await worker.database.write_async(
                lambda tx: dead_letters.note_refused_order(tx, message_id, user, type_, reason)
            )
    except (TimeoutError, Fault, DatabaseError) as error:
        log.warning("refused_order_not_kept", reason=str(error))


def _order(worker: Worker, task_id: Any, user: Any, body: dict[str, Any]) -> user_actions.NewTask:
    """Raises BadParams.  task_id, user: any JSON value; without this check, a database would report another type than
    text as an outage."""
    from supervisor.core.task_params import check_submission
    from supervisor.security.tokens import is_user_name
    from supervisor.store.tasks import user_actions

    if not (isinstance(user, str) and is_user_name(user)):
        raise BadParams("user_openid must be 1-128 characters without control characters.")
    if task_id is not None and not (isinstance(task_id, str) and is_task_id(task_id)):
        raise BadParams("task_id must be 1-64 characters of A-Z a-z 0-9 _ -.")
    checked = check_submission(body, worker.settings, may_jump_the_queue=True)
    return user_actions.NewTask(
        user,
        checked.type,
        checked.params,
        checked.priority,
        checked.run_after,
        task_id,
        checked.checked,
        webhook=checked.webhook,
    )


async def _stored(worker: Worker, new: user_actions.NewTask) -> tuple[bool, str]:
    """Whether the task is new, and not from an earlier delivery; and its id.

    Raises a refusal, or a database error about this order; _NotNow for every error that may pass.
    """

    from supervisor.store.tasks import user_actions
    from supervisor.store.tasks.submit import insert_unadmitted

    def store(tx: Transaction) -> tuple[bool, str]:
        if new.task_id is not None and user_actions.get(tx, new.task_id) is not None:
            return False, new.task_id
        try:
            return True, str(user_actions.submit(tx, worker.settings, new)["task_id"])
        except UserBlocked:  # as a row by SQL: it is stored, and its admission fails it
            return True, insert_unadmitted(tx, new)

    reason, twins = "The database takes its time.", 0
    if worker.draining:
        raise _NotNow("This worker drains.")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    return await worker.database.write_async(store)
                except REFUSALS:
                    raise
                except (Fault, DatabaseError) as error:
                    # An earlier delivery may have been committed between our check and our INSERT: check once more.
                    twins += is_about_a_row(error)
                    if twins > 1:
                        raise
                    reason = as_sentence(error)
                await asyncio.sleep(AGAIN_SECONDS)
    except TimeoutError:
        raise _NotNow(reason) from None


class _Waits:
    """Logs that orders wait: at once, and then once a minute with the number of postponements."""

    def __init__(self) -> None:
        self._told_at: float | None = None
        self._times = 0

    def tell(self, reason: str, now: float) -> None:
        self._times += 1
        if self._told_at is None or now - self._told_at >= TELL_AGAIN_SECONDS:
            log.warning("submissions_wait", reason=reason, times=self._times)
            self._told_at, self._times = now, 0


_waits = _Waits()
