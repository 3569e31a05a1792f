"""Requests whose answer nobody heard, looked up by our own name for them where the service can be asked that.

What is found is resumed.  What the service does not know may have been carried out all the same: it stays unknown, and
is ordered again only where its provider may bill twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from actors.attempts.jobs import job_of, provider_of
from actors.providers.base import Accepted, LooksUp
from supervisor.database.api import Transaction
from supervisor.remote.job_states import RemoteState
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence, RemoteJob

if TYPE_CHECKING:
    from actors.worker.worker import Worker
    from supervisor.store.tasks.claims import Claim

log = structlog.get_logger(__name__)


async def look_up_unheard(worker: Worker, claim: Claim) -> None:
    """Ask services about this charge's unanswered requests, and write down what they say.  Raises ProviderError."""
    unheard = await worker.database.read_async(
        lambda tx: remote_jobs.unheard(tx, claim.task_id, claim.charge, before_lease=claim.lease)
    )
    for job in unheard:
        provider = provider_of(worker, job.provider)
        if isinstance(provider, LooksUp):
            order = job_of(
                worker, claim, job.provider, pictures=job.pictures, folder=Path(), reference=job.reference
            )
            remote = await provider.look_up(order)
            log.info("request_looked_up", task=claim.task_id, reference=job.reference, found=bool(remote))
            await worker.write(_evidence(job, remote))


def _evidence(job: RemoteJob, remote: Accepted | None) -> Callable[[Transaction], bool]:
    if remote is None:
        return lambda tx: remote_jobs.settle(tx, job, RemoteState.UNKNOWN)
    evidence = Evidence(job.id, job.reference)
    return lambda tx: remote_jobs.accepted(
        tx, evidence, remote.remote_id, remote.details, reports=remote.reports
    )
