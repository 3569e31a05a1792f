"""One attempt at a task: claim, have its pictures made or handed in, record.

A hint is only a hint: when the claim fails, somebody else has the task, or it is over, and that is no error.  Every
way an attempt can end (pictures, an error's class, a limit, a drain, a lost lease, a cancel) becomes a verdict of
`supervisor.rescue`, recorded under the lease; who has lost the lease records nothing.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import structlog

from actors.event_loop import CoroutineWouldNotEnd
from actors.jobs import hash_of_params
from actors.making import make_pictures, remote_limit_seconds
from actors.outcomes import Outcome, after_error, after_time_limit, code_of
from actors.paid_requests import AlreadyAsked
from actors.providers.base import ProviderError, ResultLost, UnknownOutcome
from actors.recording import Step, step_of, unless_reported
from actors.task_spans import span_of_attempt
from actors.worker import Running, Why, Worker
from supervisor import rescue, tracing
from supervisor.database import Alike, Transaction
from supervisor.faults import DatabaseBusy, Fault, LeaseLost, OutcomeUnknown, SettingFault
from supervisor.store import claims
from supervisor.store.claims import Claim
from supervisor.tracing import Span

log = structlog.get_logger(__name__)


async def run_attempt(worker: Worker, type_: str, task_id: str, dispatch: int) -> None:
    """Run a task if it is still to be had; its outcome is in the row when this returns."""
    if worker.draining or not worker.may_start_requests():
        return  # the hint is sent again, to somebody who works
    running = Running(task_id)
    worker.running.add(running)
    try:
        try:
            claim = await _claim(worker, type_, task_id, dispatch)
        except (DatabaseBusy, OutcomeUnknown) as fault:
            log.warning("claim_failed", task=task_id, reason=str(fault))
            return  # the hint is sent again
        if claim is not None:
            running.lease = claim.lease
            with await span_of_attempt(worker, claim) as span:
                await _run(worker, running, claim, span)
    finally:
        worker.has_ended(running)


async def _claim(worker: Worker, type_: str, task_id: str, dispatch: int) -> Claim | None:
    limit = worker.settings.tasks[type_].time_limit_seconds + worker.settings.stuck_grace_seconds
    wanted = claims.Wanted(task_id, dispatch, worker.id, limit)
    return await worker.database.write_async(Alike("claimed", claims.claim_all, wanted), line=task_id)


async def _run(worker: Worker, running: Running, claim: Claim, span: Span) -> None:
    """Work, then record; whatever ends the work is turned into what is to be recorded."""
    names = {"task": claim.task_id, "lease": claim.lease, "attempt": claim.attempt, "worker": worker.id}
    if span.trace_id:
        names["trace_id"] = span.trace_id
    bound = log.bind(**names)
    bound.info("attempt_started", type=claim.type, waited_seconds=round(claim.wait_seconds, 4))
    with structlog.contextvars.bound_contextvars(**names):  # whatever is logged on its behalf names it
        running.work = asyncio.create_task(make_pictures(worker, running, claim))
    step: Step | None
    try:
        step = await _ended(running.work, running)
    except CoroutineWouldNotEnd:
        span.fail("would_not_end")
        raise  # its thread is free again, and its process is started anew
    except asyncio.CancelledError:
        if not running.work.done():  # the actor's own limit has struck, not our cancel
            running.work.cancel()
            await asyncio.wait([running.work])
        step = _after_cancel(worker, running, claim)
        span.fail("time_limit" if running.cancelled is None else running.cancelled.name.lower())
    except LeaseLost:
        step = None
        span.fail(Why.LEASE_LOST.name.lower())
    except Exception as error:  # noqa: BLE001  every error becomes the attempt's verdict
        step = _after_error(worker, running, claim, error, bound)
        span.fail(code_of(error))
    await _record(worker, claim, step, bound, span)


async def _ended(work: asyncio.Task[Step | None], running: Running) -> Step | None:
    """What the work comes to.  Raises CoroutineWouldNotEnd when it goes on for too long after its cancel."""
    overdue = asyncio.ensure_future(running.will_not_end.wait())
    try:
        await asyncio.wait({work, overdue}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        overdue.cancel()
    if not work.done():
        raise CoroutineWouldNotEnd("A cancelled attempt does not end.")
    return work.result()


async def _record(worker: Worker, claim: Claim, step: Step | None, bound: Any, span: Span) -> None:
    if step is None:
        return
    try:
        with tracing.span("record", task_id=claim.task_id, outcome=step.__name__):
            await worker.write(step, line=claim.task_id)
        span.tell(outcome=step.__name__)
        bound.info("attempt_ended", outcome=step.__name__)
    except LeaseLost:
        span.fail(Why.LEASE_LOST.name.lower())
        bound.info("result_dropped", reason="the task has moved on")


def _after_cancel(worker: Worker, running: Running, claim: Claim) -> Step | None:
    match running.cancelled:
        case Why.LEASE_LOST:
            return None
        case _ if running.owes_an_answer:
            return _unanswered(worker, claim)
        case Why.DRAIN:

            def released(tx: Transaction) -> None:
                claims.release(tx, claim.task_id, claim.lease)

            return released
        case None:
            return _step_of(claim, after_time_limit(claim.budget, draw=random.random()))


def _step_of(claim: Claim, outcome: Outcome) -> Step:
    return step_of(claim, outcome, hash_of_params(claim))


def _unanswered(worker: Worker, claim: Claim) -> Step:
    """What follows an attempt that ended while its paid request may have been carried out."""
    error = UnknownOutcome(rescue.UNANSWERED)
    outcome = after_error(claim.budget, error, may_bill_twice=False, draw=random.random())
    return unless_reported(
        claim, _step_of(claim, outcome), remote_limit_seconds=remote_limit_seconds(worker, claim)
    )


def _after_error(worker: Worker, running: Running, claim: Claim, error: Exception, bound: Any) -> Step:
    if isinstance(error, SettingFault):
        bound.error("provider_unusable", reason=str(error))
    elif isinstance(error, ProviderError | Fault):
        bound.info("attempt_failed", kind=type(error).__name__, reason=str(error))
    else:
        bound.error("attempt_broke", exc_info=error)
    if running.owes_an_answer and not isinstance(error, ProviderError):
        return _unanswered(worker, claim)
    request = running.request
    may_bill_twice = not isinstance(error, AlreadyAsked) and (request is None or request.may_bill_twice)
    step = _step_of(
        claim, after_error(claim.budget, error, may_bill_twice=may_bill_twice, draw=random.random())
    )
    if isinstance(error, UnknownOutcome) and not isinstance(error, ResultLost):
        return unless_reported(claim, step, remote_limit_seconds=remote_limit_seconds(worker, claim))
    return step
