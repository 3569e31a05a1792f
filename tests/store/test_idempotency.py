"""Idempotency-Key: a request sent twice is done once, also when a process dies in between (CORRECTNESS 37)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.services.sweep import sweep
from supervisor.store.feed import works
from tests.conftest import claim_now
from tests.support.houses.web_server import Web, bearer, running_web
from web.handling.idempotency_header import hash_of, parse_key

TASKS = "/v1/tasks"
ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"], "count": 2}}
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(tmp_path, database_kind) as running:
        yield running


class Answer:
    def __init__(self, status: int, body: Any, replayed: bool) -> None:
        self.status, self.body, self.replayed = status, body, replayed


async def _post(
    http: aiohttp.ClientSession,
    web: Web,
    path: str = TASKS,
    user: str = "o-1",
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Answer:
    given = bearer(user) | (KEY if headers is None else headers)
    if not more and path == TASKS:
        more = {"json": ORDER}
    async with http.post(web.url + path, headers=given, **more) as response:
        return Answer(response.status, await response.json(), "Idempotent-Replayed" in response.headers)


def _tasks(web: Web) -> int:
    return int(web.sql("SELECT count(*) FROM task_queue")[0][0])


async def test_the_same_request_names_the_same_task_and_says_so(
    web: Web, http: aiohttp.ClientSession
) -> None:
    first, again = await _post(http, web), await _post(http, web)
    assert (first.status, first.replayed) == (202, False)
    assert (again.status, again.replayed) == (202, True) and again.body == first.body
    assert _tasks(web) == 1
    assert web.sql("SELECT balance FROM account WHERE user_openid = 'o-1'") == [(98,)]


async def test_a_key_is_the_same_quoted_or_not_and_the_body_is_compared_by_its_meaning(
    web: Web, http: aiohttp.ClientSession
) -> None:
    await _post(http, web)
    bare = {"Idempotency-Key": KEY["Idempotency-Key"].strip('"'), "Content-Type": "application/json"}
    spaced = b'{ "params": {"count": 2,  "images":["https:\\/\\/example.org/a.jpg"]}, "type":"photography" }'
    assert (await _post(http, web, headers=bare, data=spaced)).replayed
    assert _tasks(web) == 1


async def test_another_body_under_the_same_key_is_422(web: Web, http: aiohttp.ClientSession) -> None:
    await _post(http, web)
    other = await _post(http, web, json={**ORDER, "priority": -1})
    assert other.status == 422 and other.body["type"].endswith("idempotency_key_reused")
    assert other.body["errors"][0]["pointer"] == "/Idempotency-Key"
    assert _tasks(web) == 1


async def test_a_key_belongs_to_one_user_and_one_path(web: Web, http: aiohttp.ClientSession) -> None:
    mine, theirs = await _post(http, web), await _post(http, web, user="o-2")
    assert not theirs.replayed and mine.body["task_id"] != theirs.body["task_id"]
    cancelled = await _post(http, web, mine.body["urls"]["cancel"])
    assert cancelled.status == 202 and not cancelled.replayed, "the same key at another address"


async def test_a_cancel_or_retry_that_is_sent_again_is_not_a_conflict(
    web: Web, http: aiohttp.ClientSession
) -> None:
    task = (await _post(http, web)).body["urls"]["task"]
    for path, status in ((task + "/cancel", "cancelled"), (task + "/retry", "pending")):
        first, again = await _post(http, web, path), await _post(http, web, path)
        assert (first.status, first.replayed, first.body["status"]) == (202, False, status)
        assert (again.status, again.replayed, again.body["status"]) == (202, True, status)
    assert (await _post(http, web, task + "/retry", headers={})).status == 409
    assert web.sql("SELECT balance FROM account WHERE user_openid = 'o-1'") == [(98,)]


async def test_twins_at_the_same_moment_make_one_task(web: Web, http: aiohttp.ClientSession) -> None:
    answers = await asyncio.gather(*(_post(http, web) for _ in range(24)))
    assert {answer.status for answer in answers} == {202}
    assert len({answer.body["task_id"] for answer in answers}) == 1 and _tasks(web) == 1
    assert sum(not answer.replayed for answer in answers) == 1


async def test_twins_with_different_bodies_make_one_task_and_one_422(
    web: Web, http: aiohttp.ClientSession
) -> None:
    bodies = [ORDER, {**ORDER, "priority": -1}]
    answers = await asyncio.gather(*(_post(http, web, json=body) for body in bodies))
    assert sorted(answer.status for answer in answers) == [202, 422] and _tasks(web) == 1


async def test_a_refused_order_may_be_corrected_and_sent_again_under_its_key(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path, credits={"signup_grant": 1}) as web:
        assert (await _post(http, web)).status == 402
        assert (await _post(http, web, json={**ORDER, "type": "unknown"})).status == 422
        mended = {**ORDER, "params": {**ORDER["params"], "count": 1}}  # type: ignore[dict-item]
        accepted = await _post(http, web, json=mended)
        assert (accepted.status, accepted.replayed) == (202, False)


async def test_a_replay_shows_the_task_as_it_is_now_even_when_no_more_would_be_accepted(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path, limits={"open_tasks_per_user": 1, "pending_tasks": 1}) as web:
        first = await _post(http, web)
        assert (await _post(http, web, headers={})).status == 429
        assert (await _post(http, web)).replayed
        await _post(http, web, first.body["urls"]["cancel"], headers={})
        again = await _post(http, web)
        assert (again.status, again.replayed, again.body["status"]) == (202, True, "cancelled")
        assert again.body["queue_position"] is None and again.body["task_id"] == first.body["task_id"]
        await web.database.write_async(lambda tx: works.delete(tx, first.body["work_id"], "o-1"))
        assert (await _post(http, web)).body["task_id"] == first.body["task_id"], "its row stays"


async def test_a_key_outlives_the_process_and_is_forgotten_after_a_day(
    web: Web, http: aiohttp.ClientSession
) -> None:
    first = await _post(http, web)
    await web.stop()
    await web.start()
    assert (await _post(http, web)).replayed
    web.sql("UPDATE rule SET shift = '+23 hours'")
    assert (await _post(http, web)).replayed
    web.sql("UPDATE rule SET shift = '+25 hours'")
    anew = await _post(http, web)
    assert not anew.replayed and anew.body["task_id"] != first.body["task_id"]
    assert (await _post(http, web)).body["task_id"] == anew.body["task_id"]
    web.sql("UPDATE rule SET shift = '+50 hours'")
    counts = await asyncio.to_thread(sweep, web.database, web.settings, web.context.files)
    assert counts["keys_pruned"] == 1 and web.sql("SELECT count(*) FROM idempotency_key") == [(0,)]


@pytest.mark.parametrize("header", ["", '""', '"a', 'a"b', '"a\\b"', "a,b", "a;b", "ä", "x" * 256])
async def test_an_invalid_key_is_422(web: Web, http: aiohttp.ClientSession, header: str) -> None:
    answer = await _post(http, web, headers={"Idempotency-Key": header})
    assert answer.status == 422 and answer.body["errors"][0]["pointer"] == "/Idempotency-Key"
    assert _tasks(web) == 0


def test_keys_are_structured_field_strings_or_bare_words() -> None:
    assert parse_key('"a b"') == "a b"
    assert parse_key(r'"a\"b\\c"') == r'a"b\c'
    assert parse_key(' "k" ') == parse_key("k") == "k"
    assert parse_key("550e8400-e29b-41d4-a716-446655440000") is not None
    assert parse_key('"a";p=1') is None


def test_the_canonical_body_forgets_order_and_space_and_nothing_else() -> None:
    assert hash_of({"a": 1, "b": [1, 2]}) == hash_of({"b": [1, 2], "a": 1})
    different: list[Any] = [{"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": True}, {"a": [1]}, {"a": None}, None]
    assert len({hash_of(each) for each in different}) == len(different)


async def test_a_claim_beside_it_changes_nothing(web: Web, http: aiohttp.ClientSession) -> None:
    """A worker that takes the task between two sendings: the second one sees it at work."""
    first = await _post(http, web)
    task_id = first.body["task_id"]
    web.sql("INSERT INTO worker (id, host, pid, slots, takes_claims) VALUES ('w-1', 'here', 1, 1, 1)")
    await web.database.write_async(lambda tx: claim_now(tx, task_id, "w-1"))
    again = await _post(http, web)
    assert again.replayed and again.body["status"] == "processing" and again.body["queue_position"] is None
