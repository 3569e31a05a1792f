"""Positions from memory: exact at the time of reading, read at most once a second, and only on request."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.database.interface.database import Transaction
from supervisor.services import queue_position_cache
from supervisor.services.queue_position_cache import WaitingOrderCache
from supervisor.store.queue import queue_snapshot
from supervisor.store.tasks import admission, task_views, user_actions
from tests.support.houses.web_server import Web, running_web
from web.handling.context import Context

PARAMS = {"images": ["https://example.org/a.jpg"]}


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(
        tmp_path, limits={"open_tasks_per_user": 0}, credits={"enabled": False}
    ) as running:
        yield running


def _submit(web: Web, user: str, priority: int = 0, run_after: str | None = None) -> dict[str, Any]:
    new = user_actions.NewTask(user, "photography", PARAMS, priority, run_after)
    return web.database.write_now(lambda tx: user_actions.submit(tx, web.settings, new))


def _read(web: Web) -> Any:
    return web.database.read(lambda tx: queue_snapshot.read_order(tx, web.settings))


async def test_positions_are_those_of_the_dispatchers_own_order(web: Web) -> None:
    chance = random.Random(7)
    for _ in range(200):
        _submit(web, f"o-{chance.randrange(9)}", chance.randint(-10, 10))
    expected = web.sql(
        "SELECT id FROM task_queue WHERE ready = 1 ORDER BY priority DESC, turn, created_at, id"
    )
    order = _read(web)
    for position, (task_id,) in enumerate(expected):
        view = web.database.read(lambda tx: task_views.get(tx, task_id))  # noqa: B023
        assert order.placed(view)["queue_position"] == position
    assert order.pending == 200


async def test_a_task_for_later_counts_as_pending_but_delays_no_other(web: Web) -> None:
    _submit(web, "o-1", run_after="2100-01-01T00:00:00.000Z")
    order = _read(web)
    assert order.pending == 1
    assert order.placed(_submit(web, "o-2"))["queue_position"] == 0


async def test_one_reading_serves_all_callers_for_a_second(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Transaction] = []
    read_order = queue_snapshot.read_order

    def counted(tx: Transaction, settings: Any) -> Any:
        read.append(tx)
        return read_order(tx, settings)

    monkeypatch.setattr(queue_snapshot, "read_order", counted)
    parts: Context = web.context
    await asyncio.gather(*(parts.queue_positions.latest() for _ in range(100)))
    assert len(read) == 1
    _submit(web, "o-1")
    assert (await parts.queue_positions.latest()).pending == 0, "not looked again within the second"
    monkeypatch.setattr(queue_position_cache, "AT_MOST_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(queue_position_cache, "PAUSES", 0)
    assert (await parts.queue_positions.latest()).pending == 1
    assert len(read) == 2


async def test_a_slow_reading_is_not_waited_for_when_there_is_an_older_one(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = WaitingOrderCache(web.database, web.settings)
    old = await order.latest()
    release = asyncio.Event()

    async def slow(query: Any) -> Any:
        await release.wait()
        return web.database.read(query)

    monkeypatch.setattr(queue_position_cache, "AT_MOST_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(queue_position_cache, "PAUSES", 0)
    monkeypatch.setattr(web.database, "read_async", slow)
    assert await order.latest() is old
    with pytest.raises(StopIteration) as ended:
        order.latest().send(None)
    assert ended.value.value is old, "the moment is over: a later request does not wait at all"
    view = _submit(web, "o-1")
    order.note_joined(view)
    release.set()
    reading = order._reading
    assert reading is not None
    await asyncio.wait_for(reading, 90)
    monkeypatch.setattr(queue_position_cache, "AT_MOST_EVERY_SECONDS", 60.0)
    assert (await order.latest()).pending == 1, "what joined while it was read is counted, and once"


async def test_the_processs_own_changes_are_seen_at_once(web: Web) -> None:
    order = WaitingOrderCache(web.database, web.settings)
    assert (await order.latest()).pending == 0
    views = [_submit(web, f"o-{n}") for n in range(3)]
    for view in views:
        order.note_joined(view)
        order.note_joined(view)
    assert [(await order.placed(view))["queue_position"] for view in views] == [0, 1, 2]
    left = web.database.write_now(lambda tx: user_actions.cancel(tx, views[0]["task_id"]))
    order.note_left(left)
    assert [(await order.placed(view))["queue_position"] for view in views[1:]] == [0, 1]
    assert (await order.latest()).pending == 2


async def test_rows_written_by_sql_join_when_they_are_admitted(web: Web) -> None:
    web.insert_task("o-1")
    assert _read(web).pending == 1
    web.sql("UPDATE task_queue SET type = type")
    web.database.write_now(lambda tx: admission.admit_waiting(tx, web.settings, 10).get().rows)
    view = _submit(web, "o-2")
    assert _read(web).placed(view)["queue_position"] in (0, 1)
