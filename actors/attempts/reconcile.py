"""Unanswered requests, looked up by our reference if the service supports that.

A job that is found is resumed.  A request that the service does not know may have been carried out all the same: it
stays unknown, and is ordered again only if its provider may bill twice.  While the service is away or starting, a task
of a provider that may bill twice goes on, for example to its fallback.  Every other task waits for an answer, and no
attempt is counted, because a look-up costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from actors.attempts.jobs import job_of_request, provider_of
from actors.files.scratch import Scratch
from actors.providers.base import (
    Accepted,
    Job,
    LooksUp,
    NotReady,
    Postponed,
    Transient,
    Unreachable,
    Unreadable,
)
from supervisor.database.interface.database import Transaction
from supervisor.remote.job_states import RemoteState
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence, RemoteJob

if TYPE_CHECKING:
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim

log = structlog.get_logger(__name__)


async def look_up_unheard(worker: Worker, claim: Claim) -> None:
    """Look up this charge's unanswered requests at their services, and record the answers.  Raises ProviderError."""
    unheard = await worker.database.read_async(
        lambda tx: remote_jobs.unheard(tx, *claim.of_step, before_lease=claim.lease)
    )
    for job in unheard:
        provider = provider_of(worker, job.provider)
        if isinstance(provider, LooksUp):
            order = job_of_request(worker, claim, job, Scratch(Path()))
            try:
                remote = await _ask(provider, order)
            except (Unreachable, NotReady) as error:
                if not provider.may_bill_twice:
                    raise
                log.info(
                    "request_not_looked_up", task=claim.task_id, reference=job.reference, reason=str(error)
                )
                continue
            log.info("request_looked_up", task=claim.task_id, reference=job.reference, found=bool(remote))
            await worker.write(_evidence(job, remote))


async def _ask(provider: LooksUp, order: Job) -> Accepted | None:
    """The service's answer.  Raises Postponed if the service can't answer now."""
    try:
        async with asyncio.timeout(order.ai_timeout_seconds):
            return await provider.look_up(order)
    except Unreadable:
        raise
    except (Transient, TimeoutError) as error:
        raise Postponed(str(error) or "The AI service does not say whether it has the job.") from None


def _evidence(job: RemoteJob, remote: Accepted | None) -> Callable[[Transaction], bool]:
    if remote is None:
        return lambda tx: remote_jobs.settle(tx, job, RemoteState.UNKNOWN)
    evidence = Evidence(job.id, job.reference)
    return lambda tx: remote_jobs.accepted(
        tx, evidence, remote.remote_id, remote.details, reports=remote.reports
    )
