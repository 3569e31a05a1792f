"""A worker's heartbeat: what it believes it holds, beside what the database says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from actors.worker import Running, Why, Worker
from supervisor.files import open_file_store
from supervisor.store import claims
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
