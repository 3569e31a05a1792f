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
