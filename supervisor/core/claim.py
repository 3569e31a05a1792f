"""A claim, as the modules that work on the task pass it on."""

from __future__ import annotations

import dataclasses
from typing import Any

from supervisor.core.rescue import Budget


@dataclasses.dataclass(frozen=True)
class Claim:
    """A task that a worker holds.  image_keys: {upload's id: its key in the file store}.

    is_whole: False if the params were too large for the message; `tell_again` reads them.
    """

    task_id: str
    lease: int
    attempt: int
    charge: int
    type: str
    user: str
    params: dict[str, Any]
    image_keys: dict[str, str]
    count: int
    budget: Budget
    wait_seconds: float
    is_whole: bool = True

    @property
    def of_charge(self) -> tuple[str, int]:
        """(task id, charge): remote jobs, files and reports with these two belong to this claim."""
        return self.task_id, self.charge
