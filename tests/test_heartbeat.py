"""A worker's heartbeat: what it believes it holds, beside what the database says."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from actors import attempt
from actors.event_loop import CoroutineWouldNotEnd
from actors.worker import Running, Why, Worker
from supervisor.files import open_file_store
from supervisor.store import claims
from supervisor.store.claims import Claim
from supervisor.store.dispatching import Hint
from tests.conftest import Store
from tests.web_server import until


@pytest.fixture
async def worker(store: Store, live_worker: Callable[..., str]) -> AsyncIterator[Worker]:
    """In this process, without a broker; its id is that of the factories' worker."""
    made: Any = Worker(store.settings, None, store.database, open_file_store(store.settings))  # type: ignore[arg-type]
    made.id = live_worker()
    yield made
    await made.images.close()


async def test_a_task_claimed_while_a_beat_is_under_way_is_not_taken_for_lost(
    worker: Worker, store: Store, dispatched_task: Callable[..., Hint], monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = dispatched_task()
    running = Running(hint.task_id)
    running.work = asyncio.create_task(asyncio.sleep(60))
    worker.running.add(running)
    write = store.database.write_async

    async def answer_late(step: Any, **options: Any) -> Any:
        """The beat has read what this worker holds; before it is told, a claim is stored and told."""
        answer = await write(step, **options)
        claim = await write(lambda tx: claims.claim(tx, hint.task_id, hint.dispatch, worker.id, 630))
        assert claim is not None
        running.lease = claim.lease
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(store.database, "write_async", answer_late)
        await worker.beat()
    assert running.cancelled is None

    await worker.beat()
    assert running.cancelled is None
    await write(lambda tx: claims.release(tx, hint.task_id, 1))
    await worker.beat()
    assert running.cancelled is Why.LEASE_LOST
    with pytest.raises(asyncio.CancelledError):
        await running.work


def _beats(store: Store, worker: Worker) -> Any:
    return store.value("SELECT beat FROM worker WHERE id = ?", worker.id)


def _busy(store: Store, worker: Worker) -> Any:
    return store.value("SELECT busy FROM worker WHERE id = ?", worker.id)


async def test_a_slot_that_becomes_free_between_two_heartbeats_is_told_at_once(
    worker: Worker, store: Store
) -> None:
    attempts = [Running(f"task-{n}") for n in range(3)]
    worker.running.update(attempts)
    await worker.beat()
    assert _busy(store, worker) == 3

    for ended in attempts[:2]:
        worker.has_ended(ended)
    await until(lambda: _busy(store, worker) == 1, "the dispatcher is told of the slots that are free")
    assert _beats(store, worker) == 1  # being told is no sign of life of the whole worker


async def test_attempts_that_ended_while_a_heartbeat_was_under_way_are_told_after_it(
    worker: Worker, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Running("task")
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


# --- strays: rows that name this worker and run nowhere in it ---


async def test_a_stray_is_released_at_its_second_beat_and_costs_no_attempt(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    stray, registered = claimed_task("a"), claimed_task("b")
    running = Running(registered.task_id)
    running.lease = registered.lease
    worker.running.add(running)
    await worker.beat()
    assert store.task(stray.task_id)["status"] == "processing", "its claim's answer may be on its way"
    await worker.beat()
    row = store.task(stray.task_id)
    assert (row["status"], row["failures"], row["deaths"], row["lease"]) == ("pending", 0, 0, stray.lease)
    assert store.task(registered.task_id)["status"] == "processing"
    assert store.entries(stray.task_id) == [(1, "debit", -1)]


async def test_a_stray_that_was_claimed_again_meanwhile_has_two_beats_of_its_own(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim]
) -> None:
    stray = claimed_task()
    await worker.beat()
    store.write(lambda tx: claims.release(tx, stray.task_id, stray.lease))
    (hint,) = store.dispatch()
    again = store.claim(hint, worker.id)
    assert again is not None and again.lease == stray.lease + 1
    await worker.beat()
    assert store.task(stray.task_id)["status"] == "processing", "this lease was seen for the first time"
    await worker.beat()
    assert store.task(stray.task_id)["status"] == "pending"


async def test_a_stray_that_others_have_claimed_is_not_taken_from_them(
    worker: Worker, store: Store, claimed_task: Callable[..., Claim], live_worker: Callable[..., str]
) -> None:
    stray = claimed_task()
    await worker.beat()
    held = (stray.task_id, stray.lease)
    store.write(lambda tx: claims.release(tx, stray.task_id, stray.lease))
    (hint,) = store.dispatch()
    theirs = store.claim(hint, live_worker("worker-2"))
    assert theirs is not None
    await worker._give_back_strays({held})  # what the beat had read just before that
    row = store.task(stray.task_id)
    assert (row["status"], row["worker_id"], row["lease"]) == ("processing", "worker-2", theirs.lease)


# --- an attempt that does not end ---


async def test_an_attempt_that_does_not_end_after_its_cancel_frees_its_thread_and_ends_the_process(
    worker: Worker, store: Store, dispatched_task: Callable[..., Hint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.worker.CLEANUP_SECONDS", 3.0)
    hint, ends = dispatched_task(), asyncio.Event()

    async def stubborn(*_: Any) -> None:
        """Work that takes no notice of a cancel."""
        while not ends.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await ends.wait()

    monkeypatch.setattr(attempt, "make_pictures", stubborn)
    actor = asyncio.create_task(attempt.run_attempt(worker, hint.type, hint.task_id, hint.dispatch))
    await until(lambda: any(running.work for running in worker.running), "the attempt runs")
    (running,) = worker.running
    assert running.lease is not None
    lease = running.lease
    store.write(lambda tx: claims.release(tx, hint.task_id, lease))  # as a rescue does
    await worker.beat()
    assert running.cancelled is Why.LEASE_LOST and not actor.done()
    assert worker._busy_slots() == 1, "its thread is busy, whatever the row says"
    with pytest.raises(CoroutineWouldNotEnd):
        await asyncio.wait_for(actor, 30)
    assert worker._busy_slots() == 0
    signals: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, number: signals.append(number))
    worker.end_for_a_stuck_attempt()
    assert signals == [signal.SIGTERM]
    ends.set()
    assert running.work is not None
    await running.work
