"""The public view of task types, for `GET /v1/types` and the command line on the service's own host."""

from __future__ import annotations

from typing import Any

from config.settings import Settings
from config.task_type import TaskType


def shown_types(settings: Settings) -> list[dict[str, Any]]:
    """The public part of each declaration: without providers, limits and running details."""
    return [_shown(name, task_type) for name, task_type in settings.tasks.items()]


def _shown(name: str, task_type: TaskType) -> dict[str, Any]:
    return {
        "type": name,
        "title": task_type.title,
        "about": task_type.about,
        "inputs": task_type.inputs.bounds,
        "slots": [slot.model_dump() for slot in task_type.slots],
        "count": task_type.count,
        "scenes": task_type.scenes,
        "parameters": task_type.parameters,
        "outputs": task_type.outputs,
        "steps": [step.name for step in task_type.steps],
        "price": task_type.price_in_use.model_dump(),
    }
