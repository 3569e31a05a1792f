"""`Prefer: wait=N`: the finished task in one answer; the wait holds only a little memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import claim_now
from tests.support.houses.web_server import Web, bearer, running_web, until
from tests.support.workers import complete
from web.api import prefer_wait

TASKS = "/v1/tasks"
ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}
IMAGE = {"key": "results/a.jpg", "width": 3, "height": 4}


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(
        tmp_path, database_kind, limits={"open_tasks_per_user": 0, "running_tasks_per_user": 0}
    ) as running:
        running.sql(
            "INSERT INTO worker (id, host, pid, slots, takes_claims) VALUES ('w-1', 'here', 1, 100, 1)"
        )
        yield running


async def _submit(http: aiohttp.ClientSession, web: Web, prefer: str, **headers: str) -> tuple[int, Any, Any]:
    given = bearer("o-1") | {"Prefer": prefer} | headers
    async with http.post(web.url + TASKS, headers=given, json=ORDER) as response:
        return response.status, await response.json(), response.headers


async def _only_task(web: Web) -> str:
    await until(lambda: web.sql("SELECT 1 FROM task_queue"), "the task is stored")
    return str(web.sql("SELECT id FROM task_queue")[0][0])


async def _finish(web: Web, task_id: str) -> None:
    def finish(tx: Any) -> None:
        claim = claim_now(tx, task_id, "w-1")
        complete(tx, task_id, claim.lease, [IMAGE])

    await web.database.write_async(finish)


async def test_a_task_that_ends_in_time_is_answered_whole(web: Web, http: aiohttp.ClientSession) -> None:
    asked = asyncio.create_task(_submit(http, web, "wait=60"))
    await _finish(web, await _only_task(web))
    ended = time.monotonic()
    status, task, headers = await asked
    assert time.monotonic() - ended < 45, "it was notified of the end and did not wait for its time"
    assert status == 200 and headers["Preference-Applied"] == "wait=60"
    assert task["status"] == "completed" and task["progress"] == 100
    assert task["result"]["images"][0]["url"].startswith("/files/results/a.jpg?exp=")


async def test_a_cancel_is_an_end_too(web: Web, http: aiohttp.ClientSession) -> None:
    asked = asyncio.create_task(_submit(http, web, "respond-async, wait=20"))
    task_id = await _only_task(web)
    async with http.post(f"{web.url}{TASKS}/{task_id}/cancel", headers=bearer("o-1")) as response:
        assert response.status == 202
    status, task, _ = await asked
    assert status == 200 and task["status"] == "cancelled"


async def test_when_the_time_is_over_it_is_202_as_ever(web: Web, http: aiohttp.ClientSession) -> None:
    begun = time.monotonic()
    status, answer, headers = await _submit(http, web, "wait=1")
    assert time.monotonic() - begun > 0.9
    assert status == 202 and answer["status"] == "pending" and set(answer["urls"]) > {"task", "feed"}
    assert headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize(
    "prefer", ["wait=0", "wait=61", "wait=-1", "wait=x", "wait", "return=minimal", "", "wait=1e1"]
)
async def test_a_preference_that_cannot_be_met_is_left_alone(
    web: Web, http: aiohttp.ClientSession, prefer: str
) -> None:
    status, _, headers = await asyncio.wait_for(_submit(http, web, prefer), 10)
    assert status == 202 and "Preference-Applied" not in headers


async def test_waiting_requests_hold_no_database_connection(web: Web, http: aiohttp.ClientSession) -> None:
    """More requests wait than there are reader threads, and all others are served."""
    waiting = [asyncio.create_task(_submit(http, web, "wait=30")) for _ in range(50)]
    await until(lambda: web.context.hub.waiter_count == 50, "all wait")
    async with asyncio.timeout(25), http.get(web.url + TASKS, headers=bearer("o-1")) as response:
        ids = [item["task_id"] for item in (await response.json())["items"]]
    assert len(ids) == 20
    for (task_id,) in web.sql("SELECT id FROM task_queue"):
        await _finish(web, task_id)
    answers = await asyncio.gather(*waiting)
    assert {status for status, _, _ in answers} == {200}
    assert web.context.hub.waiter_count == 0 and web.context.hub.is_idle


async def test_when_too_many_wait_already_it_is_202_at_once(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prefer_wait.MOST_WAITERS == 256
    monkeypatch.setattr(prefer_wait, "MOST_WAITERS", 1)
    first = asyncio.create_task(_submit(http, web, "wait=60"))
    await until(lambda: web.context.hub.waiter_count == 1, "one waits")
    status, _, headers = await asyncio.wait_for(_submit(http, web, "wait=60"), 40)
    assert status == 202 and "Preference-Applied" not in headers
    first.cancel()
    await until(lambda: web.context.hub.waiter_count == 0, "who leaves gives their place back")


async def test_a_replay_waits_for_the_same_task(web: Web, http: aiohttp.ClientSession) -> None:
    key = {"Idempotency-Key": "k-1"}
    await _submit(http, web, "", **key)
    asked = asyncio.create_task(_submit(http, web, "wait=20", **key))
    await until(lambda: web.context.hub.waiter_count == 1, "it waits")
    await _finish(web, await _only_task(web))
    status, task, headers = await asked
    assert status == 200 and task["status"] == "completed" and headers["Idempotent-Replayed"] == "true"


async def test_a_process_that_stops_ends_every_wait(web: Web, http: aiohttp.ClientSession) -> None:
    asked = asyncio.create_task(_submit(http, web, "wait=60"))
    await until(lambda: web.context.hub.waiter_count == 1, "it waits")
    begun = time.monotonic()
    await web.server.stop()
    status, answer, _ = await asked
    assert status == 202 and answer["task_id"] and time.monotonic() - begun < 40
