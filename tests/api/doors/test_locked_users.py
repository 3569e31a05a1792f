"""Requests of a user whose rows another program has locked hold up nobody else's, at any door."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import pytest

from supervisor.database.postgres import transactions
from tests.conftest import DEADLINE_SECONDS
from tests.support.databases import POSTGRESQL, plain_connection
from tests.support.houses.web_server import Web, bearer, running_web

ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}


async def _ordered(http: aiohttp.ClientSession, web: Web, user: str) -> str:
    async with http.post(f"{web.url}/v1/tasks", json=ORDER, headers=bearer(user)) as answer:
        assert answer.status == 202
        return str((await answer.json())["task_id"])


async def _status(http: aiohttp.ClientSession, web: Web, user: str, method: str, path: str) -> int:
    async with http.request(method, web.url + path, headers=bearer(user)) as answer:
        await answer.read()
        return answer.status


@pytest.mark.postgresql_only
async def test_actions_of_a_locked_user_hold_up_no_other_user_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "LOCKED_SECONDS", 600.0)
    async with running_web(tmp_path, POSTGRESQL) as web, aiohttp.ClientSession() as http:
        tasks = [await _ordered(http, web, "held") for _ in range(5)]
        free = [await _ordered(http, web, "free") for _ in range(3)]
        works = dict(web.sql("SELECT task_id, id FROM works"))
        with contextlib.closing(plain_connection(web.settings)) as other:
            other.execute("BEGIN")
            other.execute("SELECT 1 FROM account WHERE user_openid = 'held' FOR UPDATE")
            wanted = [
                ("POST", f"/v1/tasks/{tasks[0]}/cancel"),
                ("POST", f"/v1/tasks/{tasks[1]}/cancel"),
                ("DELETE", f"/v1/works/{works[tasks[2]]}"),
                ("POST", f"/replicate/v1/predictions/{tasks[3]}/cancel"),
                ("PUT", f"/fal/queue/photography/requests/{tasks[4]}/cancel"),
            ]
            held = [asyncio.create_task(_status(http, web, "held", *each)) for each in wanted]
            for task in free:
                done = _status(http, web, "free", "POST", f"/v1/tasks/{task}/cancel")
                assert await asyncio.wait_for(done, DEADLINE_SECONDS) == 202
            assert not any(each.done() for each in held)
            other.execute("ROLLBACK")
        statuses = await asyncio.wait_for(asyncio.gather(*held), DEADLINE_SECONDS)
        assert all(200 <= each < 300 for each in statuses), statuses
        assert web.sql("SELECT DISTINCT status FROM task_queue") == [("cancelled",)]
