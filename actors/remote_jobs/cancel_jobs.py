"""Send the cancels of ended tasks' remote jobs to their services.

The end of the task recorded the cancel; the dispatcher repeats it until the service confirms it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from actors.attempts.jobs import provider_of
from actors.providers.base import Accepted, ProviderError
from supervisor.core.errors import DatabaseBusy, Fault, drop_frames
from supervisor.remote.job_states import RemoteState
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import RemoteJob

if TYPE_CHECKING:
    from actors.worker.worker import Worker

log = structlog.get_logger(__name__)

CANCEL_SECONDS = 30.0


async def cancel_jobs(worker: Worker, ids: Sequence[int]) -> None:
    """Ask the services to stop the jobs of these rows, in parallel."""
    try:
        unwanted = await worker.database.read_async(lambda tx: remote_jobs.unwanted(tx, ids))
    except DatabaseBusy as fault:
        log.warning("remote_cancels_put_off", reason=str(fault))
        return  # they become due again soon
    await asyncio.gather(*(_cancel(worker, job) for job in unwanted))


async def _cancel(worker: Worker, job: RemoteJob) -> None:
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            provider = provider_of(worker, job.provider)
            is_over = await provider.cancel(Accepted(job.remote_id, details=job.details))
    except (ProviderError, Fault, TimeoutError) as error:
        log.info("remote_job_not_cancelled", task=job.task_id, provider=job.provider, reason=str(error))
        drop_frames(error)
        return
    except Exception:
        log.exception("remote_job_not_cancelled", task=job.task_id, provider=job.provider)
        return
    log.info("remote_job_cancelled", task=job.task_id, provider=job.provider, confirmed=is_over)
    if is_over:
        await worker.write(lambda tx: remote_jobs.settle(tx, job, RemoteState.CANCELLED))
