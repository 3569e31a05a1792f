"""The actors of task types, which run nothing: a task is claimed by the dispatcher, and its worker told so.

Whoever sends a message to one of them, a foreign producer or a dispatcher of an older program, reads in the log why
nothing happens; unread messages would lie there for ever.
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
