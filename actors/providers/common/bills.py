"""Passes the reported cost of an answer to the job, which stores it beside the attempt."""

from __future__ import annotations

import asyncio

from actors.providers.base import Job
from actors.providers.common.answers import Answer, Rules


async def note_cost(job: Job, answer: Answer, rules: Rules) -> None:
    """Does nothing without a path in the settings, or without a cost in the answer."""
    if rules.cost is not None:
        job.note_cost(
            await asyncio.to_thread(rules.cost.cost_in, answer.headers, answer.body, answer.document)
        )
