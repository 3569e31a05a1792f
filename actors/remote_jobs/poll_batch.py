"""Polls of remote jobs: a batch of claimed tasks is polled in parallel, and each result is recorded separately.

A poll holds no task slot.  It polls each service that works on the task, reads reports, and ends in one transaction:
wait again, or record the pictures and the task's end.  The state of a remote job is recorded even if the lease was
lost, because it is true for any holder of the task.

A poll may break off at any line.  Reports stay unread until their content is stored, files are stored before the rows
that name them, and the claim has made the task due again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import structlog

from actors.attempts.jobs import hash_of_params
from actors.attempts.outcomes import (
    Postpone,
    after_remote_error,
    as_stored,
    deciding,
    end_of_call,
    from_stored,
    state_of_failed,
)
from actors.attempts.provider_call import observe_call
from actors.attempts.record import completed, step_of
from actors.attempts.steps import at_step, shown_progress, shown_stage
from actors.attempts.task_spans import contexts_of, named_in_logs
from actors.attempts.wait_for_space import Room
from actors.providers.base import Done, Failed, Lost
from actors.providers.base import Running as JobRuns
from actors.remote_jobs.poll_one import Seen, look_at
from actors.worker.worker import Running, Why
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import Fault, LeaseLost
from supervisor.database.interface.database import Transaction
from supervisor.objects.disk_space import WAITING
from supervisor.remote.job_states import RemoteState, Word
from supervisor.remote.poll_backoff import next_poll_seconds
from supervisor.steps.lanes import poll_seconds
from supervisor.store.queue.capacity import takes_more
from supervisor.store.remote import remote_jobs, remote_reports
from supervisor.store.remote.remote_jobs import RemoteJob
from supervisor.store.tasks import claims, remote_wait, results
from supervisor.telemetry import tracing

if TYPE_CHECKING:
    from actors.worker.worker import Worker

log = structlog.get_logger(__name__)

NO_ROOM_SECONDS = 900.0  # the wait for a result that we had no room to fetch: past its next poll


async def poll_tasks(worker: Worker, polls: Sequence[tuple[Running, Claim]]) -> None:
    """Poll the remote jobs of tasks that were claimed for this worker."""
    begun: set[asyncio.Task[None]] = set()
    unread = {running for running, _ in polls}
    try:
        found = await _read(worker, polls)
        contexts = await contexts_of(worker, [claim.task_id for _, claim, _, _ in found])
        for running, claim, jobs, reports in found:
            unread.discard(running)
            context = contexts.get(claim.task_id, "")
            with structlog.contextvars.bound_contextvars(**named_in_logs(context)):
                running.work = asyncio.create_task(_poll(worker, running, claim, jobs, reports, context))
            # Not in the task itself: one that is cancelled before its first line never runs a line.
            running.work.add_done_callback(_ended(worker, running, claim))
            begun.add(running.work)
    except Fault as fault:
        # Their claims make them due again.
        log.warning("polls_not_begun", count=len(unread), reason=str(fault))
    finally:
        for running in unread:
            worker.has_ended(running)
    if begun:
        await asyncio.wait(begun)


Found = tuple[Running, Claim, list[RemoteJob], Mapping[str, list[int]]]


async def _read(worker: Worker, polls: Sequence[tuple[Running, Claim]]) -> list[Found]:
    """The claims to poll, with each task's remote jobs and the ids of unread reports."""

    def read(tx: Transaction) -> tuple[list[Claim], list[RemoteJob], Mapping[str, list[int]]]:
        told = [at_step(tx, worker.settings, _whole(tx, claim)) for _, claim in polls]
        steps = [claim.of_step for _, claim in polls]  # a task may have been resubmitted since its claim
        return told, remote_jobs.waiting(tx, steps), remote_reports.unread(tx, steps)

    told, waiting, reports = await worker.database.read_async(read)
    by_task: dict[str, list[RemoteJob]] = {}
    for job in waiting:
        by_task.setdefault(job.task_id, []).append(job)
    return [
        (running, claim, by_task.get(claim.task_id, []), reports)
        for (running, _), claim in zip(polls, told, strict=True)
    ]


def _whole(tx: Transaction, claim: Claim) -> Claim:
    """The claim with params that were too large to send; unchanged if it is no longer held, so that nothing can be
    stored."""
    return claim if claim.is_whole else claims.tell_again(tx, claim.task_id, claim.lease) or claim


async def _poll(
    worker: Worker,
    running: Running,
    claim: Claim,
    jobs: Sequence[RemoteJob],
    reports: Mapping[str, list[int]],
    context: str,
) -> None:
    """One task: poll, then record.  Raises nothing but CancelledError.  context: of its trace, if it has one."""
    limit = poll_seconds(worker.settings, claim.type, claim.lane)
    room = Room(worker, running, claim, limit_seconds=limit)
    try:
        seen = await asyncio.gather(
            *(look_at(worker, claim, job, reports.get(job.reference, ()), room) for job in jobs)
        )
        await _record(worker, claim, list(seen))
        for each in seen:
            _trace_end(claim, each, context)
    except LeaseLost:
        log.info("poll_dropped", task=claim.task_id, lease=claim.lease, reason="the task has moved on")
    except Exception:
        log.exception("poll_broke", task=claim.task_id, lease=claim.lease)  # the claim has made it due again


def _ended(worker: Worker, running: Running, claim: Claim) -> Callable[[asyncio.Task[None]], None]:
    def note(poll: asyncio.Task[None]) -> None:
        if poll.cancelled() and running.cancelled is not Why.LEASE_LOST:  # a drain, or this process ends
            worker.database.write(lambda tx: remote_wait.ask_again(tx, claim.task_id, claim.lease))
        worker.has_ended(running)

    return note


async def _record(worker: Worker, claim: Claim, seen: Sequence[Seen]) -> None:
    """Store the results, and the task's next step, in one transaction.  Raises LeaseLost."""

    may_bill_twice = worker.settings.providers_that_may_bill_twice

    def learned(tx: Transaction) -> None:
        for each in seen:
            _write_down(tx, claim, each, chance, each.job.provider in may_bill_twice)

    def recorded(tx: Transaction) -> None:
        remote_wait.lock(tx, claim.task_id)  # before its remote jobs, in the one order of locks
        learned(tx)
        # Nothing to poll: if another poll has recorded the end of a job, the job is not ordered again.
        asked = {each.job.provider for each in seen} or remote_jobs.providers_asked(tx, *claim.of_step)
        _follow(tx, worker.settings, claim, seen, chance, asked <= may_bill_twice)

    chance = random.random()
    try:
        await worker.write(recorded)
    except LeaseLost:
        await worker.write(learned)
        raise
    say = log.bind(type=claim.type, attempt=claim.attempt, lease=claim.lease, worker=worker.id).info
    for each in seen:
        if not isinstance(each.answer, JobRuns):
            outcome = "done" if isinstance(each.answer, Done) else end_of_call(each.answer.error)
            observe_call(worker, claim.task_id, each.job.provider, outcome, each.job.age_seconds, say)


def _trace_end(claim: Claim, seen: Seen, context: str) -> None:
    """An ended remote job, as a span from its submission to now."""
    if isinstance(seen.answer, JobRuns):
        return
    job = seen.job
    with tracing.span("remote job", "client", parent=context, started_ago=job.age_seconds) as span:
        span.set_attributes(task_id=claim.task_id, provider=job.provider, lease=claim.lease)
        if isinstance(seen.answer, Failed):
            span.fail(seen.answer.error.code)


def _write_down(tx: Transaction, claim: Claim, seen: Seen, chance: float, may_bill_twice: bool) -> None:
    """Record the state of a remote job, under any lease.

    With a failure goes what follows from it: while others of the attempt go on, nothing does, and the poll that sees
    the last of them does not see this one.
    """
    if seen.spent is not None and not isinstance(seen.answer, JobRuns):
        seen.spent.note(tx)
    match seen.answer:
        case Done():
            for file in seen.files:
                results.add(
                    tx, seen.job.task_id, seen.job.charge, hash_of_params(claim), file, step=seen.job.step
                )
            without = seen.answer.without_pictures
            remote_jobs.settle(tx, seen.job, RemoteState.DONE, without_pictures=without)
        case Failed(error=error):
            outcome = after_remote_error(claim.budget, error, may_bill_twice=may_bill_twice, chance=chance)
            kept = [from_stored(each) for each in remote_jobs.verdicts(tx, claim, of=seen.job)]
            verdict = {"attempt": claim.attempt, **as_stored(deciding([outcome, *kept]))}
            remote_jobs.settle(tx, seen.job, state_of_failed(error), verdict=verdict)
        case JobRuns() if seen.doubts is not None:
            remote_jobs.note_doubts(tx, seen.job, seen.doubts)
    remote_reports.mark_read(tx, seen.read)


def _follow(
    tx: Transaction,
    settings: Settings,
    claim: Claim,
    seen: Sequence[Seen],
    chance: float,
    may_bill_twice: bool,
) -> None:
    """The task's next step: wait, complete, or the verdict on its remote jobs' errors."""
    still = [each for each in seen if isinstance(each.answer, JobRuns)]
    if any(each.answer.stage == WAITING for each in still if isinstance(each.answer, JobRuns)):
        claims.stand_still(tx, claim.task_id, claim.lease, WAITING, NO_ROOM_SECONDS)
    elif still and _is_time_for_the_others(tx, settings, claim):
        claims.retry(tx, claim.task_id, claim.lease, 0.0, is_counted=False)
        return
    if still:
        remote_wait.not_yet(
            tx,
            claim.task_id,
            claim.lease,
            min(_poll_in_seconds(each, chance) for each in still),
            progress=shown_progress(claim, _progress(seen)),
            stage=_stage(claim, still),
            newest_report=max(each.newest_report for each in seen),
            word=_word({each.word for each in still}),
        )
        return
    params_hash = hash_of_params(claim)
    outcomes = [from_stored(each) for each in remote_jobs.verdicts(tx, claim)]
    found = results.found(tx, claim.task_id, claim.charge, params_hash)
    together = results.together(found)
    without = (
        remote_jobs.done_without_pictures(tx, *claim.of_step)
        if together.missing_of(claim.count)
        else frozenset[int]()
    )
    is_whole = together.missing_of(claim.count, without) == 0
    if is_whole or ((found or without) and not outcomes):
        completed(claim, found, without)(tx)
        return
    if not outcomes:
        gone = Lost("The AI service's job is gone, and no picture of it is here.")
        outcomes = [after_remote_error(claim.budget, gone, may_bill_twice=may_bill_twice, chance=chance)]
    decided = deciding(outcomes)
    if isinstance(decided, Postpone):  # of a part that was told to wait while others were at work
        claims.retry(tx, claim.task_id, claim.lease, decided.in_seconds, is_counted=False)
        return
    step_of(claim, decided, params_hash)(tx)


def _is_time_for_the_others(tx: Transaction, settings: Settings, claim: Claim) -> bool:
    """Whether parts that were told to wait are to be asked for again, beside the jobs that go on.

    Not while the pick would leave the task where it is: nobody polls the jobs of a task that is pending, and where they
    fill their provider it would stay so for ever.
    """
    kept = [(from_stored(each), each["age_seconds"]) for each in remote_jobs.verdicts(tx, claim)]
    is_time = all(isinstance(outcome, Postpone) and age >= outcome.in_seconds for outcome, age in kept)
    return bool(kept) and is_time and takes_more(tx, settings, claim.type, claim.lane)


def _stage(claim: Claim, still: Sequence[Seen]) -> str | None:
    stage = next((each.answer.stage for each in still if isinstance(each.answer, JobRuns)), None)
    return None if stage is None else shown_stage(claim, stage)


def _poll_in_seconds(seen: Seen, chance: float) -> float:
    assert isinstance(seen.answer, JobRuns)
    return next_poll_seconds(
        seen.answer.poll_after_seconds, seen.job.age_seconds, reports=seen.job.reports, chance=chance
    )


def _word(words: Set[Word]) -> Word:
    """Over all of a task's jobs: one without an answer decides for all."""
    return next(word for word in (Word.SILENT, Word.UNASKABLE, Word.SAID) if word in words)


def _progress(seen: Sequence[Seen]) -> int:
    """Over all of a task's jobs; one without progress counts as not begun."""
    parts = [(each.answer.progress or 0) if isinstance(each.answer, JobRuns) else 100 for each in seen]
    return sum(parts) // len(parts)
