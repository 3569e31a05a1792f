"""One poll of one remote job: read its service's reports, else poll the service; fetch and store its pictures."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from actors.attempts.jobs import job_of_request, provider_of
from actors.attempts.outcomes import after_question
from actors.attempts.outputs import store_pictures
from actors.attempts.paid_requests import note_end
from actors.attempts.reported_cost import Spent, spent_on
from actors.files.scratch import scratch_of
from actors.providers.base import (
    Accepted,
    Done,
    Failed,
    Job,
    Lost,
    NotGenuine,
    Provider,
    ProviderDown,
    ReadsReports,
    Report,
    ResultGone,
    ResultLost,
    Running,
    Unreadable,
)
from supervisor.core.claim import Claim
from supervisor.core.errors import drop_frames
from supervisor.database.interface.database import Transaction
from supervisor.remote.job_states import Word
from supervisor.remote.poll_backoff import next_poll_seconds
from supervisor.remote.unclear_answers import UNKNOWN_SECONDS, Doubts
from supervisor.steps.lanes import terms_of
from supervisor.store.remote import remote_reports
from supervisor.store.remote.remote_jobs import RemoteJob
from supervisor.store.tasks.results import ResultFile

if TYPE_CHECKING:
    from actors.attempts.wait_for_space import Room
    from actors.worker.worker import Worker

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Seen:
    """The result of polling a remote job.

    files: its stored pictures.  read: ids of the reports that are done with.  newest_report: id of the last report that
    was read.  doubts: the number of unclear answers in a row; None if it was not polled.  word: for a running job, the
    source of the answer; the sending time of a report is unknown.  spent: its cost.
    """

    job: RemoteJob
    answer: Running | Done | Failed
    files: tuple[ResultFile, ...] = ()
    read: tuple[int, ...] = ()
    newest_report: int = 0
    doubts: Doubts | None = None
    word: Word = Word.SILENT
    spent: Spent | None = None


async def look_at(worker: Worker, claim: Claim, job: RemoteJob, reports: Sequence[int], room: Room) -> Seen:
    """Its state; finished pictures are stored when this returns.  reports: ids of its unread reports."""
    read: list[int] = []
    newest, word = max(reports, default=0), Word.SILENT
    files: list[ResultFile] = []
    spent: Spent | None = None
    heard: Running | Done | Failed | Exception
    try:
        async with (
            scratch_of(worker.scratch, f"{claim.task_id}-{claim.lease}-{job.id}") as scratch,
            asyncio.timeout(terms_of(worker.settings, claim.type, claim.lane).ai_timeout_seconds) as limit,
        ):
            provider = provider_of(worker, job.provider)
            order = job_of_request(worker, claim, job, scratch)
            spent = spent_on(worker, claim, job.provider, job.reference, order.bill, lease=job.lease)
            remote = Accepted(job.remote_id, details=job.details, reports=job.reports)
            reported = await _read_reports(worker, provider, remote, order, reports, read)
            asks = reported is None and bool(job.remote_id)
            # Only a report has come for this job, and we have no id: the next report decides.
            heard = await provider.poll(remote, order) if asks else reported or Running(was_asked=False)
            if reported is None and isinstance(heard, Running):
                word = Word.SAID if heard.was_asked else Word.UNASKABLE
            if isinstance(heard, Done) and heard.is_empty:
                heard = Failed(ResultLost("The AI service has finished, but sent no picture."))
            if isinstance(heard, Failed) and isinstance(heard.error, ProviderDown):
                _say(worker, claim, job, heard.error)
            if isinstance(heard, Done):
                limit.reschedule(None)  # the pictures were fetched: they are kept until there is room
                files = await store_pictures(worker, claim, heard, room, job=order)
            if not asks:
                return Seen(job, heard, tuple(files), tuple(read), newest, word=word, spent=spent)
    except Exception as error:  # noqa: BLE001  every error says something of the job, or nothing
        _say(worker, claim, job, error)
        drop_frames(error)  # this one knows the error, and holds the job
        heard = error
    answer, doubts = after_question(
        heard,
        job.doubts,
        may_bill_twice=job.provider in worker.settings.providers_that_may_bill_twice,
        usual_seconds=next_poll_seconds(5.0, job.age_seconds, reports=False, chance=0.0),
    )
    is_an_answer = isinstance(heard, Failed | Lost | Unreadable | ResultGone)
    if is_an_answer and doubts.are_believed(UNKNOWN_SECONDS):
        word = Word.SAID  # an unknown job is an answer too, once it counts
    if isinstance(heard, Exception) and isinstance(answer, Running):
        read = []  # a report that led to an error is read again
    return Seen(job, answer, tuple(files), tuple(read), newest, doubts, word, spent)


async def _read_reports(
    worker: Worker, provider: Provider, remote: Accepted, order: Job, reports: Sequence[int], read: list[int]
) -> Running | Done | Failed | None:
    """The decisive report, else the last one; None if the service must be polled.

    read: is extended.
    """
    said: Running | None = None
    for report_id in reports:
        answer: Running | Done | Failed | None = None
        if isinstance(provider, ReadsReports):
            report = await worker.database.read_async(_report(report_id))
            try:
                answer = await provider.parse_callback(remote, order, report) if report else None
            except (NotGenuine, Unreadable) as reason:  # the next report, or a poll, decides
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
