"""The workers' part of a task's trace: the wait before an attempt, the attempt, and later processing.

A submission over HTTP begins the trace.  The trace of any other task begins with the wait for its first attempt.  Data
that can't be read from the database is left out of the trace: no task waits or fails because of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from supervisor.core.errors import Fault
from supervisor.store.tasks import traces
from supervisor.telemetry import tracing
from supervisor.telemetry.spans import NO_SPAN, Span, Value

if TYPE_CHECKING:
    from actors.worker.worker import Worker
    from supervisor.core.claim import Claim

log = structlog.get_logger(__name__)


async def span_of_attempt(worker: Worker, claim: Claim) -> Span:
    """The span of an attempt that was just claimed; the wait before it is in the trace already."""
    if not tracing.is_on():
        return NO_SPAN
    try:
        return await _span_of_attempt(worker, claim)
    except Fault as fault:
        log.warning("attempt_not_traced", task=claim.task_id, reason=str(fault))
        return NO_SPAN


async def _span_of_attempt(worker: Worker, claim: Claim) -> Span:
    seen = await worker.database.read_async(lambda tx: traces.of_attempt(tx, claim.task_id, claim.lease))
    task: dict[str, Value] = {
        "task_id": claim.task_id,
        "type": claim.type,
        "attempt": claim.attempt,
        "lease": claim.lease,
    }
    # The due time is the later of the row's time and the time of its last step.
    ago = min(claim.wait_seconds, seen.waited_seconds) + seen.claimed_ago_seconds
    with tracing.span("wait", parent=seen.context, started_ago=ago) as wait:
        wait.set_attributes(**task)
        context = seen.context or wait.traceparent
    if not seen.context:
        await worker.database.write_async(lambda tx: traces.begin(tx, [(claim.task_id, context)]))
    span = tracing.span("attempt", "consumer", parent=context, worker=worker.id)
    span.set_attributes(**task)
    return span


async def contexts_of(worker: Worker, task_ids: Sequence[str]) -> Mapping[str, str]:
    """{task's id: its `traceparent`} of the traced tasks; empty without tracing."""
    if not tracing.is_on():
        return {}
    try:
        return await worker.database.read_async(lambda tx: traces.contexts_of(tx, task_ids))
    except Fault as fault:
        log.warning("trace_not_read", reason=str(fault))
        return {}


def named_in_logs(context: str) -> Mapping[str, str]:
    """The trace's name in log lines.  context: a `traceparent`, or empty."""
    return {"trace_id": context.split("-")[1]} if context else {}
