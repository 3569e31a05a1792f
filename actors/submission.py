"""The Dramatiq door: any Dramatiq producer may send `submit(...)`, with the rules of `POST /v1/tasks`."""

from __future__ import annotations

from typing import Any

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage

from actors.broker import CONTROL_QUEUE
from actors.worker import current_worker
from supervisor.database import Transaction
from supervisor.faults import Fault
from supervisor.store import tasks
from supervisor.task_params import check_submission

log = structlog.get_logger(__name__)


@dramatiq.actor(queue_name=CONTROL_QUEUE, time_limit=60_000)
async def submit(user_openid: str, type: str, params: dict[str, Any], **options: Any) -> None:
    """Make a task.  options: `task_id`, `priority`, `run_after`, `webhook`.

    Without a `task_id` the message's own id is taken, so that a message that is delivered twice makes one task.
    What is refused is logged and not tried again; producers that must know use HTTP.
    """
    worker = current_worker()
    message = CurrentMessage.get_current_message()
    task_id = options.pop("task_id", None) or (message.message_id if message else None)
    try:
        body = {"type": type, "params": params, **options}
        checked = check_submission(body, worker.settings, may_jump_the_queue=True)
        new = tasks.NewTask(
            user_openid,
            checked.type,
            checked.params,
            checked.priority,
            checked.run_after,
            task_id,
            checked.checked,
            webhook=checked.webhook,
        )
    except Fault as fault:
        log.warning("submission_refused", user=user_openid, type=type, reason=str(fault))
        return

    def store(tx: Transaction) -> str | None:
        if task_id is not None and tasks.get(tx, task_id) is not None:
            return None
        return str(tasks.submit(tx, worker.settings, new)["task_id"])

    try:
        stored = await worker.database.write_async(store)
        log.info("task_submitted", task=stored or task_id, user=user_openid, type=type, again=stored is None)
    except Fault as fault:
        log.warning("submission_refused", user=user_openid, type=type, reason=str(fault))
