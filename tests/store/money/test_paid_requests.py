"""Paid requests in a worker: the record of a request that was not sent after all, or must not be."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import Any

import pytest

from actors.attempts.paid_requests import begin_paid_request, state_after
from actors.providers.base import (
    Ambiguous,
    AtCapacity,
    InvalidInput,
    ProviderDown,
    RateLimited,
    ResultLost,
    Transient,
    UnknownOutcome,
)
from actors.worker.worker import Running, Worker
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost, OutcomeUnknown
from supervisor.remote.job_states import RemoteState
from supervisor.store.tasks import claims
from tests.conftest import Store, wait_until
from tests.support.workers import worker_of


def states(store: Store) -> list[str]:
    return [row["state"] for row in store.all("SELECT state FROM remote_job ORDER BY id")]


async def begin(
    store: Store, claim: Claim, running: Running | None = None, part: int = 0, **worker: Any
) -> Any:
    running = running or Running(claim.task_id, claim.lease)
    return await begin_paid_request(worker_of(store, **worker), running, claim, "ai", part)


async def test_a_request_that_may_have_left_owes_an_answer_until_its_end_is_known(store, claimed_task):
    running = Running("t", 1)
    request = await begin(store, claimed_task(), running)
    assert running.owes_an_answer and states(store) == ["submitting"]
    request.broke_off(asyncio.CancelledError())
    assert running.owes_an_answer
    wait_until(lambda: states(store) == ["unknown"], "it is unknown")
    request.broke_off(InvalidInput("The service says no after all."))
    assert not running.owes_an_answer
    wait_until(lambda: states(store) == ["failed"], "it is known")


async def test_where_a_second_bill_is_allowed_no_answer_is_waited_for(store, claimed_task):
    running = Running("t", 1)
    await begin(store, claimed_task(), running, may_bill_twice=True)
    assert not running.owes_an_answer


async def test_a_cancel_while_it_is_written_down_leaves_no_doubt(store, claimed_task):
    running = Running("t", 1)
    beginning = asyncio.create_task(begin(store, claimed_task(), running))
    await asyncio.sleep(0)  # the step is with the writer
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    async with asyncio.timeout(10):
        while states(store) != ["failed"]:  # noqa: ASYNC110  the writer is another thread
            await asyncio.sleep(0.01)
    assert running.request is None


class LosesTheFirstAnswer:
    """A database whose connection breaks at the first COMMIT; the outcome is unknown."""

    def __init__(self, store: Store, *, stores_it: bool) -> None:
        self._store, self._stores_it, self._is_first = store, stores_it, True

    async def write_async(self, step: Any, *, order_key: str | None = None) -> Any:
        is_first, self._is_first = self._is_first, False
        done = await self._store.database.write_async(step) if self._stores_it or not is_first else None
        if is_first:
            raise OutcomeUnknown
        return done


@pytest.mark.parametrize("stores_it", [True, False])
async def test_a_request_that_was_written_down_without_an_answer_is_the_same_request(
    store, claimed_task, stores_it
):
    claim, running = claimed_task(), Running("t", 1)
    worker = worker_of(store, limits={"concurrency": 1})
    worker.database, worker.id = LosesTheFirstAnswer(store, stores_it=stores_it), "worker-1"
    worker.write = functools.partial(Worker.write, worker)
    request = await begin_paid_request(worker, running, claim, "ai", 0)
    assert running.owes_an_answer and states(store) == ["submitting"]
    assert store.value("SELECT id FROM remote_job") == request.evidence.id


async def test_a_request_that_was_written_down_under_a_lost_lease_does_not_leave(store, claimed_task):
    claim = claimed_task()
    worker = worker_of(store)
    lost = LosesTheFirstAnswer(store, stores_it=True)
    worker.database, worker.id = lost, "worker-1"

    async def write(step: Any) -> Any:
        with contextlib.suppress(OutcomeUnknown):
            await lost.write_async(step)
        store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
        return await lost.write_async(step)

    worker.write = write
    with pytest.raises(LeaseLost):
        await begin_paid_request(worker, Running("t", 1), claim, "ai", 0)


async def test_nothing_leaves_when_others_may_believe_us_dead(store, claimed_task):
    running = Running("t", 1)
    with pytest.raises(LeaseLost):
        await begin(store, claimed_task(), running, may_start=False)
    assert not running.owes_an_answer
    wait_until(lambda: states(store) == ["failed"], "it is known that it did not leave")


async def test_the_stores_refusals_have_the_providers_classes(store, claimed_task):
    claim = claimed_task()
    with pytest.raises(RateLimited) as fast:
        for part in range(2):
            await begin(store, claim, part=part, limits={"rps": 0.5})
    assert 0 < fast.value.wait_seconds <= 2
    with pytest.raises(AtCapacity):
        await begin(store, claim, part=2, limits={"concurrency": 1})
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
    (again,) = store.dispatch()
    with pytest.raises(UnknownOutcome):
        await begin(store, again)


@pytest.mark.parametrize(
    ("error", "careful", "easy"),
    [
        (Transient("Not reached."), RemoteState.FAILED, RemoteState.FAILED),
        (ProviderDown("Refused."), RemoteState.FAILED, RemoteState.FAILED),
        (Ambiguous("HTTP 500"), RemoteState.UNKNOWN, RemoteState.FAILED),
        (UnknownOutcome("Nothing heard."), RemoteState.UNKNOWN, RemoteState.UNKNOWN),
        (ResultLost("It could not be fetched."), RemoteState.UNKNOWN, RemoteState.UNKNOWN),
        (asyncio.CancelledError(), RemoteState.UNKNOWN, RemoteState.UNKNOWN),
        (RuntimeError("a bug"), RemoteState.UNKNOWN, RemoteState.UNKNOWN),
    ],
)
def test_the_known_outcome_after_each_error(error, careful, easy):
    assert state_after(error, may_bill_twice=False) is careful
    assert state_after(error, may_bill_twice=True) is easy
