"""fal's own SDK for Python orders here, with nothing changed but its addresses and its key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import fal_client
import fal_client.client
import httpx_sse
import pytest
from fal_client import Completed, FalClientHTTPError, InProgress, Queued

from supervisor.pictures.media_types import type_of_file
from supervisor.store.webhooks import deliveries
from supervisor.webhooks.door_message import door_message_body
from tests.support.houses.door_shop import REFUSED, DoorShop, door_shop
from tests.support.houses.web_server import bearer, picture_bytes, until
from tests.support.servers.cutting_proxy import ANSWER, POINTS, STORED, cutting_proxy
from web.doors import held_answers

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")
POSTER = {
    "inputs": {"images": [0, 4]},
    "parameters": {
        "properties": {"quality": {"enum": ["sd", "hd"]}, "seed": {"type": "integer"}},
        "additionalProperties": False,
    },
    "doors": {"fal": "ours/poster/fast"},
}
APP = "darkroom/poster"
SHOP: dict[str, Any] = {
    "tasks": {"poster": POSTER},
    "limits": {"open_tasks_per_user": 4},
    "allowed_origins": ["https://app.example.org"],
}


def _leads_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAL_QUEUE_RUN_HOST and FAL_RUN_HOST do, which the SDK reads at import and with https alone."""
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{url}/fal/queue/")
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{url}/fal/run/")
    monkeypatch.setattr(fal_client.client, "REST_URL", f"{url}/fal")
    monkeypatch.setattr(fal_client.client, "CDN_URL", f"{url}/fal/storage")


@pytest.fixture
def client(shop: DoorShop, user: str, monkeypatch: pytest.MonkeyPatch) -> fal_client.AsyncClient:
    _leads_to(shop.url, monkeypatch)
    return fal_client.AsyncClient(key=shop.key(user))


async def by(call: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """A call of the sync SDK, in a thread of its own: the server is in this one."""
    return await asyncio.to_thread(call, *arguments, **more)


async def test_subscribe_gives_the_output(shop: DoorShop, client: fal_client.AsyncClient, user: str) -> None:
    asked = {"prompt": "a fair", "num_images": 2, "quality": "hd", "seed": 7}
    output = await client.subscribe(APP, asked)
    assert output["seed"] == 7 and len(output["images"]) == 2
    image = output["images"][0]
    assert (image["width"], image["height"], image["content_type"]) == (8, 6, "image/jpeg")
    assert image["url"].startswith(f"{shop.url}/files/")
    async with aiohttp.ClientSession() as http, http.get(image["url"]) as answer:
        assert await answer.read() == shop.picture
    (task,) = shop.tasks(user)
    assert shop.params(task) == {
        "prompt": "a fair", "count": 2, "parameters": {"quality": "hd", "seed": 7}
    }  # fmt: skip
    assert shop.debits(user) == 1


@pytest.mark.parametrize("app", ["ours/poster/fast", APP])
async def test_run_is_held_until_the_output_is_there(client: fal_client.AsyncClient, app: str) -> None:
    assert len((await client.run(app, {"prompt": "a fair"}))["images"]) == 1


async def test_the_sync_client_works_too(shop: DoorShop, user: str, client: fal_client.AsyncClient) -> None:
    sync = fal_client.SyncClient(key=shop.key(user))
    assert len((await by(sync.subscribe, APP, {"prompt": "a fair"}))["images"]) == 1
    assert len((await by(sync.run, APP, {"prompt": "a fair"}))["images"]) == 1


async def test_a_request_is_followed_through_every_status(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    handle = await client.submit("ours/poster/fast", {"prompt": "wait"})
    assert handle.request_id == shop.tasks(user)[0]
    assert handle.status_url == f"{shop.url}/fal/queue/ours/poster/requests/{handle.request_id}/status"
    (claim,) = await shop.held_of(user)
    await shop.progress(claim, 45)
    status = await handle.status(with_logs=True)
    assert isinstance(status, InProgress) and status.logs is not None
    assert "45%" in status.logs[0]["message"]
    async with (
        aiohttp.ClientSession() as http,
        http.get(handle.response_url, headers={"Authorization": f"Key {shop.key(user)}"}) as answer,
    ):
        assert answer.status == 400 and "in progress" in (await answer.json())["detail"]
    asked = asyncio.create_task(handle.status(with_logs=True))
    await until(lambda: shop.web.context.hub.waiter_count == 1, "it is held")
    await shop.complete(claim)
    assert isinstance(await asked, Completed)
    assert len((await handle.get())["images"]) == 1
    found = await client.get_handle("ours/poster/fast", handle.request_id)
    assert len((await found.get())["images"]) == 1


async def test_an_sdk_that_asks_in_a_loop_is_held_longer_and_told_at_once_what_changed_between_its_questions(
    shop: DoorShop, client: fal_client.AsyncClient, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.doors.held_requests.POLL_SECONDS", 0.05)
    monkeypatch.setattr("web.handling.repeated_polls.AGAIN_SECONDS", 1000)
    handle = await client.submit(APP, {"prompt": "wait"})
    (claim,) = await shop.held_of(user)
    assert isinstance(await handle.status(with_logs=True), InProgress), (
        "the first question is held for a moment"
    )
    asked = asyncio.create_task(handle.status(with_logs=True))
    await until(lambda: shop.web.context.hub.waiter_count == 1, "the second is held")
    await shop.progress(claim, 30)
    assert isinstance(await asked, InProgress)
    await shop.progress(claim, 60)  # nobody asks just now
    monkeypatch.setattr("web.doors.held_requests.LOOP_SECONDS", 1000)
    told = await handle.status(with_logs=True)
    assert isinstance(told, InProgress) and "60" in str(told.logs)
    await shop.complete(claim)
    assert isinstance(await handle.status(), Completed)


async def test_a_place_in_the_queue_is_told(tmp_path_factory: Any, user: str, monkeypatch: Any) -> None:
    async with door_shop(
        tmp_path_factory.mktemp("full"), tasks={"poster": POSTER | {"max_running": 1}}
    ) as shop:
        _leads_to(shop.url, monkeypatch)
        client = fal_client.AsyncClient(key=shop.key(user))
        await client.submit(APP, {"prompt": "wait"})
        await shop.held_of(user)
        second = [await client.submit(APP, {"prompt": "wait"}) for _ in range(2)]
        for name in ("POLL_SECONDS", "LOOP_SECONDS"):
            monkeypatch.setattr(f"web.doors.held_requests.{name}", 0.05)
        async with asyncio.timeout(30):  # places are read anew once a second
            while [getattr(await each.status(), "position", None) for each in second] != [0, 1]:
                pass
        assert isinstance(await second[0].status(), Queued)


async def test_a_failure_raises_its_sentence(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    for call in (client.subscribe, client.run):
        with pytest.raises(FalClientHTTPError, match=REFUSED) as raised:
            await call(APP, {"prompt": "refuse"})
        assert (raised.value.status_code, raised.value.error_type) == (422, "content_rejected")
    assert len(shop.tasks(user)) == 2


async def test_a_request_is_cancelled(shop: DoorShop, client: fal_client.AsyncClient, user: str) -> None:
    handle = await client.submit(APP, {"prompt": "wait"})
    await handle.cancel()
    assert isinstance(await handle.status(), Completed)
    with pytest.raises(FalClientHTTPError, match="cancelled"):
        await handle.get()
    with pytest.raises(FalClientHTTPError, match="has ended") as raised:
        await handle.cancel()
    assert raised.value.status_code == 400


async def test_a_time_out_of_the_callers_cancels(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    with pytest.raises(fal_client.FalClientTimeoutError):
        await client.subscribe(APP, {"prompt": "wait"}, client_timeout=1.1)
    await until(
        lambda: shop.web.sql("SELECT status FROM task_queue WHERE user_openid = ?", user) == [("cancelled",)],
        "it is cancelled",
    )


async def test_a_stream_gives_the_output_or_an_error(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    heard = [each async for each in client.stream(APP, {"prompt": "a fair"})]
    assert len(heard) == 1 and len(heard[0]["images"]) == 1
    heard = [each async for each in client.stream(APP, {"prompt": "refuse"})]
    assert [each["detail"] for each in heard] == [REFUSED], "this SDK does not look at an event's name"
    with pytest.raises(httpx_sse.SSEError):
        [each async for each in client.stream("ours/none", {})]


async def test_files_go_in_by_the_sdk(shop: DoorShop, client: fal_client.AsyncClient, user: str) -> None:
    photo = picture_bytes(size=(300, 200))
    link = await client.upload(photo, "image/jpeg", "a.jpg")
    old = await client.upload(photo, "image/jpeg", "a.jpg", repository="fal")
    uri = fal_client.encode(photo, "image/jpeg")
    await client.subscribe(APP, {"prompt": "a fair", "image_urls": [link, old, uri]})
    uploads = shop.params(shop.tasks(user)[0])["images"]
    found = [shop.web.sql("SELECT user_openid, width FROM image WHERE id = ?", each) for each in uploads]
    assert found == [[(user, 300)]] * 3
    async with aiohttp.ClientSession() as http, http.get(old) as answer:
        assert answer.status == 200 and answer.content_type == "image/jpeg"


async def test_an_address_to_upload_to_is_one_users_and_takes_one_file(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    headers = {"Authorization": f"Key {shop.key(user)}"}
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{shop.url}/fal/storage/upload/initiate", json={}, headers=headers) as answer:
            told = await answer.json()
        for url, status in (
            (told["upload_url"].replace("user=", "user=x"), 403),
            (told["upload_url"], 200),
            (told["upload_url"], 200),
            (told["file_url"].replace("sig=", "sig=x"), 403),
        ):
            async with http.request(
                "PUT" if "/upload/" in url else "GET", url, data=picture_bytes()
            ) as answer:
                assert answer.status == status
    assert shop.web.sql("SELECT count(*) FROM image WHERE user_openid = ?", user) == [(1,)]


async def test_bad_input_is_told_in_our_sentence_and_nothing_is_stored(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    for asked, said in (
        ({"num_images": 99}, "less than or equal to 8"),
        ({"quality": "ultra"}, "quality"),
        ({"colour": "red"}, "colour"),
        ({"image_url": f"{shop.url}/files/uploads/1/x.jpg?exp=1&sig=x"}, "altered or has expired"),
    ):
        for call in (client.submit, client.run):
            with pytest.raises(FalClientHTTPError, match=said) as raised:
                await call(APP, asked)
            assert raised.value.status_code == 422
    with pytest.raises(FalClientHTTPError, match="There is no model") as raised:
        await client.submit("ours/none", {})
    assert raised.value.status_code == 404
    assert shop.tasks(user) == []


async def test_credits_keys_and_limits_raise(
    shop: DoorShop, client: fal_client.AsyncClient, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FalClientHTTPError, match="costs 8 credits and the balance is 4") as raised:
        for _ in range(3):
            await client.run(APP, {"prompt": "a fair", "num_images": 8 if shop.tasks(user) else 6})
    assert (raised.value.status_code, raised.value.error_type) == (402, "insufficient_credits")
    monkeypatch.setattr(fal_client.client, "MAX_ATTEMPTS", 2)  # it would ask ten times
    for n in range(4):
        await client.submit(APP, {"prompt": f"wait {n}"})
    with pytest.raises(FalClientHTTPError, match="4 open tasks") as raised:
        await client.submit(APP, {"prompt": "a fair"})
    assert raised.value.status_code == 429
    for task in shop.tasks(user)[1:]:
        await shop.cancel(task)
    monkeypatch.setattr("web.doors.held_requests.MOST_HELD", 0)
    with pytest.raises(FalClientHTTPError, match="wait for their pictures") as raised:
        await client.run(APP, {"prompt": "a fair"})
    assert raised.value.status_code == 503
    with pytest.raises(FalClientHTTPError) as raised:
        await fal_client.AsyncClient(key="wrong").submit(APP, {})
    assert raised.value.status_code == 401
    other = fal_client.AsyncClient(key=shop.key("o-other"))
    with pytest.raises(FalClientHTTPError) as raised:
        await other.result(APP, shop.tasks(user)[0])
    assert raised.value.status_code == 404


async def test_a_webhook_is_told_as_fal_does(
    shop: DoorShop, client: fal_client.AsyncClient, user: str
) -> None:
    for prompt in ("a fair", "refuse"):
        await client.submit(APP, {"prompt": prompt}, webhook_url="https://example.org/hook")
    done = "SELECT count(*) FROM webhook_delivery WHERE user_openid = ?"
    await until(lambda: shop.web.sql(done, user) == [(2,)], "both have ended")

    def claim(tx: Any) -> list[deliveries.Message]:
        return deliveries.claim(tx, deliveries.due(tx).get())

    messages = {each.type: each for each in await by(shop.web.database.write_now, claim)}
    said = {}
    for type_, message in messages.items():
        assert message.door is not None
        body = door_message_body(
            message.door, message.data, message.params, shop.web.context.links.link, type_of_file
        )
        said[type_] = json.loads(body)
    assert said["task.completed"]["status"] == "OK"
    assert said["task.completed"]["payload"]["images"][0]["url"].startswith(f"{shop.url}/files/")
    assert said["task.failed"]["status"] == "ERROR" and said["task.failed"]["error"] == REFUSED


# --- the proxy ---


async def test_the_proxy_reads_fals_addresses_as_its_own_and_fetches_nothing(
    shop: DoorShop, user: str
) -> None:
    headers = bearer(user)

    async def asked(method: str, target: str, **more: Any) -> tuple[int, Any]:
        given = {**headers, "x-fal-target-url": target}
        async with http.request(method, f"{shop.url}/fal/proxy", headers=given, **more) as answer:
            return answer.status, await answer.json()

    async with aiohttp.ClientSession() as http:
        status, told = await asked("POST", f"https://queue.fal.run/{APP}", json={"prompt": "a fair"})
        assert status == 200
        request = f"https://queue.fal.run/{APP}/requests/{told['request_id']}"
        await until(
            lambda: (
                shop.web.sql("SELECT status FROM task_queue WHERE user_openid = ?", user) == [("completed",)]
            ),
            "it is done",
        )
        assert (await asked("GET", f"{request}/status?logs=1"))[1]["status"] == "COMPLETED"
        assert len((await asked("GET", request))[1]["images"]) == 1
        assert (await asked("PUT", f"{request}/cancel"))[0] == 400
        assert (await asked("POST", f"https://fal.run/{APP}", json={"prompt": "a fair"}))[0] == 200
        for method, target, wanted in (
            ("POST", "https://example.org/x", 400),
            ("POST", "http://127.0.0.1:1/x", 400),
            ("POST", "", 400),
            ("POST", "http://[", 400),
            ("POST", "https://rest.fal.ai/other", 400),
            ("GET", f"https://fal.run/{APP}", 400),
            ("GET", f"https://queue.fal.run/{APP}", 404),
            ("POST", request, 405),
        ):
            status, told = await asked(method, target, **({"json": {}} if method == "POST" else {}))
            assert status == wanted and told["message"], (method, target, told)


async def test_pages_of_an_allowed_origin_may_ask_the_proxy(shop: DoorShop) -> None:
    headers = {
        "Origin": "https://app.example.org",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization,x-fal-target-url",
    }
    async with (
        aiohttp.ClientSession() as http,
        http.options(f"{shop.url}/fal/proxy", headers=headers) as answer,
    ):
        assert answer.status == 204 and "PUT" in answer.headers["Access-Control-Allow-Methods"]
        assert "x-fal-target-url" in answer.headers["Access-Control-Allow-Headers"].lower()


# --- connections that are cut ---


@pytest.mark.parametrize(
    ("call", "point"),
    # The whole answer of `submit` is one write, so it is cut before or after, never within.
    [
        (call, point)
        for call in ("submit", "run")
        for point in (*POINTS, ANSWER)
        if (call, point) != ("submit", ANSWER)
    ],
)
@pytest.mark.parametrize("times", [1, 3])
async def test_an_order_is_one_task_wherever_its_connection_is_cut(
    shop: DoorShop, user: str, monkeypatch: pytest.MonkeyPatch, call: str, point: str, times: int
) -> None:
    monkeypatch.setattr(held_answers, "HEAD_SECONDS", 0.05)
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = [point] * times, lambda: until(lambda: shop.tasks(user), "it is stored")
        _leads_to(proxy.url, monkeypatch)
        client = fal_client.AsyncClient(key=shop.key(user))
        if (call, point) == ("submit", STORED):
            shop.stall_answers(monkeypatch, lambda: proxy.posts <= times)
        asked = asyncio.create_task(getattr(client, call)(APP, {"prompt": "wait"}))
        await until(lambda: proxy.posts == times + 1, "the SDK has repeated it")
        (claim,) = await shop.held_of(user)
        await shop.complete(claim)
        await asked
    assert len(shop.tasks(user)) == shop.debits(user) == 1


async def test_equal_orders_that_are_meant_stay_several(
    shop: DoorShop, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = (
            [STORED],
            lambda: until(lambda: len(shop.tasks(user)) == 3, "all are stored"),
        )
        _leads_to(proxy.url, monkeypatch)
        shop.stall_answers(monkeypatch, lambda: proxy.posts <= 3)
        client = fal_client.AsyncClient(key=shop.key(user))
        handles = await asyncio.gather(*(client.submit(APP, {"prompt": "a fair"}) for _ in range(3)))
    assert sorted(each.request_id for each in handles) == shop.tasks(user) and shop.debits(user) == 3
