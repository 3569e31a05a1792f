"""A claim, as the modules that work on the task pass it on."""

from __future__ import annotations

import dataclasses
from typing import Any

from supervisor.core.rescue import Budget


@dataclasses.dataclass(frozen=True)
class Claim:
    """A task that a worker holds, at one of its steps.  image_keys: {upload's id: its key in the file store}.

    For a type with steps, params, image_keys and count are those of the order until `actors.attempts.steps` has made
    them those of the step; each: the params of each request of a step that has one for each of something;
    params_hash: of the step; fixed: all its steps, as they were fixed at admission; mistake: why the step can't be
    done; ordered: the pictures of the order, where count is of the step; lacking: pictures that the step goes over
    and that were not made.

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
    step: int = 0
    last_step: int = 0
    lane: str = ""
    each: tuple[dict[str, Any], ...] = ()
    params_hash: str = ""
    fixed: tuple[dict[str, Any], ...] = ()
    mistake: Exception | None = None
    ordered: int = 0
    lacking: int = 0

    @property
    def of_step(self) -> tuple[str, int, int]:
        """(task id, charge, step): remote jobs, files and reports with these three belong to this claim."""
        return self.task_id, self.charge, self.step
