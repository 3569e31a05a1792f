"""One attempt at a claimed task: make its pictures or submit a remote job, and record the end.

A claim may be taken back before it begins, so every write names its lease.  Every end of an attempt (pictures, an
error's class, a limit, a drain, a lost lease, a cancel) becomes a verdict of `supervisor.core.rescue`, recorded under
the lease; without the lease nothing is recorded.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from typing import Any

import structlog

from actors.attempts.inputs import StepLost
from actors.attempts.jobs import hash_of_params
from actors.attempts.outcomes import Outcome, after_error, after_time_limit, code_of
from actors.attempts.paid_requests import AlreadyAsked
from actors.attempts.record import Step, once_jobs_are_over, step_lost, step_of
from actors.attempts.run_providers import make_pictures
from actors.attempts.steps import at_step, refuse_before_steps
from actors.attempts.task_spans import span_of_attempt
from actors.attempts.time_limit import TimeLimit
from actors.providers.base import ProviderError, UnknownOutcome
from actors.worker.event_loop import CoroutineWouldNotEnd
from actors.worker.worker import BUSY_AGAIN_SECONDS, Running, Why, Worker
from supervisor.core import rescue
from supervisor.core.claim import Claim
from supervisor.core.errors import DatabaseBusy, Fault, LeaseLost, SettingFault, drop_frames
from supervisor.database.interface.database import Transaction
from supervisor.steps.lanes import terms_of
from supervisor.store.operators import attempt_logs
from supervisor.store.tasks import claims
from supervisor.telemetry import attempt_lines, tracing
from supervisor.telemetry.attempt_lines import Lines
from supervisor.telemetry.spans import Span

# Steps after which no log is kept: a success needs none, and a task may be put back a thousand times without a failure.
WITHOUT_LOG = frozenset({"completed", "advanced", "handed_off", "postponed", "released"})
MOVED_ON = "the task has moved on"

log = structlog.get_logger(__name__)


async def run_attempt(worker: Worker, running: Running, claim: Claim) -> None:
    """Run a task that was claimed for this worker; its outcome is in the row when this returns."""
    try:
        whole = claim if claim.is_whole and not claim.lane else await _told_by_its_row(worker, claim)
        if whole is not None:
            whole = refuse_before_steps(worker.settings, whole)
            with await span_of_attempt(worker, whole) as span:
                await _run(worker, running, whole, span)
    except CoroutineWouldNotEnd:
        worker.end_for_a_stuck_attempt()
    finally:
        worker.has_ended(running)


async def _told_by_its_row(worker: Worker, claim: Claim) -> Claim | None:
    """A claim with params that were too large to send, or with the order of its step; None if it is no longer held."""

    def read(tx: Transaction) -> Claim | None:
        whole = claim if claim.is_whole else claims.tell_again(tx, claim.task_id, claim.lease)
        return None if whole is None else at_step(tx, worker.settings, whole)

    while True:
        try:
            told = await worker.database.read_async(read)
        except DatabaseBusy as fault:
            log.warning("claim_not_read", task=claim.task_id, reason=str(fault))
            await asyncio.sleep(BUSY_AGAIN_SECONDS)
        else:
            return None if told is None else dataclasses.replace(told, wait_seconds=claim.wait_seconds)


async def _run(worker: Worker, running: Running, claim: Claim, span: Span) -> None:
    """Work, then record; every end of the work is turned into a record."""
    names = {"task": claim.task_id, "lease": claim.lease, "attempt": claim.attempt, "worker": worker.id}
    if span.trace_id:
        names["trace_id"] = span.trace_id
    with attempt_lines.keeping(claim.task_id, claim.lease) as lines:
        await _run_and_record(worker, running, claim, span, names, lines)


async def _run_and_record(
    worker: Worker, running: Running, claim: Claim, span: Span, names: dict[str, Any], lines: Lines
) -> None:
    # A success is one line at `info`, so the last line says what the first ones say at `debug`.
    bound = log.bind(**names, type=claim.type, waited_seconds=round(claim.wait_seconds, 3))
    bound.debug("attempt_started")
    step: Step | None
    terms = terms_of(worker.settings, claim.type, claim.lane)
    limit = TimeLimit(terms.time_limit_seconds, lambda: running.cancel(Why.TIME_LIMIT))
    try:
        with limit:
            with structlog.contextvars.bound_contextvars(**names):  # all its log lines name the task
                running.work = asyncio.create_task(_work(worker, running, claim))
            step = await _ended(running.work, running)
    except CoroutineWouldNotEnd:
        span.fail("would_not_end")
        raise  # its slot is free again, and the process will be restarted
    except asyncio.CancelledError as cut:
        if running.work is not None and not running.work.done():  # this process ends, and everything with it
            raise
        why = running.cancelled or Why.TIME_LIMIT
        step = _after_cancel(worker, running, claim)
        span.fail(why.name.lower())
        _so_far(bound, running).info("attempt_cut_off", reason=why.value)
        drop_frames(cut)
    except LeaseLost as lost:
        step = None
        span.fail(Why.LEASE_LOST.name.lower())
        _so_far(bound, running).info("result_dropped", reason=MOVED_ON)
        drop_frames(lost)
    except Exception as error:  # noqa: BLE001  every error becomes the attempt's verdict
        step = _after_error(worker, running, claim, error, _so_far(bound, running))
        span.fail(code_of(error))
        drop_frames(error)
    await _record(worker, running, claim, with_lines(worker, claim, step, lines), bound, span)


def with_lines(worker: Worker, claim: Claim, step: Step | None, lines: Lines) -> Step | None:
    """The step, which also keeps the attempt's log lines, if the attempt has failed."""
    if step is None or step.__name__ in WITHOUT_LOG or not lines:
        return step
    told, of = list(lines), step

    def recorded(tx: Transaction) -> None:
        of(tx)
        attempt_logs.add(tx, claim.task_id, claim.lease, claim.attempt, worker.id, told)

    recorded.__name__ = of.__name__
    return recorded


async def _work(worker: Worker, running: Running, claim: Claim) -> Step:
    if claim.mistake is not None:
        raise claim.mistake
    async with worker.offers.held(claim.type, claim.lane):
        return await make_pictures(worker, running, claim)


async def _ended(work: asyncio.Task[Step | None], running: Running) -> Step | None:
    """The result of the work.  Raises CoroutineWouldNotEnd if it goes on for too long after its cancel."""
    overdue = asyncio.ensure_future(running.will_not_end.wait())
    try:
        await asyncio.wait({work, overdue}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        overdue.cancel()
    if not work.done():
        raise CoroutineWouldNotEnd("A cancelled attempt does not end.")
    return work.result()


async def _record(
    worker: Worker, running: Running, claim: Claim, step: Step | None, bound: Any, span: Span
) -> None:
    if step is None:
        return
    try:
        with tracing.span("record", task_id=claim.task_id, outcome=step.__name__):
            await worker.write(step, order_key=claim.task_id)
        span.set_attributes(outcome=step.__name__)
        told = _so_far(bound, running)
        # The end of its remote job is told, with the same names.
        say = told.debug if step.__name__ == "handed_off" else told.info
        say("attempt_ended", outcome=step.__name__)
    except LeaseLost:
        span.fail(Why.LEASE_LOST.name.lower())
        _so_far(bound, running).info("result_dropped", reason=MOVED_ON)


def _so_far(bound: Any, running: Running) -> Any:
    """The logger, with the seconds since the attempt began and the provider of its newest request, if it made one."""
    told: dict[str, Any] = {"seconds": round(time.monotonic() - running.began_at, 3)}
    if running.provider:
        told["provider"] = running.provider
    return bound.bind(**told)


def _after_cancel(worker: Worker, running: Running, claim: Claim) -> Step | None:
    match running.cancelled:
        case Why.LEASE_LOST:
            return None
        case _ if running.owes_an_answer:
            return _unanswered(worker, running, claim)
        case Why.DRAIN:

            def released(tx: Transaction) -> None:
                claims.release(tx, claim.task_id, claim.lease)

            return released
        case _:
            seconds = terms_of(worker.settings, claim.type, claim.lane).time_limit_seconds
            outcome = after_time_limit(claim.budget, seconds, chance=random.random())
            return _step_of(worker, running, claim, outcome)


def _step_of(worker: Worker, running: Running, claim: Claim, outcome: Outcome) -> Step:
    limit_seconds = terms_of(worker.settings, claim.type, claim.lane).remote_limit_seconds
    request = running.request
    return once_jobs_are_over(
        claim,
        outcome,
        step_of(claim, outcome, hash_of_params(claim)),
        remote_limit_seconds=limit_seconds,
        own=request.reference if request is not None and request.is_unanswered else None,
    )


def _unanswered(worker: Worker, running: Running, claim: Claim) -> Step:
    """The verdict on an attempt that ended while its paid request may have been carried out."""
    error = UnknownOutcome(rescue.UNANSWERED)
    outcome = after_error(claim.budget, error, may_bill_twice=False, chance=random.random())
    return _step_of(worker, running, claim, outcome)


def _after_error(worker: Worker, running: Running, claim: Claim, error: Exception, bound: Any) -> Step:
    if isinstance(error, SettingFault):
        bound.error("provider_unusable", reason=str(error))
    elif isinstance(error, ProviderError | Fault):
        bound.info("attempt_failed", kind=type(error).__name__, reason=str(error))
    elif isinstance(error, FileNotFoundError) and not worker.scratch.exists():
        # Another worker has removed it as a dead worker's; any record now is refused.
        bound.info("attempt_failed", kind="TakenForDead", reason="this worker's files were removed")
    else:
        bound.error("attempt_broke", exc_info=error)
    if running.owes_an_answer and not isinstance(error, ProviderError):
        return _unanswered(worker, running, claim)
    if isinstance(error, StepLost):
        return step_lost(claim, error.step, error.code, str(error))
    request = running.request
    may_bill_twice = not isinstance(error, AlreadyAsked) and (request is None or request.may_bill_twice)
    outcome = after_error(claim.budget, error, may_bill_twice=may_bill_twice, chance=random.random())
    return _step_of(worker, running, claim, outcome)
