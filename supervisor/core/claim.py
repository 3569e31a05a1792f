"""A claim as everybody who works on the task passes it round."""

from __future__ import annotations

import dataclasses
from typing import Any

from supervisor.core.rescue import Budget


@dataclasses.dataclass(frozen=True)
class Claim:
    """A task in a worker's hands.  image_keys: {upload's id: its key in the file store}.

    is_whole: False for one whose params were too large to send; `tell_again` tells them.
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
        """(task id, charge): whose remote jobs, files and reports are this claim's."""
        return self.task_id, self.charge
