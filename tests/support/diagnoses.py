"""The reason for a task's state, as `show` prints it."""

from __future__ import annotations

from typing import Any

from supervisor.health.diagnosis import diagnose
from supervisor.store.operators import task_details
from tests.conftest import Store


def why(store: Store, task_id: str, house: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """house: what else is to be told of the house than that all is well with it."""
    found = store.database.read(lambda tx: task_details.examine(tx, store.settings, task_id))
    assert found is not None
    found["house"] |= {"is_dispatcher_fresh": True, "takes_tasks": True} | (house or {})
    return diagnose(found, **more)
