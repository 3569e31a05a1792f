"""The processing actors: one for each configured type, with its own time limit, all on one queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import dramatiq

from actors.attempt import run_attempt
from actors.broker import TASK_QUEUE
from actors.worker import current_worker

if TYPE_CHECKING:
    from actors.broker import DarkroomBroker
    from config.settings import Settings


def declare_processing_actors(broker: DarkroomBroker, settings: Settings) -> None:
    """Declare `<type>(task_id, dispatch)` for every type."""
    for name, task_type in settings.tasks.items():
        declare = dramatiq.actor(
            actor_name=name,
            queue_name=TASK_QUEUE,
            broker=broker,
            time_limit=round(task_type.time_limit_seconds * 1000),
        )
        declare(_processing(name))


def _processing(type_: str) -> Callable[[str, int], Awaitable[None]]:
    async def process(task_id: str, dispatch: int) -> None:
        """Run a hint.  Always returns normally: the outcome stands in the row, never in the message."""
        await run_attempt(current_worker(), type_, task_id, dispatch)

    return process
