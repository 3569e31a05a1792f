"""Paid requests of this process, with their evidence from before the request until its pictures are stored.

A request is *unanswered* from the commit of its evidence until its result is stored: its pictures, the service's id of
its remote job, or its refusal.  An attempt that ends in that time (by a drain, a limit or a bug) must be treated as
possibly billed: `Running.owes_an_answer` is true, and the verdict is that of `unknown_outcome`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from actors.attempts.outcomes import keep_away_at_most_seconds, keep_away_seconds, sign_of
from actors.providers.base import (
    Accepted,
    Ambiguous,
    AtCapacity,
    ProviderDown,
    ProviderError,
    RateLimited,
    UnknownOutcome,
)
from supervisor.core import rescue
from supervisor.core.errors import (
    LeaseLost,
    MayBeBilledAlready,
    ProviderFull,
    ProviderIsDown,
    ProviderTooFast,
)
from supervisor.remote.job_states import RemoteState
from supervisor.steps.lanes import terms_of
from supervisor.store.limits import providers
from supervisor.store.limits.providers import Change
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence

if TYPE_CHECKING:
    from actors.worker.worker import Running, Worker
    from supervisor.core.claim import Claim
    from supervisor.database.interface.database import Database, Transaction

OUR_LIMIT = "our_limit"

log = structlog.get_logger(__name__)


class AlreadyAsked(UnknownOutcome):
    """An earlier attempt's request was never answered and must not be sent again, or a service works on it."""


class OurRate(RateLimited):
    """Our own `limits.rps` for the service."""

    waits_for = OUR_LIMIT


class OurRoom(AtCapacity):
    """Our own `limits.concurrency` for the service."""

    waits_for = OUR_LIMIT


class PaidRequest:
    """One request and our evidence of it.  answer_due: the end of its AI time-out, by the event loop's clock."""

    def __init__(
        self,
        database: Database,
        task_id: str,
        name: str,
        evidence: Evidence,
        *,
        may_bill_twice: bool,
        answer_due: float,
    ) -> None:
        self._database = database
        self._task_id = task_id
        self._name = name
        self.evidence = evidence
        self.may_bill_twice = may_bill_twice
        self.answer_due = answer_due
        self.is_unanswered = True

    @property
    def reference(self) -> str:
        """Its name for the service."""
        return self.evidence.reference

    def done(self, tx: Transaction, *, without_pictures: bool = False) -> None:
        """A step for the transaction that stores its pictures."""
        remote_jobs.settle(tx, self.evidence, RemoteState.DONE, without_pictures=without_pictures)
        self._note(tx, None)

    def accepted(self, tx: Transaction, remote: Accepted) -> None:
        """A step that records the service's remote job; only now is the request answered."""
        remote_jobs.accepted(tx, self.evidence, remote.remote_id, remote.details, reports=remote.reports)
        self._note(tx, None)

    def broke_off(self, error: BaseException) -> None:
        """Record its end; not awaited, but stored before the task's next step."""
        state = state_after(error, may_bill_twice=self.may_bill_twice)
        self.is_unanswered = state is RemoteState.UNKNOWN

        def write_down(tx: Transaction) -> None:
            remote_jobs.settle(tx, self.evidence, state)
            self._note(tx, error)

        self._database.write(write_down, order_key=self._task_id)

    def _note(self, tx: Transaction, error: BaseException | None) -> None:
        note_end(tx, self._name, error, probe=self.evidence.probe)


def note_end(tx: Transaction, name: str, error: BaseException | None, *, probe: int | None = None) -> None:
    """Tell the provider's breaker about the end of a request, and log its changes of state."""
    sign = sign_of(error)
    if sign is None:
        return
    change = providers.note(
        tx,
        name,
        sign,
        probe=probe,
        wait_seconds=keep_away_seconds(error),
        most_seconds=keep_away_at_most_seconds(error),
        reason=str(error or ""),
    )
    if change is not None:
        _say(name, change, error)


def _say(name: str, change: Change, error: BaseException | None) -> None:
    if not change.now.is_open:
        log.info("provider_up", provider=name)
    else:
        event = "provider_still_down" if change.before.is_open else "provider_down"
        log.warning(event, provider=name, asked_again_in_seconds=change.open_seconds, reason=str(error))


async def begin_paid_request(
    worker: Worker, running: Running, claim: Claim, name: str, part: int, pictures: tuple[int, ...] = ()
) -> PaidRequest:
    """Record that a request for these pictures is about to be sent; it is also `running.request`.

    Raises LeaseLost, and ProviderErrors: ProviderDown, RateLimited, AtCapacity, AlreadyAsked.
    """
    settings = worker.settings
    provider = settings.providers[name]
    timeout = terms_of(settings, claim.type, claim.lane).ai_timeout_seconds
    careful = settings.providers.keys() - settings.providers_that_may_bill_twice
    begun: list[Evidence] = []

    def begin(tx: Transaction) -> Evidence:
        # The step runs again if it is unknown whether it was stored; no request was sent in between.
        if not begun or not remote_jobs.is_begun(tx, begun[-1]):
            evidence = remote_jobs.begin(
                tx, claim, name, provider, part, pictures=pictures, careful=careful, probe_seconds=timeout
            )
            begun.append(evidence)
        return begun[-1]

    writing = asyncio.ensure_future(worker.write(begin))
    try:
        evidence = await asyncio.shield(writing)
    except asyncio.CancelledError:  # it may have been committed, and then we know that nothing was sent
        writing.add_done_callback(lambda written: _never_sent(worker.database, written))
        raise
    except ProviderIsDown as fault:
        raise ProviderDown(str(fault), wait_seconds=fault.wait_seconds) from None
    except ProviderFull as fault:
        raise OurRoom(str(fault)) from None
    except ProviderTooFast as fault:
        raise OurRate(str(fault), wait_seconds=fault.wait_seconds) from None
    except MayBeBilledAlready:
        raise AlreadyAsked(rescue.UNANSWERED) from None
    request = running.request = PaidRequest(
        worker.database,
        claim.task_id,
        name,
        evidence,
        may_bill_twice=provider.may_bill_twice,
        answer_due=asyncio.get_running_loop().time() + timeout,
    )
    if not worker.may_start_requests():  # the commit took so long that another worker may run this already
        request.is_unanswered = False
        _never_sent(worker.database, writing)
        raise LeaseLost(claim.task_id, claim.lease)
    return request


def _never_sent(database: Database, written: asyncio.Future[Evidence]) -> None:
    """Remove the evidence, if it was stored, because the request was not sent after all."""
    if not written.cancelled() and written.exception() is None:
        database.write(lambda tx: remote_jobs.settle(tx, written.result(), RemoteState.FAILED))


def state_after(error: BaseException, *, may_bill_twice: bool) -> RemoteState:
    """The known state of a request that ended with an error.

    An unclear error of a service that may bill twice counts as temporary: the answer is not awaited, so a fallback may
    be used.
    """
    if isinstance(error, Ambiguous) and may_bill_twice:
        return RemoteState.FAILED
    if isinstance(error, ProviderError) and not isinstance(error, UnknownOutcome):
        return RemoteState.FAILED
    return RemoteState.UNKNOWN
