"""Tasks and works over HTTP: accepted, shown, listed, cancelled, retried, deleted; and every refusal."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web, until

TASKS = "/v1/tasks"
ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"], "count": 2}}


async def _call(
    http: aiohttp.ClientSession,
    web: Web,
    method: str,
    path: str,
    user: str = "o-1",
    role: str = "user",
    **more: Any,
) -> tuple[int, Any, Any]:
    headers = bearer(user, role) | ({"Content-Type": "application/json"} if more.get("data") else {})
    async with http.request(method, web.url + path, headers=headers, **more) as response:
        body: Any = await response.json() if response.content_length else None
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
            assert body["status"] == response.status and body["title"] and body["type"] and body["detail"]
        return response.status, body, response.headers


async def test_a_task_s_history_is_its_own_user_s(web: Web, http: aiohttp.ClientSession) -> None:
    _, answer, _ = await _call(http, web, "POST", TASKS, json=ORDER)
    await _call(http, web, "POST", answer["urls"]["cancel"])
    status, history, _ = await _call(http, web, "GET", answer["urls"]["task"] + "/events")
    assert status == 200
    assert [each["event"] for each in history["items"]] == [
        "submitted", "debited", "admitted", "cancelled", "refunded",
    ]  # fmt: skip
    assert (await _call(http, web, "GET", answer["urls"]["task"] + "/events", user="o-2"))[0] == 404


async def test_a_task_is_accepted_once_it_is_stored_and_paid(web: Web, http: aiohttp.ClientSession) -> None:
    status, answer, _ = await _call(http, web, "POST", TASKS, json=ORDER)
    assert status == 202 and answer["status"] == "pending" and answer["queue_position"] == 0
    assert set(answer) == {"task_id", "work_id", "status", "queue_position", "urls"}
    assert web.sql("SELECT id, user_openid, status FROM task_queue") == [
        (answer["task_id"], "o-1", "pending")
    ]
    _, statement, _ = await _call(http, web, "GET", "/v1/credits")
    assert statement["balance"] == 98
    assert [entry["kind"] for entry in statement["entries"]] == ["debit", "grant"]
    _, task, _ = await _call(http, web, "GET", answer["urls"]["task"])
    assert set(task) == {
        *(
            "task_id",
            "work_id",
            "type",
            "status",
            "stage",
            "progress",
            "queue_position",
            "eta_seconds",
            "attempt",
        ),
        *("max_attempts", "error", "result", "created_at", "started_at", "finished_at"),
    }
    _, work, _ = await _call(http, web, "GET", answer["urls"]["work"])
    assert work["_id"] == answer["work_id"] and work["images"] == [] and work["user_openid"] == "o-1"


async def test_an_uploaded_image_must_be_ones_own(web: Web, http: aiohttp.ClientSession) -> None:
    headers = bearer("o-1") | {"Content-Type": "image/jpeg"}
    async with http.post(web.url + "/v1/images", data=picture_bytes(), headers=headers) as response:
        image_id = (await response.json())["id"]
    order = {"type": "photography", "params": {"images": [image_id]}}
    assert (await _call(http, web, "POST", TASKS, json=order))[0] == 202
    status, problem, _ = await _call(http, web, "POST", TASKS, user="o-2", json=order)
    assert status == 422 and problem["errors"][0]["pointer"] == "/params/images"
    assert problem["type"].endswith("image_not_found")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"nonsense", 400),
        (b'{"type":NaN}', 400),
        (b'{"a":-Infinity}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"n":' + b"1" * 5000 + b"}", 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"type":"photography","params":{"images":["https://a.example/x"],"prompt":"\\ud800"}}', 422),
        (b'{"type":"photography","params":{"images":["https://a.example/x"],"prompt":"a\\u0000"}}', 422),
        (b'{"type":"photography","params":{"images":["https://a.example/x"],"parameters":{"x":1e999}}}', 422),
        (b'{"type":"portrait","params":{"images":["https://a.example/x"]}}', 422),
        (b'"' + b"x" * 1_100_000 + b'"', 413),
    ],
)
async def test_a_bad_body_gets_an_error_that_names_the_mistake(
    web: Web, http: aiohttp.ClientSession, body: bytes, status: int
) -> None:
    found, problem, _ = await _call(http, web, "POST", TASKS, data=body)
    assert found == status
    if status == 422:
        assert all(each["pointer"].startswith("/") or each["pointer"] == "" for each in problem["errors"])
    assert web.sql("SELECT count(*) FROM task_queue") == [(0,)]


async def test_too_few_credits_are_402(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, credits={"signup_grant": 3}) as web:
        assert (await _call(http, web, "POST", TASKS, json=ORDER))[0] == 202
        status, problem, _ = await _call(http, web, "POST", TASKS, json=ORDER)
        assert status == 402 and "2 credits" in problem["detail"]
        assert web.sql("SELECT count(*) FROM task_queue") == [(1,)]


async def test_limits_say_when_to_come_again(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, limits={"open_tasks_per_user": 2, "pending_tasks": 3}) as web:
        for _ in range(2):
            assert (await _call(http, web, "POST", TASKS, json=ORDER))[0] == 202
        status, _, headers = await _call(http, web, "POST", TASKS, json=ORDER)
        assert status == 429 and int(headers["Retry-After"]) > 0
        assert (await _call(http, web, "POST", TASKS, user="o-2", json=ORDER))[0] == 202
        status, _, headers = await _call(http, web, "POST", TASKS, user="o-3", json=ORDER)
        assert status == 503 and int(headers["Retry-After"]) > 0


async def test_a_retry_obeys_the_limits_of_an_order_but_for_operators(
    tmp_path: Path, database_kind: str, http: aiohttp.ClientSession
) -> None:
    limits = {"open_tasks_per_user": 2, "pending_tasks": 3}
    async with running_web(tmp_path, database_kind, limits=limits) as web:

        async def order(user: str = "o-1") -> str:
            status, answer, _ = await _call(http, web, "POST", TASKS, user=user, json=ORDER)
            assert status == 202
            return str(answer["urls"]["task"])

        async def of_the_service(path: str) -> tuple[int, dict[str, Any]]:
            headers = bearer("backend", "service") | {"X-User": "o-1"}
            async with http.post(web.url + path, headers=headers) as response:
                return response.status, dict(response.headers)

        old = [await order(), await order()]
        for path in old:
            assert (await _call(http, web, "POST", path + "/cancel"))[0] == 202
        for _ in old:
            await order()
        balance = (await _call(http, web, "GET", "/v1/credits"))[1]["balance"]
        status, problem, headers = await _call(http, web, "POST", old[0] + "/retry")
        assert status == 429 and problem["type"].endswith("too_many_open_tasks")
        assert int(headers["Retry-After"]) > 0 and "2 open tasks" in problem["detail"]
        status, headers = await of_the_service(old[0] + "/retry")
        assert status == 429 and int(headers["Retry-After"]) > 0
        assert (await _call(http, web, "GET", "/v1/credits"))[1]["balance"] == balance, "nothing was taken"
        assert web.sql("SELECT count(*) FROM task_queue WHERE status = 'pending'") == [(2,)]

        theirs = await order("o-2")
        assert (await _call(http, web, "POST", theirs + "/cancel", user="o-2"))[0] == 202
        await order("o-3")
        status, problem, headers = await _call(http, web, "POST", theirs + "/retry", user="o-2")
        assert status == 503 and problem["type"].endswith("queue_full") and int(headers["Retry-After"]) > 0

        assert (await _call(http, web, "POST", old[0] + "/retry", role="operator"))[0] == 202
        ops = "/v1/ops/tasks/" + old[1].rpartition("/")[2] + "/retry"
        assert (await _call(http, web, "POST", ops, user="root", role="operator"))[0] == 202
        web.sql("UPDATE task_queue SET status = 'pending' WHERE user_openid = 'o-2'")
        assert web.sql("SELECT count(*) FROM task_queue WHERE status = 'pending'") == [(6,)]


async def test_of_many_retries_at_once_as_many_succeed_as_there_is_room(
    tmp_path: Path, database_kind: str, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path, database_kind, limits={"open_tasks_per_user": 4}) as web:
        old = []
        for _ in range(8):
            _, answer, _ = await _call(http, web, "POST", TASKS, json=ORDER)
            old.append(answer["urls"]["task"])
            assert (await _call(http, web, "POST", old[-1] + "/cancel"))[0] == 202
        answers = await asyncio.gather(*(_call(http, web, "POST", path + "/retry") for path in old))
        assert sorted(status for status, *_ in answers) == [202] * 4 + [429] * 4
        assert web.sql("SELECT count(*) FROM task_queue WHERE status = 'pending'") == [(4,)]


async def test_only_services_and_operators_may_raise_the_priority(
    web: Web, http: aiohttp.ClientSession
) -> None:
    for role, status in (("user", 422), ("service", 202), ("operator", 202)):
        assert (await _call(http, web, "POST", TASKS, role=role, json={**ORDER, "priority": 5}))[0] == status
    assert (await _call(http, web, "POST", TASKS, json={**ORDER, "priority": -5}))[0] == 202


async def test_cancel_and_retry_answer_the_task_and_move_the_money(
    web: Web, http: aiohttp.ClientSession
) -> None:
    _, answer, _ = await _call(http, web, "POST", TASKS, json=ORDER)
    path = answer["urls"]["task"]
    assert (await _call(http, web, "POST", path + "/retry"))[0] == 409
    status, task, _ = await _call(http, web, "POST", path + "/cancel")
    assert status == 202 and task["status"] == "cancelled" and task["task_id"] == answer["task_id"]
    assert (await _call(http, web, "POST", path + "/cancel"))[0] == 409
    assert (await _call(http, web, "GET", "/v1/credits"))[1]["balance"] == 100
    status, task, _ = await _call(http, web, "POST", path + "/retry")
    assert status == 202 and task["status"] == "pending"
    assert (await _call(http, web, "GET", "/v1/credits"))[1]["balance"] == 98


async def test_a_deleted_work_is_gone_its_task_is_cancelled_and_stays(
    web: Web, http: aiohttp.ClientSession
) -> None:
    _, answer, _ = await _call(http, web, "POST", TASKS, json=ORDER)
    assert (await _call(http, web, "DELETE", answer["urls"]["work"]))[0] == 204
    assert (await _call(http, web, "GET", answer["urls"]["work"]))[0] == 404
    assert (await _call(http, web, "DELETE", answer["urls"]["work"]))[0] == 404
    assert (await _call(http, web, "GET", answer["urls"]["task"]))[1]["status"] == "cancelled"
    assert (await _call(http, web, "POST", answer["urls"]["task"] + "/retry"))[0] == 409
    assert (await _call(http, web, "GET", "/v1/credits"))[1]["balance"] == 100


async def test_lists_are_read_page_by_page_newest_first(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, limits={"open_tasks_per_user": 0}) as web:
        made = [(await _call(http, web, "POST", TASKS, json=ORDER))[1] for _ in range(7)]
        for path, field in ((TASKS, "task_id"), ("/v1/works", "_id")):
            seen: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                _, page, _ = await _call(http, web, "GET", path, params={"limit": "3", **cursor})
                seen += [item[field] for item in page["items"]]
                if page["next"] is None:
                    break
                cursor = {"cursor": page["next"]}
            assert sorted(seen) == sorted(
                each["task_id" if field == "task_id" else "work_id"] for each in made
            )
        await _call(http, web, "POST", made[0]["urls"]["cancel"])
        _, page, _ = await _call(http, web, "GET", TASKS, params={"status": "cancelled"})
        assert [item["task_id"] for item in page["items"]] == [made[0]["task_id"]]
        _, page, _ = await _call(http, web, "GET", TASKS, params={"type": "fitting"})
        assert page["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=-1",
        "limit=٣",
        "cursor=x",
        "cursor=",
        "cursor=~",
    ],
)
async def test_a_bad_limit_or_cursor_is_422(web: Web, http: aiohttp.ClientSession, query: str) -> None:
    for path in (TASKS, "/v1/works"):
        status, problem, _ = await _call(http, web, "GET", f"{path}?{query}")
        assert status == 422 and problem["errors"][0]["pointer"] == "/" + query.partition("=")[0]
    assert (await _call(http, web, "GET", TASKS + "?status=done"))[0] == 422


async def test_a_client_that_disconnects_does_not_undo_the_task(web: Web) -> None:
    """Handlers are cancelled when the client disconnects; a step that the writer already has is stored as a whole."""
    body = b'{"type":"photography","params":{"images":["https://example.org/a.jpg"]}}'
    head = f"POST {TASKS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: {bearer('o-1')['Authorization']}\r\n"
    await web.context.ensure_account("o-1")
    handed_in, write = asyncio.Event(), web.database.write

    def noted_write(step: Any) -> Any:
        handed_in.set()
        return write(step)

    web.database.write = noted_write  # type: ignore[method-assign]
    with contextlib.closing(sqlite3.connect(web.settings.database_url.removeprefix("sqlite:///"))) as other:
        other.execute("BEGIN IMMEDIATE")  # another process writes
        _, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await asyncio.wait_for(handed_in.wait(), 10)
        writer.transport.abort()
        await until(lambda: not web.connections(), "the server knows that the client left")
        other.rollback()
    await until(lambda: web.sql("SELECT count(*) FROM task_queue") == [(1,)], "the task is stored")


@pytest.mark.parametrize(
    "media_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.a+json"]
)
async def test_whatever_is_built_on_json_is_json(
    web: Web, http: aiohttp.ClientSession, media_type: str
) -> None:
    body, headers = json.dumps(ORDER).encode(), bearer("o-1") | {"Content-Type": media_type}
    async with http.post(web.url + TASKS, data=body, headers=headers) as response:
        assert response.status == 202
