"""The actors of task types, which run nothing: the dispatcher claims tasks and sends the claims to workers.

If another producer, or a dispatcher of an older program, sends a message to one of them, the log explains why nothing
happens; without these actors the messages would stay in the queue for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
import structlog

from actors.broker.broker import TASK_QUEUE

if TYPE_CHECKING:
    from actors.broker.broker import DarkroomBroker
    from config.settings import Settings

log = structlog.get_logger(__name__)


def declare_processing_actors(broker: DarkroomBroker, settings: Settings) -> None:
    """Declare an actor for every type."""
    for name in settings.tasks:
        dramatiq.actor(actor_name=name, queue_name=TASK_QUEUE, broker=broker)(_refuse)


def _refuse(*_: Any, **__: Any) -> None:
    log.warning(
        "message_refused",
        queue=TASK_QUEUE,
        reason="tasks are not run by messages; send `submit`, ask POST /v1/tasks or insert a row",
    )
