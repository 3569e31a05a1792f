"""Paid requests of this process: the evidence of each, from before it leaves until its pictures are stored.

A request is *unanswered* from its evidence's commit until we have stored what came of it.  Whoever ends an attempt in
that time (a drain, a limit, a bug) must treat it as possibly billed: `Running.owes_an_answer` says so, and the verdict
is that of `unknown_outcome`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from actors.providers.base import AtCapacity, ProviderError, RateLimited, UnknownOutcome
from supervisor import rescue
from supervisor.faults import LeaseLost, MayBeBilledAlready, ProviderFull, ProviderTooFast
from supervisor.remote_states import RemoteState
from supervisor.store import remote_jobs
from supervisor.store.remote_jobs import Evidence

if TYPE_CHECKING:
    from actors.worker import Running, Worker
    from supervisor.database import Database, Transaction
    from supervisor.store.claims import Claim

log = structlog.get_logger(__name__)


class PaidRequest:
    """One request and our evidence of it.  answer_due: when its AI time-out strikes, by the event loop's clock."""

    def __init__(
        self, database: Database, evidence: Evidence, *, may_bill_twice: bool, answer_due: float
    ) -> None:
        self._database = database
        self.evidence = evidence
        self.may_bill_twice = may_bill_twice
        self.answer_due = answer_due
        self.is_unanswered = True

    @property
    def reference(self) -> str:
        """Its name towards the service."""
        return self.evidence.reference

    def done(self, tx: Transaction) -> None:
        """A step for the transaction that stores its pictures."""
        remote_jobs.settle(tx, self.evidence, RemoteState.DONE)

    def broke_off(self, error: BaseException) -> None:
        """Write down how it ended; not awaited, but in line before whatever this process stores next."""
        state = state_after(error)
        self.is_unanswered = state is RemoteState.UNKNOWN
        self._database.write(lambda tx: remote_jobs.settle(tx, self.evidence, state))


async def begin_paid_request(
    worker: Worker, running: Running, claim: Claim, name: str, part: int
) -> PaidRequest:
    """Write down that a request leaves now, which is also known as `running.request`.

    Raises LeaseLost, and ProviderErrors: RateLimited, AtCapacity, UnknownOutcome for one that was sent before.
    """
    provider = worker.settings.providers[name]
    writing = asyncio.ensure_future(
        worker.write(lambda tx: remote_jobs.begin(tx, claim, name, provider, part))
    )
    try:
        evidence = await asyncio.shield(writing)
    except (
        asyncio.CancelledError
    ):  # it may be committed all the same, and then it is known that nothing was sent
        writing.add_done_callback(lambda written: _never_sent(worker.database, written))
        raise
    except ProviderFull as fault:
        raise AtCapacity(str(fault)) from None
    except ProviderTooFast as fault:
        raise RateLimited(str(fault), wait_seconds=fault.wait_seconds) from None
    except MayBeBilledAlready:
        raise UnknownOutcome(rescue.UNANSWERED) from None
    request = running.request = PaidRequest(
        worker.database,
        evidence,
        may_bill_twice=provider.may_bill_twice,
        answer_due=asyncio.get_running_loop().time() + worker.settings.tasks[claim.type].ai_timeout_seconds,
    )
    if not worker.may_start_requests():  # the commit took so long that others may run this already
        request.is_unanswered = False
        _never_sent(worker.database, writing)
        raise LeaseLost(claim.task_id, claim.lease)
    return request


def _never_sent(database: Database, written: asyncio.Future[Evidence]) -> None:
    """Take back what was written down, if it was: the request did not leave after all."""
    if not written.cancelled() and written.exception() is None:
        database.write(lambda tx: remote_jobs.settle(tx, written.result(), RemoteState.FAILED))


def state_after(error: BaseException) -> RemoteState:
    """What is known of a request that ended with an error."""
    if isinstance(error, ProviderError) and not isinstance(error, UnknownOutcome):
        return RemoteState.FAILED
    return RemoteState.UNKNOWN
