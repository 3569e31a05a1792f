"""Each charge is separate, and no picture of it is ordered twice: the rules of paid requests, each under its name."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from actors.attempts import attempt as attempts
from actors.attempts import run_providers
from actors.attempts.paid_requests import begin_paid_request
from actors.attempts.provider_call import ask
from actors.attempts.reported_cost import spent_on
from actors.entry.claim_handlers import WORK
from actors.providers.base import Accepted, Bill, Done
from actors.remote_jobs import poll_batch
from actors.remote_jobs.poll_one import Seen
from actors.worker.worker import Running, Worker
from config.provider import Provider
from supervisor.core.claim import Claim
from supervisor.core.errors import MayBeBilledAlready, NotReleasable, ProviderFull
from supervisor.objects.open_store import open_file_store
from supervisor.remote.job_states import RemoteState
from supervisor.store.operators import operator_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.remote import remote_jobs, remote_reports
from supervisor.store.remote.remote_jobs import Evidence
from supervisor.store.tasks import claims, remote_wait, user_actions
from supervisor.store.tasks.results import ResultFile
from tests.conftest import Clock, Store
from tests.support.databases import open_quickly
from tests.support.providers.accepted_jobs import (
    CAREFUL,
    accept,
    begin,
    claimed_again,
    hand_off,
    poll,
)
from tests.support.workers import worker_of

EASY = Provider(kind="http", may_bill_twice=True)


def ordered_anew(store: Store, claim: Claim) -> tuple[Claim, Evidence]:
    """Its user cancels and retries; another worker hands the job of the new charge in."""
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))
    store.write(lambda tx: user_actions.resubmit(tx, store.settings, claim.task_id))
    again = claimed_again(store, claim)
    evidence = begin(store, again)
    accept(store, evidence)
    hand_off(store, again)
    return again, evidence


# --- a charge sees only itself ---


class Interrupted:
    """A worker's database: the process freezes before its first read, while something happens."""

    def __init__(self, store: Store, meanwhile: Callable[[], object]) -> None:
        self._database, self._meanwhile = store.database, meanwhile
        self.write = store.database.write
        self.write_async = store.database.write_async

    async def read_async(self, query: Any) -> Any:
        meanwhile, self._meanwhile = self._meanwhile, lambda: None
        meanwhile()
        return await self._database.read_async(query)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """(charge of the poller, remote id) of each question; every job is done, with a picture of its own."""
    seen: list[tuple[int, str]] = []

    async def look(worker: Any, claim: Claim, job: remote_jobs.RemoteJob, reports: Any, room: Any) -> Seen:
        seen.append((claim.charge, job.remote_id))
        file = ResultFile(0, f"results/{job.task_id}/{job.remote_id}.png", "00", 4, 3)
        return Seen(job, Done(images=()), (file,))

    monkeypatch.setattr(poll_batch, "look_at", look)
    monkeypatch.setattr(poll_batch, "observe_call", lambda *_: None)
    return seen


async def test_a_late_poller_settles_no_job_of_a_new_charge(
    store: Store, claimed_task: Callable[..., Claim], asked: list[tuple[int, str]]
) -> None:
    first = claimed_task()
    old = begin(store, first)
    accept(store, old)
    hand_off(store, first)

    await poll(store, Interrupted(store, lambda: ordered_anew(store, first)))
    assert store.task(first.task_id)["status"] == "ai_processing"
    assert [charge for charge, _ in asked] == [1] and asked[0][1] == f"job-of-{old.reference}"
    assert store.all("SELECT charge, state FROM remote_job ORDER BY id") == [
        {"charge": 1, "state": "done"},
        {"charge": 2, "state": "waiting"},
    ]

    await poll(store, store.database)
    assert store.task(first.task_id)["status"] == "completed"
    assert [charge for charge, _ in asked] == [1, 2]
    files = store.all("SELECT charge, key FROM result_file ORDER BY charge")
    assert [(file["charge"], f".{file['charge']}." in file["key"]) for file in files] == [
        (1, True),
        (2, True),
    ]
    assert len(store.all("SELECT 1 AS one FROM remote_job")) == 2, "each charge was ordered once"


async def test_a_job_that_another_poller_has_ended_is_not_ordered_again(
    store: Store, claimed_task: Callable[..., Claim], asked: list[tuple[int, str]]
) -> None:
    """A poller that had lost its lease wrote down how the job ended, but not what the task makes of it."""
    claim = claimed_task()
    evidence = begin(store, claim)
    accept(store, evidence)
    hand_off(store, claim)
    store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.FAILED))
    await poll(store, store.database)
    row = store.task(claim.task_id)
    assert (asked, row["status"]) == ([], "failed") and "remote_lost" in str(row["error"])
    assert store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]


def test_a_charge_reads_its_own_jobs_and_reports_alone(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    first = claimed_task()
    old = begin(store, first)
    accept(store, old)
    assert store.write(lambda tx: remote_reports.store(tx, old.reference, {}, b"{}"))
    hand_off(store, first)
    second, new = ordered_anew(store, first)
    assert store.write(lambda tx: remote_reports.store(tx, new.reference, {}, b"{}"))
    for claim, evidence in ((first, old), (second, new)):
        jobs = store.database.read(lambda tx, claim=claim: remote_jobs.waiting(tx, [claim.of_step]))
        assert [job.reference for job in jobs] == [evidence.reference]
        unread = store.database.read(lambda tx, claim=claim: remote_reports.unread(tx, [claim.of_step]))
        assert list(unread) == [evidence.reference]


# --- rule 14: the gate before each paid request ---


@pytest.mark.parametrize("provider", [CAREFUL, EASY], ids=["careful", "easy"])
def test_nothing_is_ordered_beside_a_job_that_a_service_works_on(
    store: Store, claimed_task: Callable[..., Claim], provider: Provider
) -> None:
    """The id came after the next attempt had looked for it; to wait for the job is better than any second one."""
    first = claimed_task(count=2)
    evidence = begin(store, first, provider)
    store.write(lambda tx: claims.release(tx, first.task_id, first.lease))
    second = claimed_again(store, first)
    accept(store, evidence)
    for pictures in ((0,), (0, 1), ()):
        with pytest.raises(MayBeBilledAlready):
            begin(store, second, provider, pictures=pictures)
    begin(store, second, provider, pictures=(1,))  # no worker has that one
    begin(store, second, provider, pictures=(1,), part=1)  # an attempt knows its own requests
    assert store.value("SELECT count(*) FROM remote_job") == 3


def test_of_two_hosts_at_a_providers_last_place_one_gets_it(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    provider = Provider(kind="http", may_bill_twice=True, limits={"concurrency": 3})  # type: ignore[arg-type]
    taken = [claimed_task(f"u-{n}") for n in range(2)]
    for claim in taken:
        begin(store, claim, provider)
    hosts = [open_quickly(store.settings) for _ in range(2)]
    try:
        for round_ in range(5):
            rivals = [claimed_task(f"v-{round_}-{n}") for n in range(2)]
            start = threading.Barrier(2)

            def arrive(host: int, rivals: Any = rivals, start: Any = start) -> Evidence | None:
                start.wait(90)
                step: Any = lambda tx: remote_jobs.begin(tx, rivals[host], "ai", provider, 0)  # noqa: E731
                try:
                    found: Evidence = hosts[host].write(step).result(timeout=60)
                    return found
                except ProviderFull:
                    return None

            with ThreadPoolExecutor(2) as pool:
                got = [each for each in pool.map(arrive, range(2)) if each is not None]
            assert len(got) == 1
            assert store.database.read(lambda tx: remote_jobs.count_open(tx, "ai")) == 3
            store.write(lambda tx, got=got: remote_jobs.settle(tx, got[0], RemoteState.DONE))
    finally:
        for host in hosts:
            host.close()


# --- rule 15: what puts a task back while its request is on its way ---


def _dies(store: Store, claim: Claim, allowed: frozenset[str]) -> None:
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    store.write(
        lambda tx: stuck_tasks.rescue(tx, chance=random.random, may_bill_twice=allowed, deadlines=False)
    )


def _is_released_by_an_operator(store: Store, claim: Claim, allowed: frozenset[str]) -> None:
    given = {"ai": EASY if allowed else CAREFUL}
    settings = store.settings.model_copy(update={"providers": given})
    try:
        store.write(
            lambda tx: operator_actions.release(tx, settings, Operator("ops", "operator"), claim.task_id)
        )
    except NotReleasable:
        assert not allowed
        store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))


WAYS_BACK: dict[str, Callable[[Store, Claim, frozenset[str]], object]] = {
    "release": lambda store, claim, _: store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease)),
    "retry": lambda store, claim, _: store.write(
        lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0)
    ),
    "postpone": lambda store, claim, _: store.write(
        lambda tx: claims.postpone(tx, claim.task_id, claim.lease, 0.0)
    ),
    "stray": lambda store, claim, _: store.write(
        lambda tx: remote_wait.give_back(tx, claim.task_id, claim.lease)
    ),
    "rescue": _dies,
    "operator": _is_released_by_an_operator,
}


@pytest.mark.parametrize("way", WAYS_BACK)
@pytest.mark.parametrize("provider", [CAREFUL, EASY], ids=["careful", "easy"])
def test_no_way_back_asks_again_while_a_request_is_on_its_way_unless_it_may_bill_twice(
    store: Store,
    claimed_task: Callable[..., Claim],
    live_worker: Callable[..., str],
    provider: Provider,
    way: str,
) -> None:
    claim = claimed_task()
    begin(store, claim, provider)
    WAYS_BACK[way](store, claim, frozenset({"ai"}) if provider.may_bill_twice else frozenset())
    live_worker("worker-2")
    row = store.task(claim.task_id)
    if provider.may_bill_twice:
        begin(store, claimed_again(store, claim, "worker-2"), provider)
        assert store.value("SELECT count(*) FROM remote_job") == 2
    elif row["status"] == "failed":
        assert way == "rescue" and "unknown_outcome" in str(row["error"])
        assert store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]
    else:
        with pytest.raises(MayBeBilledAlready):
            begin(store, claimed_again(store, claim, "worker-2"), provider)
        assert store.value("SELECT count(*) FROM remote_job") == 1


class SlowHandIn:
    """A service that takes a job when the test lets it answer."""

    paid = hands_in = True
    may_bill_twice = True

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def submit(self, job: Any, progress: Any) -> Accepted:
        self.orders.append(job.reference)
        self.is_asked.set()
        await self.may_answer.wait()
        return Accepted(f"job-of-{job.reference}")


@pytest.fixture
async def worker(store: Store, live_worker: Callable[..., str]) -> AsyncIterator[Worker]:
    """In this process, without a broker; its id is that of the factories' worker."""
    made: Any = Worker(store.settings, None, store.database, open_file_store(store.settings), WORK)  # type: ignore[arg-type]
    made.settings = store.settings.model_copy(update={"providers": {"ai": EASY}})
    made.id = live_worker()
    yield made
    await made.images.close()


async def test_a_stray_is_not_given_back_while_its_hand_in_is_under_way(
    store: Store, worker: Worker, claimed_task: Callable[..., Claim]
) -> None:
    """Its attempt was cancelled since no heartbeat got through; the row names this worker still."""
    claim, shop = claimed_task(), SlowHandIn()
    running = Running(claim.task_id, claim.lease)
    worker.begun.enter(claim.task_id, claim.lease)
    request = await begin_paid_request(worker, running, claim, "ai", 0, (0,))
    job: Any = SimpleNamespace(task_id=claim.task_id, reference=request.reference)
    spent = spent_on(worker, claim, "ai", request.reference, Bill(), lease=claim.lease)
    attempt = asyncio.create_task(ask(worker, "ai", shop, job, lambda *_: None, request, spent))
    async with asyncio.timeout(30):
        await shop.is_asked.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    for _ in range(3):
        await worker.beat()
    assert store.task(claim.task_id)["status"] == "processing"

    shop.may_answer.set()
    async with asyncio.timeout(30):
        while store.task(claim.task_id)["status"] == "processing":
            await worker.beat()
    again = claimed_again(store, claim)
    (waiting,) = store.database.read(lambda tx: remote_jobs.waiting(tx, [again.of_step]))
    assert waiting.remote_id == f"job-of-{request.reference}"


async def test_an_attempt_that_finds_a_job_at_the_last_moment_waits_for_it(
    store: Store,
    claimed_task: Callable[..., Claim],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    """The answer to the first request comes while the second attempt fetches its photos."""
    first, shop = claimed_task(), SlowHandIn()
    shop.may_answer.set()
    evidence = begin(store, first)
    store.write(lambda tx: remote_wait.give_back(tx, first.task_id, first.lease))
    second = claimed_again(store, first)
    worker = worker_of(store)
    worker.scratch, worker.id = tmp_path, "worker-1"

    async def fetch(*_: Any) -> tuple[()]:
        accept(store, evidence)
        return ()

    monkeypatch.setattr(run_providers, "fetch_inputs", fetch)
    monkeypatch.setattr(run_providers, "providers_for", lambda *_: ["ai"])
    monkeypatch.setattr("actors.attempts.run_providers.provider_of", lambda *_: shop)
    monkeypatch.setattr("actors.attempts.reconcile.provider_of", lambda *_: shop)
    span: Any = SimpleNamespace(trace_id="", fail=lambda *_: None, set_attributes=lambda **_: None)
    await attempts._run(worker, Running(second.task_id, second.lease), second, span)
    assert shop.orders == []
    assert store.task(first.task_id)["status"] == "ai_processing"
    assert [row["state"] for row in store.all("SELECT state FROM remote_job")] == ["waiting"]


# --- rule 18 ---


def test_a_lost_poller_needs_no_other_rescue(
    store: Store, claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    claim = claimed_task()
    accept(store, begin(store, claim))
    hand_off(store, claim)
    (lost,) = store.claim_polls()
    clock.advance(329)
    assert store.claim_polls() == []
    clock.advance(2)
    assert store.write(lambda tx: stuck_tasks.rescue(tx, chance=random.random)) == []
    (found,) = store.claim_polls()
    assert found.lease == lost.lease + 1
    assert found.attempt == claim.attempt and found.budget == claim.budget
