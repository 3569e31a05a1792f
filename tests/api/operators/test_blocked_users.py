"""A blocked user gets 403 `user_blocked` at every door, and may still read the feed."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from supervisor.security.cloudbase_keys import secret_id
from supervisor.store.tasks import admission
from tests.support.clients.cloudbase_client import NAME, CloudBase
from tests.support.houses.web_server import Web, bearer, feed_of, picture_bytes
from web.app.app import ADDRESSES

ORDER = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}
ADMIN = ("bob", "admin")
# What answers without reading anything about its user, or has another proof than a token.
WITHOUT_A_USER = {
    "/v1/types",
    "/v1/auth/wechat",
    "/v1/callbacks/{token}",
    "/openai/v1/models",
    "/openai/v1/models/{model}",
    "/replicate/v1/models/{owner}/{model_name}",
    "/replicate/v1/models/{owner}/{model_name}/versions/{version}",
    "/replicate/v1/predictions/{task_id}/stream",
    "/fal/storage/upload/{upload_id}",
    "/fal/storage/files/{upload_id}",
}
OF_THE_FEED = {"/v1/works/feed", "/v1/works/changes", "/v1/feed-tickets"}


async def _block(http: aiohttp.ClientSession, web: Web, user: str, reason: str = "stolen card") -> Any:
    path = f"{web.url}/v1/ops/users/{user}/block"
    async with http.post(path, json={"reason": reason}, headers=bearer(*ADMIN)) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _status(
    http: aiohttp.ClientSession, web: Web, method: str, path: str, **more: Any
) -> tuple[int, str]:
    headers = bearer("o-7") | more.pop("headers", {})
    async with http.request(method, web.url + path, headers=headers, **more) as answer:
        return answer.status, await answer.text()


async def test_every_door_is_closed_and_the_feed_stays_readable(
    web: Web, http: aiohttp.ClientSession
) -> None:
    status, _ = await _status(http, web, "POST", "/v1/tasks", json=ORDER)
    assert status == 202
    async with feed_of(http, web, "o-7") as feed:
        assert (await feed.next()).event == "init"  # type: ignore[union-attr]
        stands = await _block(http, web, "o-7")
        assert (stands["user"], stands["reason"]) == ("o-7", "stolen card")
        form = aiohttp.FormData()
        form.add_field("content", picture_bytes(), filename="a.jpg", content_type="image/jpeg")
        image = {"Content-Type": "image/jpeg"}
        fal = {"images": ["https://example.org/a.jpg"]}
        edit = aiohttp.FormData({"model": "darkroom/photography", "prompt": "x"})
        edit.add_field("image", picture_bytes(), filename="a.jpg", content_type="image/jpeg")
        asked: list[tuple[str, str, dict[str, Any]]] = [
            ("POST", "/v1/tasks", {"json": ORDER}),
            ("POST", "/v1/tasks?estimate=true", {"json": ORDER}),
            ("GET", "/v1/tasks", {}),
            ("GET", "/v1/works", {}),
            ("GET", "/v1/credits", {}),
            ("POST", "/v1/images", {"data": picture_bytes(), "headers": image}),
            ("POST", "/v1/files", {"data": picture_bytes(), "headers": image}),
            ("POST", "/openai/v1/images/edits", {"data": edit}),
            (
                "POST",
                "/replicate/v1/predictions",
                {"json": {"version": "darkroom/photography", "input": fal}},
            ),
            ("GET", "/replicate/v1/predictions", {}),
            ("POST", "/replicate/v1/files", {"data": form}),
            ("POST", "/fal/queue/darkroom/photography", {"json": fal}),
            ("POST", "/fal/storage/auth/token", {}),
            ("POST", "/fal/storage/upload/initiate", {"json": {}}),
        ]
        for method, path, more in asked:
            status, told = await _status(http, web, method, path, **more)
            assert status == 403, (path, status, told)
            assert "blocked" in told, path
        web.insert_task("o-7")
        await web.database.write_async(lambda tx: admission.admit_waiting(tx, web.settings, 10).get().rows)
        change = await feed.next()
        assert change is not None and change.event == "change"
        doc = change.data["docChanges"][0]["doc"]
        assert (doc["status"], doc["error"]["code"]) == ("failed", "user_blocked")
    for path in ("/v1/works/changes", "/v1/works/feed"):
        async with http.get(web.url + path, headers=bearer("o-7")) as answer:
            assert answer.status == 200, path
    assert (await _status(http, web, "POST", "/v1/feed-tickets"))[0] == 201
    assert web.sql("SELECT count(*) FROM image") == [(0,)]
    assert web.sql("SELECT count(*) FROM credit_entry WHERE kind = 'debit'") == [(1,)]


async def test_who_is_blocked_hears_that_before_what_is_wrong_with_the_order(
    web: Web, http: aiohttp.ClientSession
) -> None:
    await _block(http, web, "o-7")
    wrong = {"type": "photography", "params": {"images": []}}
    json_type = {"Content-Type": "application/json"}
    image = {"Content-Type": "image/jpeg"}
    form = aiohttp.FormData({"model": "darkroom/photography", "prompt": "x"})
    form.add_field("image", b"no picture", filename="a.jpg", content_type="image/jpeg")
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/tasks", {"json": wrong}),
        ("POST", "/v1/tasks", {"json": {"type": "no_such_type", "params": {}}}),
        ("POST", "/v1/tasks", {"data": b"{", "headers": json_type}),
        ("POST", "/v1/tasks", {"data": b"{}", "headers": {"Content-Type": "text/plain"}}),
        ("POST", "/v1/tasks", {"json": {**wrong, "params": {"images": ["x" * 10_000]}}}),
        ("POST", "/v1/tasks?estimate=true", {"json": wrong}),
        ("POST", "/v1/tasks?estimate=perhaps", {"json": ORDER}),
        ("GET", "/v1/tasks?status=no_such", {}),
        ("GET", "/v1/works?limit=0", {}),
        ("POST", "/v1/tasks/x~y/retry", {}),
        ("POST", "/v1/images", {"data": b"no picture", "headers": image}),
        ("POST", "/v1/files", {"data": b"", "headers": {"Content-Type": "text/plain"}}),
        ("POST", "/openai/v1/images/generations", {"json": {"model": "no_such"}}),
        ("POST", "/openai/v1/images/edits", {"data": form}),
        ("POST", "/replicate/v1/predictions", {"json": {"version": "no_such", "input": {}}}),
        ("POST", "/replicate/v1/predictions", {"json": {"version": "darkroom/photography", "input": {}}}),
        ("POST", "/replicate/v1/files", {"data": b"", "headers": image}),
        ("POST", "/fal/queue/darkroom/photography", {"json": {}}),
        ("POST", "/fal/run/no/such", {"json": {}}),
        ("POST", "/fal/proxy", {"headers": {"x-fal-target-url": "https://queue.fal.run/darkroom/no"}, "json": {}}),
        ("POST", "/fal/storage/upload/initiate", {"data": b"{", "headers": json_type}),
    ]  # fmt: skip
    for method, path, more in asked:
        status, told = await _status(http, web, method, path, **more)
        assert status == 403 and "blocked" in told, (path, status, told)
    headers = bearer("shop", "service") | {"X-User": "o-7"}
    async with http.post(web.url + "/v1/tasks", json=wrong, headers=headers) as answer:
        assert answer.status == 403 and "blocked" in await answer.text()
    status, told = await _status(http, web, "POST", "/v1/tasks", json=wrong, headers=bearer("o-8"))
    assert status == 422, told  # anybody else hears what is wrong


async def test_a_blocked_cloudbase_key_hears_that_before_what_is_wrong_with_its_call(
    web: Web, http: aiohttp.ClientSession
) -> None:
    db = CloudBase(http, web)
    assert (await db.call("insertDocument", data=["{}"]))["code"] == "INVALID_PARAM"
    await _block(http, web, secret_id(NAME))
    told = await db.call("insertDocument", data=["{}"])
    assert told["code"] == "DATABASE_PERMISSION_DENIED" and "blocked" in told["message"]


async def test_who_holds_a_revoked_token_hears_that_before_what_is_wrong_with_the_order(
    web: Web, http: aiohttp.ClientSession
) -> None:
    path = f"{web.url}/v1/ops/users/o-7/revoke"
    old = bearer("o-7")
    async with http.post(path, headers=bearer(*ADMIN)) as answer:
        assert answer.status == 200, await answer.text()
    async with http.post(web.url + "/v1/tasks", json={"type": "no_such"}, headers=old) as answer:
        assert answer.status == 401, await answer.text()


async def test_every_address_with_a_token_refuses_a_blocked_user(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """Whatever is asked for, and however wrongly: no answer but the refusal."""
    await _block(http, web, "o-7")
    asked, refused = 0, 0
    names = (
        "task_id",
        "work_id",
        "webhook_id",
        "worker_id",
        "name",
        "user",
        "upload_id",
        "bulk_id",
        "owner",
        "model_name",
    )
    for address in ADDRESSES:
        is_of_users = address.path.startswith(("/v1/", "/openai/", "/replicate/", "/fal/"))
        is_another = address.path in WITHOUT_A_USER | OF_THE_FEED or address.path.startswith("/v1/ops/")
        if not is_of_users or is_another:
            continue
        path = address.path
        for name in names:
            path = path.replace(f"{{{name}}}", "x-1")
        path = path.replace("{app_path}", "darkroom/photography").replace("{key}", "x")
        status, told = await _status(http, web, address.method, path)
        assert 400 <= status < 500, (address, status)
        asked += 1
        refused += "blocked" in told
    assert refused == asked


async def test_a_service_can_neither_act_for_a_blocked_user_nor_get_them_a_token(
    web: Web, http: aiohttp.ClientSession
) -> None:
    await _block(http, web, "o-7")
    service = bearer("shop", "service")
    for path, json, headers in (
        ("/v1/tasks", ORDER, {"X-User": "o-7"}),
        ("/v1/tokens", {"user": "o-7"}, {}),
    ):
        async with http.post(web.url + path, json=json, headers=service | headers) as answer:
            assert (answer.status, (await answer.json())["type"]) == (
                403,
                "urn:darkroom:problem:user_blocked",
            )
    async with http.post(web.url + "/v1/tokens", json={"user": "o-8"}, headers=service) as answer:
        assert answer.status == 201


async def test_a_blocked_service_acts_for_nobody(web: Web, http: aiohttp.ClientSession) -> None:
    await _block(http, web, "shop")
    headers = bearer("shop", "service") | {"X-User": "o-7"}
    key = {"X-User": "o-7", "Idempotency-Key": "k-1"}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/tasks", {"json": ORDER}),
        ("POST", "/v1/tasks", {"json": ORDER, "headers": bearer("shop", "service") | key}),
        ("POST", "/fal/queue/darkroom/photography", {"json": ORDER["params"]}),
        ("GET", "/v1/works", {}),
        ("POST", "/v1/images", {"data": picture_bytes()}),
        ("POST", "/v1/tokens", {"json": {"user": "o-8"}}),
        ("POST", "/v1/credits/o-8/grants", {"json": {"amount": 5, "reference": "r-1"}}),
    ]
    for method, path, more in asked:
        async with http.request(method, web.url + path, **{"headers": headers, **more}) as answer:
            told = await answer.text()
            assert answer.status == 403 and "The user shop is blocked" in told, (path, answer.status, told)
    assert web.sql("SELECT count(*) FROM task_queue") == [(0,)]
    # another service's order of the same moment is taken
    other = bearer("another", "service") | {"X-User": "o-7"}
    async with http.post(web.url + "/v1/tasks", json=ORDER, headers=other) as answer:
        assert answer.status == 202


async def test_an_order_that_is_sent_again_with_its_key_is_refused_too(
    web: Web, http: aiohttp.ClientSession
) -> None:
    key = {"Idempotency-Key": "k-1"}
    assert (await _status(http, web, "POST", "/v1/tasks", json=ORDER, headers=key))[0] == 202
    await _block(http, web, "o-7")
    assert (await _status(http, web, "POST", "/v1/tasks", json=ORDER, headers=key))[0] == 403


async def test_a_block_ends_and_both_are_on_record(web: Web, http: aiohttp.ClientSession) -> None:
    first = await _block(http, web, "o-7")
    assert await _block(http, web, "o-7", "worse") == first | {"reason": "worse"}
    async with http.get(web.url + "/v1/ops/blocked", headers=bearer("eve", "viewer")) as answer:
        (item,) = (await answer.json())["items"]
    assert (item["user_openid"], item["reason"], item["since"]) == ("o-7", "worse", first["since"])
    path = f"{web.url}/v1/ops/users/o-7/block"
    for status in (204, 404):
        async with http.delete(path, headers=bearer(*ADMIN)) as answer:
            assert answer.status == status
    assert (await _status(http, web, "POST", "/v1/tasks", json=ORDER))[0] == 202
    assert web.sql("SELECT operator, role, action, target FROM audit ORDER BY id") == [
        ("bob", "admin", "block", "o-7"),
        ("bob", "admin", "block", "o-7"),
        ("bob", "admin", "unblock", "o-7"),
    ]


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": " "}, {"reason": "a\nb"}, {"reason": 7}, []])
async def test_a_block_needs_a_reason(web: Web, http: aiohttp.ClientSession, body: Any) -> None:
    path = f"{web.url}/v1/ops/users/o-7/block"
    async with http.post(path, json=body, headers=bearer(*ADMIN)) as answer:
        assert answer.status == 422
    assert web.sql("SELECT count(*) FROM audit") == [(0,)]


async def test_admins_can_not_lock_themselves_out(web: Web, http: aiohttp.ClientSession) -> None:
    path = f"{web.url}/v1/ops/users/bob/block"
    async with http.post(path, json={"reason": "oops"}, headers=bearer(*ADMIN)) as answer:
        assert answer.status == 422


async def test_orders_and_a_block_at_the_same_time_leave_no_order_after_it(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async def order() -> int:
        return (await _status(http, web, "POST", "/v1/tasks", json=ORDER))[0]

    answers = await asyncio.gather(*(order() for _ in range(6)), _block(http, web, "o-7"), order(), order())
    accepted = [each for each in answers if each == 202]
    assert {each for each in answers if isinstance(each, int)} <= {202, 403}
    assert web.sql("SELECT count(*) FROM task_queue") == [(len(accepted),)]
    assert await order() == 403
