"""What a service says its answer cost is told to the job, which keeps it beside the attempt."""

from __future__ import annotations

import asyncio

from actors.providers.base import Job
from actors.providers.common.answers import Answer, Rules


async def note_cost(job: Job, answer: Answer, rules: Rules) -> None:
    """Nothing where the settings do not say where a cost stands, and where the answer has none there."""
    if rules.cost is not None:
        job.note_cost(
            await asyncio.to_thread(rules.cost.cost_in, answer.headers, answer.body, answer.document)
        )
