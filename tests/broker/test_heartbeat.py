"""A worker's heartbeat: its own list of claims compared with the database."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import json
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from actors.attempts import attempt, record
from actors.attempts.time_limit import standing_still
from actors.entry.claim_handlers import WORK
from actors.providers.base import Transient
from actors.worker.begun_leases import MOST_ENDED
from actors.worker.watchdog import Watchdog
from actors.worker.worker import Running, Why, Worker
from supervisor.broker.signed_claims import TASKS, ClaimMessage
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost
from supervisor.objects.open_store import open_file_store
from supervisor.store.tasks import claims
from supervisor.store.tasks.claims import Held
from tests.conftest import Store
from tests.support.houses.web_server import until


@pytest.fixture
async def worker(store: Store, live_worker: Callable[..., str]) -> AsyncIterator[Worker]:
    """In this process, without a broker; its id is that of the factories' worker."""
    made: Any = Worker(store.settings, None, store.database, open_file_store(store.settings), WORK)  # type: ignore[arg-type]
    made.id = live_worker()
    yield made
    await made.images.close()


async def test_a_task_claimed_while_a_beat_is_under_way_is_not_taken_for_lost(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, running = store.database.write_async, []

    async def answer_late(step: Any, **options: Any) -> Any:
        """The beat has read this worker's claims; before its answer arrives, a claim comes and begins."""
        answer = await write(step, **options)
        if not running:
            running.append(_running(worker, await asyncio.to_thread(claimed_task)))
            running[0].work = asyncio.create_task(asyncio.sleep(60))
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(store.database, "write_async", answer_late)
        await worker.beat()
    (attempt,) = running
    assert attempt.cancelled is None

    await worker.beat()
    assert attempt.cancelled is None
    await write(lambda tx: claims.release(tx, attempt.task_id, 1))
    await worker.beat()
    assert attempt.cancelled is Why.LEASE_LOST
    with pytest.raises(asyncio.CancelledError):
        await attempt.work


def _running(worker: Worker, claim: Claim) -> Running:
    """An attempt that was begun."""
    assert worker.begun.enter(claim.task_id, claim.lease)
    running = Running(claim.task_id, claim.lease, type_=claim.type)
    worker._register(running)
    return running


def _beats(store: Store, worker: Worker) -> Any:
    return store.value("SELECT beat FROM worker WHERE id = ?", worker.id)


def _busy(store: Store, worker: Worker) -> Any:
    return store.value("SELECT busy FROM worker WHERE id = ?", worker.id)


async def test_a_slot_that_becomes_free_between_heartbeats_is_reported_at_once(
    worker: Worker, store: Store
) -> None:
    attempts = [Running(f"task-{n}", 1, type_="photography") for n in range(3)]
    worker.running.update(attempts)
    await worker.beat()
    assert _busy(store, worker) == 3

    for ended in attempts[:2]:
        worker.has_ended(ended)
    await until(lambda: _busy(store, worker) == 1, "the dispatcher is notified of the free slots")
    assert _beats(store, worker) == 1  # the notification is no sign of life of the whole worker


async def test_attempts_that_ended_during_a_heartbeat_are_reported_after_it(
    worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Running("task", 1, type_="photography")
    worker.running.add(attempt)
    write = store.database.write_async

    async def end_before(step: Any, **options: Any) -> Any:
        """The beat has counted; before it is stored, the attempt ends."""
        monkeypatch.setattr(store.database, "write_async", write)
        worker.has_ended(attempt)
        return await write(step, **options)

    monkeypatch.setattr(store.database, "write_async", end_before)
    await worker.beat()
    await until(lambda: _busy(store, worker) == 0, "the dispatcher is told")


# --- rows that name this worker and run nowhere in it ---


@pytest.fixture
def begun(worker: Worker) -> list[tuple[str, int]]:
    """UnackedMessages of the attempts that were begun; each goes on until the test ends."""
    found: list[tuple[str, int]] = []

    async def run(worker: Worker, running: Running, claim: Claim) -> None:
        found.append((claim.task_id, claim.lease))

    worker.work = dataclasses.replace(WORK, attempt=run)
    return found


def _told(worker: Worker, *told: Claim) -> ClaimMessage:
    """What the dispatcher would have sent."""
    rows = [
        {
            "id": claim.task_id, "lease": claim.lease, "attempt": claim.attempt, "charge": claim.charge,
            "type": claim.type, "user_openid": claim.user, "params": json.dumps(claim.params),
            "picture_count": claim.count, "failures": 0, "deaths": 0, "max_attempts": 3,
        }
        for claim in told
    ]  # fmt: skip
    return ClaimMessage(TASKS, worker.id, rows)


async def test_a_claim_whose_message_was_lost_begins_at_the_second_beat(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    lost = claimed_task()
    await worker.beat()
    assert begun == [], "its message may be on its way"
    await worker.beat()
    await until(lambda: begun == [(lost.task_id, lost.lease)], "it has begun")
    row = store.task(lost.task_id)
    assert (row["status"], row["begun_lease"], row["attempt"]) == ("processing", lost.lease, 1)
    worker.take(_told(worker, lost))
    await worker.beat()
    assert begun == [(lost.task_id, lost.lease)], "a message that comes after all begins nothing"


async def test_after_a_broker_outage_a_claim_whose_message_was_lost_begins_at_once(
    worker: Worker, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    lost = claimed_task()
    worker.look_at_once()
    await worker.beat()
    await until(lambda: begun == [(lost.task_id, lost.lease)], "it has begun")


async def test_a_message_that_comes_twice_begins_once(
    worker: Worker, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    claim = claimed_task()
    worker.take(_told(worker, claim))
    worker.take(_told(worker, claim))
    await until(lambda: bool(begun), "it has begun")
    await asyncio.sleep(0)
    assert begun == [(claim.task_id, claim.lease)]


async def test_after_a_sleep_nothing_begins_before_a_beat(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    claim = claimed_task()
    worker._clocks_apart -= 60.0  # the wall clock went on, the monotonic one did not
    worker.take(_told(worker, claim))
    assert begun == [] and not worker.begun.has(claim.task_id, claim.lease)
    await worker.beat()
    await until(lambda: begun == [(claim.task_id, claim.lease)], "the row is still its own")


async def test_a_draining_worker_gives_back_claims_that_it_has_not_begun(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    runs, waits = claimed_task("a"), claimed_task("b")
    _running(worker, runs)
    worker.begin_drain()
    await until(lambda: store.task(waits.task_id)["status"] == "pending", "it is given back")
    row = store.task(waits.task_id)
    assert (row["failures"], row["deaths"], row["lease"]) == (0, 0, waits.lease)
    assert store.task(runs.task_id)["status"] == "processing"
    worker.take(_told(worker, waits))
    assert begun == [] and store.value("SELECT state FROM worker") == "draining"


async def test_a_beat_reports_begun_claims(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    running = _running(worker, claim)
    await worker.beat()
    assert running.is_marked and store.task(claim.task_id)["begun_lease"] == claim.lease


async def test_a_task_of_a_type_that_this_worker_does_not_know_is_put_off(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    claim = claimed_task()
    worker.settings = worker.settings.model_copy(update={"tasks": {}})
    worker.begin(claim)
    await until(lambda: store.task(claim.task_id)["status"] == "pending", "it is put off")
    assert store.task(claim.task_id)["run_after"] is not None and begun == []


async def test_an_ended_claim_that_was_not_stored_is_released_at_the_second_beat(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    stray, registered = claimed_task("a"), claimed_task("b")
    _running(worker, registered)
    assert worker.begun.enter(stray.task_id, stray.lease)
    await worker.beat()
    assert store.task(stray.task_id)["status"] == "processing", "its end may be on its way"
    await worker.beat()
    row = store.task(stray.task_id)
    assert (row["status"], row["failures"], row["deaths"], row["lease"]) == ("pending", 0, 0, stray.lease)
    assert store.task(registered.task_id)["status"] == "processing"
    assert store.entries(stray.task_id) == [(1, "debit", -1)]


async def test_a_stray_that_others_have_claimed_is_not_taken_from_them(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], live_worker: Callable[..., str]
) -> None:
    stray = claimed_task()
    worker.begun.enter(stray.task_id, stray.lease)
    await worker.beat()
    held = [Held(stray.task_id, stray.lease, False, True)]
    store.write(lambda tx: claims.release(tx, stray.task_id, stray.lease))
    live_worker("worker-2")
    (theirs,) = store.dispatch("worker-2")
    await worker._meet_strays(held, at_once=False)  # what the beat had read just before that
    row = store.task(stray.task_id)
    assert (row["status"], row["worker_id"], row["lease"]) == ("processing", "worker-2", theirs.lease)


# --- an attempt that does not end ---


async def test_an_attempt_that_does_not_end_after_its_cancel_frees_its_slot_and_ends_the_process(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.worker.worker.CLEANUP_SECONDS", 3.0)
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: signals.append(number))
    claim, ends = claimed_task(), asyncio.Event()

    async def stubborn(*_: Any) -> None:
        """Work that takes no notice of a cancel."""
        while not ends.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ends.wait()

    monkeypatch.setattr(attempt, "make_pictures", stubborn)
    worker.begin(claim)
    await until(lambda: any(running.work for running in worker.running), "the attempt runs")
    (running,) = worker.running
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))  # as a rescue does
    await worker.beat()
    assert running.cancelled is Why.LEASE_LOST
    assert worker._busy_slots() == 1, "its slot is busy, whatever the row says"
    await worker.until_all_ended(30)
    assert worker._busy_slots() == 0
    assert signals == [signal.SIGTERM]
    ends.set()
    assert running.work is not None
    await running.work


async def test_a_time_limit_ends_an_attempt_and_can_be_paused(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {
        name: of.model_copy(update={"time_limit_seconds": 1.5}) for name, of in store.settings.tasks.items()
    }
    worker.settings = worker.settings.model_copy(update={"tasks": types})
    seen: list[str] = []

    async def work(*_: Any) -> None:
        with standing_still():
            await asyncio.sleep(2.5)
        seen.append("went on")
        await asyncio.sleep(60)

    monkeypatch.setattr(attempt, "make_pictures", work)
    claim = claimed_task()
    with structlog.testing.capture_logs() as logged:
        worker.begin(claim)
        await until(lambda: store.task(claim.task_id)["failures"] == 1, "the limit has struck")
    assert seen == ["went on"]
    (cut,) = [line for line in logged if line["event"] == "attempt_cut_off"]
    assert (cut["task"], cut["reason"], cut["log_level"]) == (claim.task_id, "time limit", "info")
    assert cut["seconds"] >= 4.0, "the pause counts here"


class Answer:
    """What an attempt has in its hands, such as the answer of a service."""


def _fails() -> None:
    try:
        raise ValueError("the cause")
    except ValueError as error:
        raise Transient("It did not answer.") from error


@pytest.mark.parametrize("end", ["failed", "cut off", "lease lost", "completed"])
async def test_an_attempt_that_has_ended_is_freed_without_the_collector(
    end: str,
    worker: Worker,
    store: Store,
    claimed_task: Callable[..., Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The collector runs after so many new objects: hundreds of attempts, with the pictures of those that failed."""
    types = {
        name: of.model_copy(update={"time_limit_seconds": 0.05}) for name, of in store.settings.tasks.items()
    }
    if end == "cut off":
        worker.settings = worker.settings.model_copy(update={"tasks": types})
    held: list[weakref.ref[Any]] = []

    async def work(_: Worker, running: Running, claim: Claim) -> Any:
        answer = Answer()
        held.extend([weakref.ref(answer), weakref.ref(running)])
        async with asyncio.timeout(60):  # knows the task, as a client's time-outs do
            if end == "failed":
                _fails()
            if end == "lease lost":
                raise LeaseLost(claim.task_id)
            if end == "cut off":
                await asyncio.sleep(60)
            return record.completed(claim, [], without_pictures=True)

    monkeypatch.setattr(attempt, "make_pictures", work)
    claim = await asyncio.to_thread(claimed_task)
    gc.disable()
    try:
        worker.begin(claim)
        await worker.until_all_ended(30)
        await until(lambda: not any(each() for each in held), "nothing of it is left")
    finally:
        gc.enable()
    assert len(held) == 2


async def test_a_running_lease_is_remembered_however_many_have_ended(
    worker: Worker, claimed_task: Callable[..., Claim], begun: list[tuple[str, int]]
) -> None:
    """Forgotten, the second copy of its message would run it twice at once under one lease."""
    runs = claimed_task()
    _running(worker, runs)
    for n in range(MOST_ENDED + 1):
        assert worker.begun.enter(f"other-{n}", 1)
        worker.begun.end(f"other-{n}", 1)
    worker.take(_told(worker, runs))
    assert begun == [] and worker.begun.has(runs.task_id, runs.lease)
    assert not worker.begun.has("other-0", 1), "of those that have ended, only the newest are remembered"
    assert worker.begun.has("other-1", 1) and worker.begun.has(f"other-{MOST_ENDED}", 1)


async def test_the_end_of_an_attempt_leaves_a_newer_one_of_its_task_begun(worker: Worker) -> None:
    assert worker.begun.enter("task", 1) and worker.begun.enter("task", 2)
    worker.begun.end("task", 1)
    assert not worker.begun.enter("task", 2)
    worker.begun.end("task", 2)
    assert worker.begun.has("task", 1) and worker.begun.has("task", 2) and not worker.begun.has("task", 3)


@pytest.mark.parametrize(("is_there", "said"), [(True, "attempt_broke"), (False, "attempt_failed")])
async def test_an_attempt_of_a_worker_declared_dead_does_not_look_broken(
    is_there: bool, said: str, worker: Worker, store: Store, claimed_task: Callable[..., Claim],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The next worker has removed the folder of one that stood still, which wakes in the middle of its work."""
    claim = await asyncio.to_thread(claimed_task)
    worker.scratch = store.settings.data_dir / "scratch" / worker.id
    if is_there:
        worker.scratch.mkdir(parents=True)

    async def write(*_: Any) -> None:
        (worker.scratch / "attempt" / "made-1.jpg").write_bytes(b"x")

    monkeypatch.setattr(attempt, "make_pictures", write)
    with structlog.testing.capture_logs() as logged:
        await attempt.run_attempt(worker, _running(worker, claim), claim)
    assert [each["event"] for each in logged if each["event"] in ("attempt_broke", "attempt_failed")] == [
        said
    ]


async def test_what_nobody_has_foreseen_does_not_end_the_watch_of_the_own_lease() -> None:
    """Without it a worker that counts as dead would go on with tasks that others run."""
    looks, cancelled = list[None](), asyncio.Event()

    def may_start_requests() -> bool:
        looks.append(None)
        if len(looks) == 1:
            raise ZeroDivisionError
        return False

    of_ours = SimpleNamespace(
        id="w",
        _until_watch_seconds=lambda: 0.01,
        may_start_requests=may_start_requests,
        _cancel_all=lambda *_, **__: cancelled.set(),
        _leave_if_idle=lambda: None,
    )
    watching = asyncio.create_task(Worker._watch_own_lease(cast(Worker, of_ours)))
    await asyncio.wait_for(cancelled.wait(), 60)
    watching.cancel()


def test_what_nobody_has_foreseen_does_not_end_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that is added while the threads are counted is such a thing."""
    looked, looks = threading.Event(), list[None]()

    def look(*_: Any) -> None:
        looks.append(None)
        if len(looks) == 1:
            raise RuntimeError("dictionary changed size during iteration")
        looked.set()

    dog = Watchdog(check_seconds=0.01)
    monkeypatch.setattr(dog, "_look", look)
    dog.after_worker_boot(cast(Any, None), cast(Any, None))
    assert looked.wait(60)
    dog.before_worker_shutdown(cast(Any, None), cast(Any, None))
