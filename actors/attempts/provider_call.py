"""One request to a provider: its answer, its duration, and the id of a remote job, which must always be stored."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from actors.attempts.outcomes import end_of_call
from actors.attempts.time_limit import TimeLimit
from actors.providers.base import Accepted, Done, Job, Progress, Provider, ProviderError, UnknownOutcome
from supervisor.telemetry import tracing

if TYPE_CHECKING:
    from actors.attempts.paid_requests import PaidRequest
    from actors.attempts.reported_cost import Spent
    from actors.worker.worker import Worker

log = structlog.get_logger(__name__)


async def ask(
    worker: Worker,
    name: str,
    provider: Provider,
    job: Job,
    progress: Progress,
    request: PaidRequest | None,
    spent: Spent,
) -> Done | Accepted:
    """The answer.  A request that only submits a job goes on when the attempt is cancelled, until the job's id is
    stored."""
    asking = _ask_to_the_end(worker, name, provider, job, progress, request, spent)
    if request is None or not getattr(provider, "hands_in", False):
        return await asking
    handing_in = asyncio.ensure_future(asking)
    try:
        return await asyncio.shield(handing_in)
    except asyncio.CancelledError:
        worker.finish_handing_in(_the_end_of(handing_in), job.task_id)
        raise


async def _ask_to_the_end(
    worker: Worker,
    name: str,
    provider: Provider,
    job: Job,
    progress: Progress,
    request: PaidRequest | None,
    spent: Spent,
) -> Done | Accepted:
    """The AI time-out applies, and the attempt's limit is above it."""
    started = asyncio.get_running_loop().time()
    outcome = "error"
    try:
        with tracing.span("provider request", "client", task_id=job.task_id, provider=name) as span:
            answer = await _submit_in_time(worker, name, provider, job, progress)
            span.set_attributes(outcome="done" if isinstance(answer, Done) else "accepted")
        outcome = "done" if isinstance(answer, Done) else ""
        if isinstance(answer, Accepted):
            await _store_id(worker, answer, request)
        return answer
    except BaseException as error:
        if isinstance(error, ProviderError):
            outcome = end_of_call(error)
        if spent.is_known:  # a refusal, or an unusable result, may cost too
            worker.database.write(spent.note, order_key=job.task_id)
        if request is not None:
            request.broke_off(error)
        raise
    finally:
        seconds = asyncio.get_running_loop().time() - started
        if outcome:  # a remote job's call ends with the job
            # The attempt's last line tells of a success.
            say = log.debug if outcome == "done" else log.info
            observe_call(worker, job.task_id, name, outcome, seconds, say)


async def _submit_in_time(
    worker: Worker, name: str, provider: Provider, job: Job, progress: Progress
) -> Done | Accepted:
    """Our own adapters apply the AI time-out to the service's answer, and may take longer to fetch its results.  A
    user's own adapter is cancelled at the time-out; a model applies it itself, because loading is not part of it.
    Raises ProviderError."""
    if worker.settings.providers[name].kind != "python" or getattr(provider, "keeps_ai_timeout", False):
        return await provider.submit(job, progress)
    cut = asyncio.timeout(None)
    loop = asyncio.get_running_loop()
    try:
        async with cut:
            with TimeLimit(job.ai_timeout_seconds, lambda: cut.reschedule(loop.time())):
                return await provider.submit(job, progress)
    except TimeoutError:
        if not cut.expired():
            raise
        sentence = f"The AI service did not answer within {job.ai_timeout_seconds:g} s."
        raise UnknownOutcome(sentence, code="ai_timeout") from None


async def _store_id(worker: Worker, remote: Accepted, request: PaidRequest | None) -> None:
    """Record that the service has the job, under any lease."""
    assert request is not None, "only a paid provider may have remote jobs"
    await worker.write(lambda tx: request.accepted(tx, remote))
    request.is_unanswered = False


async def _the_end_of(handing_in: asyncio.Future[Done | Accepted]) -> None:
    with contextlib.suppress(Exception):  # it was recorded
        await handing_in


def observe_call(
    worker: Worker, task_id: str, name: str, outcome: str, seconds: float, say: Callable[..., object]
) -> None:
    """Log a provider's call, and add it to the metrics; not awaited.  say: the logger's method."""
    say("ai_call_ended", task=task_id, provider=name, outcome=outcome, seconds=round(seconds, 3))
    worker.calls_seen.add(name, outcome, seconds)
