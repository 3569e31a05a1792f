"""One look at one remote job: read what its service has reported, else ask it; fetch and store its pictures."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from actors.jobs import job_of, provider_of
from actors.outcomes import after_poll_error
from actors.paid_requests import note_end
from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    NotGenuine,
    Provider,
    ProviderDown,
    ReadsReports,
    Report,
    ResultLost,
    Running,
)
from actors.storing import store_pictures
from supervisor.database import Transaction
from supervisor.poll_times import next_poll_seconds
from supervisor.remote_states import Word
from supervisor.store import remote_reports
from supervisor.store.claims import Claim
from supervisor.store.remote_jobs import RemoteJob
from supervisor.store.results import ResultFile

if TYPE_CHECKING:
    from actors.worker import Worker

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was learned of a remote job.

    files: its stored pictures.  read: ids of the reports that it settles.  newest_report: id of the last one that was
    looked at.  word: of one that runs, who says so; a report was sent at a time of which we know nothing."""

    job: RemoteJob
    answer: Running | Done | Failed
    files: tuple[ResultFile, ...] = ()
    read: tuple[int, ...] = ()
    newest_report: int = 0
    word: Word = Word.SILENT


async def look_at(worker: Worker, claim: Claim, job: RemoteJob, reports: Sequence[int]) -> Seen:
    """How it is doing; pictures that are done are stored when this returns.  reports: ids of its unread ones."""
    folder = Path(tempfile.mkdtemp(dir=worker.scratch))
    try:
        return await _look(worker, claim, job, reports, folder)
    finally:
        if any(os.scandir(folder)):
            await asyncio.to_thread(shutil.rmtree, folder, True)
        else:
            folder.rmdir()


async def _look(worker: Worker, claim: Claim, job: RemoteJob, reports: Sequence[int], folder: Path) -> Seen:
    read: list[int] = []
    newest, word = max(reports, default=0), Word.SILENT
    try:
        async with asyncio.timeout(worker.settings.tasks[claim.type].ai_timeout_seconds):
            provider = provider_of(worker, job.provider)
            order = job_of(
                worker, claim, job.provider, pictures=job.pictures, folder=folder, reference=job.reference
            )
            remote = Accepted(job.remote_id, details=job.details, reports=job.reports)
            answer = await _read_reports(worker, provider, remote, order, reports, read)
            if answer is None:
                # A report was all we heard of a job without an id: the next one tells more.
                answer = await provider.poll(remote, order) if job.remote_id else Running(was_asked=False)
                word = Word.UNASKABLE if isinstance(answer, Running) and not answer.was_asked else Word.SAID
            if isinstance(answer, Done) and not answer.images and not answer.without_pictures:
                answer = Failed(ResultLost("The AI service has finished, but sent no picture."))
            files = await store_pictures(worker, claim, answer) if isinstance(answer, Done) else []
    except Exception as error:  # noqa: BLE001  every error says something of the job, or nothing
        _say(worker, claim, job, error)
        usual = next_poll_seconds(5.0, job.age_seconds, reports=False, draw=0.0)
        answer, files, word = after_poll_error(error, usual_seconds=usual), [], Word.SILENT
        read = [] if isinstance(answer, Running) else read  # what could not be followed up is read again
    return Seen(job, answer, tuple(files), tuple(read), newest, word)


async def _read_reports(
    worker: Worker, provider: Provider, remote: Accepted, order: Job, reports: Sequence[int], read: list[int]
) -> Running | Done | Failed | None:
    """What the reports say: the first that settles it, else the last; None for a reason to ask, or none to go by.

    read: is added to."""
    said: Running | None = None
    for report_id in reports:
        answer: Running | Done | Failed | None = None
        if isinstance(provider, ReadsReports):
            report = await worker.database.read_async(_report(report_id))
            try:
                answer = await provider.parse_callback(remote, order, report) if report else None
            except NotGenuine as reason:
                log.warning("report_refused", task=order.task_id, reason=str(reason))
        read.append(report_id)
        if isinstance(answer, Done | Failed):
            return answer
        said = answer or said
    return said if said is not None and said.poll_after_seconds > 0 else None


def _report(report_id: int) -> Callable[[Transaction], Report | None]:
    def read(tx: Transaction) -> Report | None:
        stored = remote_reports.get(tx, report_id)
        return None if stored is None else Report(stored.headers, stored.body)

    return read


def _say(worker: Worker, claim: Claim, job: RemoteJob, error: Exception) -> None:
    log.info(
        "poll_failed",
        task=claim.task_id,
        provider=job.provider,
        kind=type(error).__name__,
        reason=str(error),
    )
    if isinstance(error, ProviderDown):
        worker.database.write(lambda tx: note_end(tx, job.provider, error))
