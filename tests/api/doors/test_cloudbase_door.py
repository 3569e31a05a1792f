"""POST /tcb/admin, the interface for CloudBase's server SDKs: a thin translation to the other interfaces."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.clients.cloudbase_client import NAME, CloudBase, ejson, order
from tests.support.databases import POSTGRESQL, SQLITE
from tests.support.houses.web_server import SECRET, Web, bearer, running_web
from web.doors.cloudbase import door

BEFORE = "the secret of before, long enough for HS256 as well"


@pytest.fixture(params=[SQLITE, POSTGRESQL])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, request.param, secret_before=BEFORE) as running:
        yield running


@pytest.fixture
def db(web: Web, http: aiohttp.ClientSession) -> CloudBase:
    return CloudBase(http, web)


def _balance(web: Web, user: str = "o-1") -> int:
    return int(web.sql("SELECT balance FROM account WHERE user_openid = ?", user)[0][0])


async def test_an_added_document_is_an_order_and_is_read_back_in_the_customers_names(
    web: Web, db: CloudBase
) -> None:
    said = await db.add(**order(_id="task_1_abc"))
    assert said["data"] == {"insertedIds": ["task_1_abc"]} and said["requestId"]
    (task,) = await db.where(_id="task_1_abc")
    assert task["user_openid"] == "o-1" and task["status"] == "pending" and task["work_id"]
    assert task["params"]["count"] == {"$numberInt": "2"} and task["progress"] == {"$numberInt": "0"}
    assert set(task["created_at"]) == {"$date"}
    empty = ("processing_started_at", "completed_at", "failed_at", "cancelled_at", "error", "result")
    assert [task[name] for name in empty] == [None] * len(empty)
    (work,) = await db.where("works", user_openid="o-1")
    assert work["_id"] == task["work_id"] and work["task_id"] == "task_1_abc"
    assert _balance(web) == 98


async def test_the_same_id_or_the_same_signature_orders_once_and_does_not_fail(
    web: Web, db: CloudBase
) -> None:
    for _ in range(2):  # each with a signature and a created_at of its own
        assert (await db.add(**order(_id="task_1"))).get("data") == {"insertedIds": ["task_1"]}
    body = {"collectionName": "task_queue", "action": "database.insertDocument", "data": [ejson(order())]}
    headers, query = db.signed(body)
    said = await asyncio.gather(*(db.send(body, headers, query) for _ in range(4)))
    assert len({each["data"]["insertedIds"][0] for each in said}) == 1
    assert len(await db.where(user_openid="o-1")) == 2 and _balance(web) == 96


async def test_an_answer_with_too_much_in_it_says_to_ask_for_less(
    web: Web, db: CloudBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"images": ["https://example.org/a.jpg"], "parameters": {"text": "x" * 1000}}
    for _ in range(2):
        await db.add(**order(params=params))
    assert len(await db.where(user_openid="o-1")) == 2
    monkeypatch.setattr(door, "MOST_PARAMS", 2000)
    query = ejson({"user_openid": "o-1"})
    said = await db.call("getDocument", query=query, queryType="WHERE", limit=100)
    assert said["code"] == "INVALID_PARAM" and "limit()" in said["message"]
    said = await db.call("getDocument", query=query, queryType="WHERE", limit=1)
    assert len(said["data"]["list"]) == 1
    assert len(await db.where("works", user_openid="o-1")) == 2


async def test_the_same_id_with_other_contents_is_refused_for_every_user(web: Web, db: CloudBase) -> None:
    await db.add(**order(_id="task_1"))
    for other in (
        order(_id="task_1", params={"images": ["https://example.org/b.jpg"]}),
        order("o-2", _id="task_1"),
    ):
        said = await db.add(**other)
        assert said["code"] == "DATABASE_REQUEST_FAILED" and "new _id" in said["message"]
    web.sql("DELETE FROM idempotency_key")  # as a day later
    assert (await db.add(**order(_id="task_1"))).get("data") == {"insertedIds": ["task_1"]}
    assert len(await db.where(_id="task_1")) == 1 and _balance(web) == 98


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"retry_count": 0}, "retry_count"),
        ({"status": "processing"}, "status"),
        ({"user_openid": None}, "user_openid"),
        ({"user_openid": "a\nb"}, "user_openid"),
        ({"_id": "a b"}, "_id"),
        ({"_id": 7}, "_id"),
        ({"type": "painting"}, "painting"),
        ({"params": {"images": ["cloud://env.bucket/a.jpg"]}}, "getTempFileURL"),
        ({"params": {"images": ["https://example.org/a.jpg"], "count": 99}}, "count"),
        (
            {"params": {"images": ["https://example.org/a.jpg"], "parameters": {"at": datetime.now(UTC)}}},
            "Date",
        ),
        ({"created_at": {"a": 1}}, "created_at"),
    ],
)
async def test_a_document_that_is_no_order_is_refused_with_a_sentence(
    db: CloudBase, change: dict[str, Any], word: str
) -> None:
    said = await db.add(**order(**change))
    assert said["code"] == "INVALID_PARAM" and word in said["message"], said
    assert await db.where(user_openid="o-1") == []


async def test_credits_and_limits_refuse_with_codes_of_their_own(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path, limits={"open_tasks_per_user": 1}, credits={"signup_grant": 3}) as web:
        db = CloudBase(http, web)
        assert "data" in await db.add(**order())
        limited = await db.add(**order())
        assert limited["code"] == "EXCEED_REQUEST_LIMIT" and "1 open task " in limited["message"]
        await db.update({"user_openid": "o-1"}, status="cancelled")
        assert "data" in await db.add(**order())
        poor = await db.add(**order("o-2", params={"images": ["https://example.org/a.jpg"], "count": 4}))
        assert poor["code"] == "INSUFFICIENT_CREDITS" and "4 credits" in poor["message"]


async def test_an_update_cancels_or_puts_back_and_a_repeated_signature_does_it_once(
    web: Web, db: CloudBase
) -> None:
    await db.add(**order(_id="task_1"))
    body = {
        "collectionName": "task_queue",
        "action": "database.modifyDocument",
        "query": ejson({"_id": "task_1"}),
        "data": ejson({"$set": {"status": "cancelled", "updated_at": datetime.now(UTC)}}),
        "merge": True,
        "multi": False,
        "upsert": False,
    }
    call = body, *db.signed(body)
    assert [(await db.send(*call))["data"]["updated"] for _ in range(2)] == [1, 1]
    assert (await db.update({"_id": "task_1"}, status="cancelled"))["data"] == {"updated": 0}
    (task,) = await db.where(_id="task_1")
    assert task["status"] == "cancelled" and task["cancelled_at"] and _balance(web) == 100

    again = {**body, "data": ejson({"$set": {"status": "pending"}})}
    retry = again, *db.signed(again)
    assert (await db.send(*retry))["data"] == {"updated": 1}
    await db.update({"_id": "task_1"}, status="cancelled")
    assert (await db.send(*retry))["data"] == {"updated": 1}, (
        "a repeat is the same call, and pays no second time"
    )
    assert (await db.where(_id="task_1"))[0]["status"] == "cancelled" and _balance(web) == 100


async def test_an_update_of_several_does_all_or_nothing(web: Web, db: CloudBase) -> None:
    for n in range(3):
        await db.add(**order(_id=f"task_{n}"))
    said = await db.update({"user_openid": "o-1", "_id": {"$in": ["task_0", "task_1"]}}, status="cancelled")
    assert said["data"] == {"updated": 2}
    said = await db.update({"user_openid": "o-1", "status": {"$in": ["pending"]}}, status="pending")
    assert said["data"] == {"updated": 0}
    web.sql("DELETE FROM works WHERE task_id = 'task_1'")
    said = await db.update({"user_openid": "o-1"}, status="pending")
    assert said["code"] == "DATABASE_REQUEST_FAILED" and "task_1" in said["message"]
    states = {task["_id"]: task["status"] for task in await db.where(user_openid="o-1")}
    assert states == {"task_0": "cancelled", "task_1": "cancelled", "task_2": "pending"}
    assert (await db.update({"_id": "nobody"}, status="cancelled"))["data"] == {"updated": 0}


async def test_works_are_counted_and_removed_and_their_tasks_cancelled(web: Web, db: CloudBase) -> None:
    for n in range(3):
        await db.add(**order(_id=f"task_{n}"))
    await db.add(**order("o-2"))
    counted = await db.call("calculateDocument", "works", query=ejson({"user_openid": "o-1"}))
    assert counted["data"] == {"total": 3}
    body = {
        "collectionName": "works",
        "action": "database.removeDocument",
        "query": ejson({"user_openid": "o-1"}),
        "multi": True,
    }
    call = body, *db.signed(body)
    assert (await db.send(*call))["data"] == {"deleted": 3}
    await db.add(**order(_id="task_later"))
    assert (await db.send(*call))["data"] == {"deleted": 3}, "a repeat is the same call"
    assert [work["task_id"] for work in await db.where("works", user_openid="o-1")] == ["task_later"]
    assert len(await db.where("works", user_openid="o-2")) == 1 and _balance(web) == 98


async def test_a_search_must_name_a_user_and_is_bounded(db: CloudBase) -> None:
    for query in ({}, {"status": "pending"}, {"$or": [{"user_openid": "o-1"}, {"status": "failed"}]}):
        for action in ("getDocument", "calculateDocument"):
            said = await db.call(action, query=ejson(query))
            assert said["code"] == "INVALID_PARAM" and "user_openid" in said["message"]
        assert "user_openid" in (await db.update(query, status="cancelled"))["message"]
        assert "user_openid" in (await db.remove("works", **query))["message"]
    said = await db.call("getDocument", query=ejson({"user_openid": "o-1"}), limit=5000)
    assert said["code"] == "INVALID_PARAM"


@pytest.mark.parametrize(
    ("action", "members", "word"),
    [
        ("aggregateDocuments", {"stages": []}, "count()"),
        ("startTransaction", {}, "each add"),
        ("addCollection", {}, "task_queue and works"),
        ("modifyAndReturnDoc", {}, "then get()"),
        ("somethingNew", {}, "add, get, count"),
        ("removeDocument", {"query": ejson({"_id": "task_1"})}, "cancelled"),
        ("insertDocument", {"data": ["{}", "{}"]}, "one document"),
        ("insertDocument", {"data": ["{"]}, "document"),
        ("insertDocument", {"data": "{}"}, "one document"),
        (
            "modifyDocument",
            {"query": ejson({"_id": "a"}), "data": "{}", "merge": False, "upsert": True},
            "set()",
        ),
        (
            "modifyDocument",
            {"query": ejson({"_id": "a"}), "data": ejson({"$inc": {"n": 1}}), "merge": True},
            "update(",
        ),
        ("getDocument", {"query": ejson({"params.count": 1})}, "params.count"),
    ],
)
async def test_other_calls_are_refused_with_the_replacement(
    db: CloudBase, action: str, members: dict[str, Any], word: str
) -> None:
    said = await db.call(action, **members)
    assert said["code"] and word in said["message"], said


async def test_other_collections_files_and_functions_are_named_as_the_clouds_own(db: CloudBase) -> None:
    said = await db.call("getDocument", "users", query=ejson({"_id": "1"}))
    assert said["code"] == "DATABASE_COLLECTION_NOT_EXIST" and "task_queue" in said["message"]
    for action, word in (
        ("storage.batchGetDownloadUrl", "getTempFileURL"),
        ("functions.invokeFunction", "Functions"),
    ):
        body = {"action": action}
        assert word in (await db.send(body, *db.signed(body)))["message"]


async def test_only_a_right_and_recent_signature_is_accepted(
    web: Web, db: CloudBase, http: aiohttp.ClientSession
) -> None:
    body = {
        "collectionName": "task_queue",
        "action": "database.getDocument",
        "query": ejson({"user_openid": "o-1"}),
    }
    headers, query = db.signed(body)
    altered = [
        (body | {"query": ejson({"user_openid": "o-2"})}, headers, query),
        (body | {"extra": "unsigned"}, headers, query),
        (body, headers, query + "0"),
        (body, headers | {"x-client-timestamp": "1"}, query),
        (body, headers | {"X-Timestamp": str(int(time.time()) - 1)}, query),
        (body, headers | {"Authorization": headers["Authorization"].replace("darkroom-", "")}, query),
        (body, {"content-type": "application/json"}, query),
        (body, {"content-type": "application/json", "Authorization": "Bearer nonsense"}, query),
        (body, bearer("o-1") | {"content-type": "application/json"}, query),
        (body, *db.signed(body, at=time.time() - 301)),
        (body, *db.signed(body, at=time.time() + 302)),
        (body, *CloudBase(http, web, secret="x" * 40).signed(body)),
    ]
    for each in altered:
        said = await db.send(*each)
        assert said["code"] == "DATABASE_PERMISSION_DENIED" and "data" not in said, each
    assert (await db.send(body, headers, query))["data"] == {"list": []}
    assert (await db.send(body, *db.signed(body, at=time.time() - 290)))["data"] == {"list": []}
    service = bearer("functions", "service") | {"content-type": "application/json"}
    assert (await db.send(body, service, query))["data"] == {"list": []}


async def test_a_key_of_the_previous_secret_is_accepted_and_a_revoked_one_is_not(
    web: Web, http: aiohttp.ClientSession
) -> None:
    for secret in (SECRET, BEFORE):
        assert (await CloudBase(http, web, secret=secret).where(user_openid="o-1")) == []
    web.sql(
        "INSERT INTO token_revocation (kind, name, not_before) VALUES ('jti', ?, ?)",
        f"darkroom-{NAME}",
        time.time(),
    )
    db = CloudBase(http, web)
    for said in (
        await db.add(**order()),
        await db.call("getDocument", query=ejson({"user_openid": "o-1"})),
        await db.update({"user_openid": "o-1"}, status="cancelled"),
        await db.remove("works", user_openid="o-1"),
    ):
        assert said["code"] == "DATABASE_PERMISSION_DENIED", said
    assert web.sql("SELECT count(*) FROM task_queue")[0][0] == 0


async def test_order_skip_limit_and_field_are_obeyed(db: CloudBase) -> None:
    for n in range(5):
        await db.add(**order(_id=f"task_{n}", priority=n))
    said = await db.call(
        "getDocument",
        query=ejson({"user_openid": "o-1", "priority": {"$gt": 0}}),
        order=ejson({"priority": -1}),
        offset=1,
        limit=2,
        projection=ejson({"priority": 1}),
    )
    assert [json.loads(each) for each in said["data"]["list"]] == [
        {"_id": "task_3", "priority": {"$numberInt": "3"}},
        {"_id": "task_2", "priority": {"$numberInt": "2"}},
    ]


async def test_a_large_body_and_one_that_is_no_json_are_refused_as_the_sdk_understands(
    web: Web, db: CloudBase, http: aiohttp.ClientSession
) -> None:
    body = {"collectionName": "task_queue", "action": "database.insertDocument", "data": ["x" * 1_100_000]}
    assert (await db.send(body, *db.signed(body)))["code"] == "INVALID_PARAM"
    headers, query = db.signed({"action": "x"})
    async with http.post(f"{web.url}/tcb/admin?{query}", data=b"{", headers=headers) as response:
        assert response.status == 200 and (await response.json())["code"] == "INVALID_PARAM"
    deep = order(params={"images": ["https://example.org/a.jpg"], "parameters": {"n": [[0] * 3000] * 3}})
    said = await db.add(**deep)
    assert said["code"] == "INVALID_PARAM" and "values" in said["message"]
