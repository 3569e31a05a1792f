"""Replicate's own SDK for Python orders here, with nothing changed but its address and its key."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp
import pytest
import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.webhook import Webhooks, WebhookSigningSecret

from supervisor.doors.replicate_prediction import prediction
from supervisor.pictures.media_types import type_of_file
from supervisor.store.webhooks import deliveries
from supervisor.webhooks.door_message import door_message_body
from supervisor.webhooks.signature import signed_headers
from supervisor.webhooks.signing_keys import derived_key, key_of_user
from tests.support.houses.door_shop import REFUSED, DoorShop
from tests.support.houses.web_server import SECRET, picture_bytes, until
from tests.support.servers.cutting_proxy import POINTS, cutting_proxy
from web.doors.held_requests import news
from web.doors.replicate import door

pytestmark = pytest.mark.asyncio(loop_scope="module")

T = TypeVar("T")
POSTER = {
    "inputs": {"images": [0, 4]},
    "parameters": {"properties": {"quality": {"enum": ["sd", "hd"]}}, "additionalProperties": False},
    "doors": {"replicate": "ours/poster:abc123"},
}
MODEL = "darkroom/poster"
BASE = "/replicate"
SHOP: dict[str, Any] = {"tasks": {"poster": POSTER}, "limits": {"open_tasks_per_user": 4}}


@pytest.fixture
def client(shop: DoorShop, user: str, monkeypatch: pytest.MonkeyPatch) -> replicate.Client:
    monkeypatch.setenv("REPLICATE_POLL_INTERVAL", "0.05")
    return replicate.Client(api_token=shop.key(user), base_url=shop.url + BASE)


async def by(call: Callable[..., T], *arguments: Any, **more: Any) -> T:
    """A call of the SDK, in a thread of its own: the server is in this one."""
    return await asyncio.to_thread(call, *arguments, **more)


async def test_run_gives_the_pictures(shop: DoorShop, client: replicate.Client, user: str) -> None:
    output = await by(client.run, MODEL, input={"prompt": "a fair", "num_outputs": 2, "quality": "hd"})
    assert isinstance(output, list) and len(output) == 2, "links over plain http come as they are"
    async with aiohttp.ClientSession() as http, http.get(str(output[0])) as answer:
        assert await answer.read() == shop.picture
    (task,) = shop.tasks(user)
    assert shop.params(task) == {"prompt": "a fair", "count": 2, "parameters": {"quality": "hd"}}
    assert shop.debits(user) == 1


@pytest.mark.parametrize("name", ["ours/poster:abc123", "darkroom/poster:poster", "ours/poster"])
async def test_a_version_is_known_by_its_id(client: replicate.Client, name: str) -> None:
    assert len(list(await by(client.run, name, input={"prompt": "a fair"}))) == 1  # type: ignore[call-overload]


async def test_the_async_client_works_too(shop: DoorShop, client: replicate.Client) -> None:
    assert len(list(await client.async_run(MODEL, input={"prompt": "a fair"}))) == 1


async def test_what_takes_longer_than_its_wait_is_polled_to_its_end(
    shop: DoorShop, client: replicate.Client, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls: list[str] = []

    async def noted(request: Any, task_id: str, *more: Any) -> Any:
        polls.append(task_id)
        return await news(request, task_id, *more)

    monkeypatch.setattr(door, "news", noted)
    asked = asyncio.create_task(by(client.run, MODEL, input={"prompt": "wait"}, wait=1))
    (claim,) = await shop.held_of(user)
    await until(lambda: polls, "the order was answered, and is polled")
    await shop.complete(claim)
    assert len(list(await asked)) == 1
    assert set(polls) == set(shop.tasks(user)) == {claim.task_id}


async def test_a_prediction_is_followed_with_its_progress(
    shop: DoorShop, client: replicate.Client, user: str
) -> None:
    made = await by(client.predictions.create, model=MODEL, input={"prompt": "wait", "quality": "sd"})
    assert made.status == "starting" and made.model == MODEL and made.version == "abc123"
    assert made.input == {"prompt": "wait", "quality": "sd"}
    (claim,) = await shop.held_of(user)
    await shop.progress(claim, 45)
    await by(made.reload)
    assert made.status == "processing" and made.progress is not None
    assert (made.progress.percentage, made.progress.current, made.progress.total) == (0.45, 45, 100)
    assert made.output is None
    await shop.complete(claim)
    await by(made.wait)
    assert made.status == "succeeded" and made.output[0].startswith(f"{shop.url}/files/")
    assert (await by(client.predictions.get, made.id)).completed_at
    listed = await by(client.predictions.list)
    assert [each.id for each in listed.results] == [made.id]


async def test_a_poll_is_held_until_there_is_news(
    shop: DoorShop, client: replicate.Client, user: str
) -> None:
    made = await by(client.predictions.create, model=MODEL, input={"prompt": "wait"})
    (claim,) = await shop.held_of(user)
    asked = asyncio.create_task(by(made.reload))
    await until(lambda: shop.web.context.hub.waiter_count == 1, "it is held")
    await shop.progress(claim, 10)
    await asked
    assert made.progress is not None and made.progress.current == 10
    await shop.complete(claim)
    await by(made.reload)
    assert made.status == "succeeded"


async def test_what_one_poller_was_told_another_is_told_at_once(
    shop: DoorShop, client: replicate.Client, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await by(client.predictions.create, model=MODEL, input={"prompt": "wait"})
    (claim,) = await shop.held_of(user)
    address = f"{shop.url}{BASE}/v1/predictions/{made.id}"
    other = {"Authorization": f"Bearer {shop.key(user)}", "User-Agent": "a dashboard"}
    monkeypatch.setattr("web.doors.held_requests.POLL_SECONDS", 0.05)
    await by(made.reload)
    await shop.progress(claim, 10)
    async with aiohttp.ClientSession() as http, http.get(address, headers=other) as answer:
        assert "10%" in (await answer.json())["logs"]
    monkeypatch.setattr("web.doors.held_requests.LOOP_SECONDS", 1000)
    await by(made.reload)
    assert made.progress is not None and made.progress.current == 10, "not held: it was not told"


async def test_a_stream_tells_everything(shop: DoorShop, client: replicate.Client, user: str) -> None:
    made = await by(client.predictions.create, model=MODEL, input={"prompt": "wait"}, stream=True)
    heard: list[Any] = []
    listening = asyncio.create_task(by(lambda: heard.extend(made.stream())))
    (claim,) = await shop.held_of(user)
    await shop.progress(claim, 45)
    await until(lambda: shop.web.context.hub.waiter_count == 1, "the stream is open")
    await shop.complete(claim)
    await listening
    names = [event.event.value for event in heard]
    assert names[-2:] == ["output", "done"] and "logs" in names
    assert str(heard[-2].data).startswith(f"{shop.url}/files/")
    assert made.urls is not None
    async with aiohttp.ClientSession() as http:
        async with http.get(made.urls["stream"]) as answer:
            assert answer.status == 200, "no key is needed: JavaScript's SDK sends none"
        async with http.get(made.urls["stream"].replace("sig=", "sig=_", 1)) as answer:
            assert answer.status == 403


async def test_a_failure_is_a_model_error(shop: DoorShop, client: replicate.Client, user: str) -> None:
    with pytest.raises(ModelError, match=REFUSED):
        await by(client.run, MODEL, input={"prompt": "refuse"})
    assert len(shop.tasks(user)) == 1


async def test_a_prediction_is_cancelled_and_one_that_is_over_is_shown(
    shop: DoorShop, client: replicate.Client, user: str
) -> None:
    made = await by(client.predictions.create, model=MODEL, input={"prompt": "wait"})
    await by(made.cancel)
    assert made.status == "canceled"
    await by(made.cancel)
    assert made.status == "canceled" and shop.web.sql(
        "SELECT balance FROM account WHERE user_openid = ?", user
    ) == [(10,)]


async def test_files_go_in_by_the_sdk_and_as_data_uris(
    shop: DoorShop, client: replicate.Client, user: str
) -> None:
    photo = picture_bytes(size=(300, 200))
    await by(client.run, MODEL, input={"prompt": "a fair", "image": io.BytesIO(photo)})
    uri = "data:image/jpeg;base64," + base64.b64encode(photo).decode()
    await by(client.run, MODEL, input={"prompt": "a fair", "image_input": [uri]})
    for task in shop.tasks(user):
        (upload,) = shop.params(task)["images"]
        assert shop.web.sql("SELECT user_openid, width FROM image WHERE id = ?", upload) == [(user, 300)]
    file = await by(client.files.create, io.BytesIO(photo))
    assert file.content_type == "image/jpeg" and file.checksums["sha256"] == file.etag


async def test_bad_input_is_told_in_our_sentence_and_nothing_is_stored(
    shop: DoorShop, client: replicate.Client, user: str
) -> None:
    for given, said in (
        ({"num_outputs": 99}, "count: This must be less than or equal to 8"),
        ({"quality": "ultra"}, "quality"),
        ({"colour": "red"}, "colour"),
        ({"auth": "r8_secret", "baseUrl": "https://x", "userAgent": "y"}, "client object"),
    ):
        with pytest.raises(ReplicateError, match=said) as raised:
            await by(client.run, MODEL, input=given)
        assert raised.value.status == 422 and raised.value.detail
    with pytest.raises(ReplicateError, match="There is no model 'ours/none'"):
        await by(client.run, "ours/none", input={})
    with pytest.raises(ReplicateError, match="There is no version"):
        await by(client.predictions.create, version="none", input={})
    assert shop.tasks(user) == []
    assert "r8_secret" not in str(shop.web.sql("SELECT * FROM idempotency_key"))


async def test_credits_and_limits_raise(
    shop: DoorShop, client: replicate.Client, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await by(client.run, MODEL, input={"prompt": "a fair", "num_outputs": 6})
    with pytest.raises(ReplicateError, match="costs 5 credits and the balance is 4") as raised:
        await by(client.run, MODEL, input={"prompt": "a fair", "num_outputs": 5})
    assert raised.value.status == 402
    for _ in range(4):
        await by(client.predictions.create, model=MODEL, input={"prompt": "wait"})
    with pytest.raises(ReplicateError, match="4 open tasks") as raised:
        await by(client.run, MODEL, input={"prompt": "a fair"})
    assert raised.value.status == 429
    for task in shop.tasks(user)[1:]:
        await shop.cancel(task)
    monkeypatch.setattr("web.doors.held_requests.MOST_HELD", 0)
    with pytest.raises(ReplicateError, match="wait for their pictures") as raised:
        await by(client.run, MODEL, input={"prompt": "a fair"})
    assert raised.value.status == 503


async def test_a_wrong_key_and_somebody_elses_prediction_raise(
    shop: DoorShop, client: replicate.Client
) -> None:
    made = await by(client.run, MODEL, input={"prompt": "a fair"})
    assert made
    other = replicate.Client(api_token=shop.key("o-other"), base_url=shop.url + BASE)
    (task, *_) = shop.web.sql("SELECT id FROM task_queue ORDER BY id DESC")
    with pytest.raises(ReplicateError) as raised:
        await by(other.predictions.get, task[0])
    assert raised.value.status == 404
    nobody = replicate.Client(api_token="r8_wrong", base_url=shop.url + BASE)
    with pytest.raises(ReplicateError) as raised:
        await by(nobody.run, MODEL, input={})
    assert raised.value.status == 401


async def test_models_and_versions_are_shown(client: replicate.Client) -> None:
    model = await by(client.models.get, "ours/poster")
    assert (model.id, model.latest_version.id) == ("ours/poster", "abc123")  # type: ignore[union-attr]
    version = await by(model.versions.get, "abc123")
    assert "quality" in version.openapi_schema["components"]["schemas"]["Input"]["properties"]
    with pytest.raises(ReplicateError):
        await by(model.versions.get, "other")


# --- webhooks ---


async def test_a_webhook_is_a_prediction_signed_for_its_user_alone(
    shop: DoorShop, client: replicate.Client, user: str
) -> None:
    hook = "https://example.org/hook"
    for events in (None, ["completed"], ["start"]):
        await by(
            client.predictions.create,
            model=MODEL,
            input={"prompt": "a fair", "image": "https://example.org/a.jpg"},
            webhook=hook,
            webhook_events_filter=events,
        )

    def told() -> list[deliveries.Message]:
        def claim(tx: Any) -> list[deliveries.Message]:
            found = deliveries.due(tx).get()
            return deliveries.claim(tx, found)

        return list(shop.web.database.write_now(claim))

    await until(
        lambda: (
            shop.web.sql(
                "SELECT count(*) FROM task_queue WHERE user_openid = ? AND status = 'completed'", user
            )
            == [(3,)]
        ),
        "all are done",
    )
    messages = await by(told)
    assert len(messages) == 2, "who wants to hear of the start alone is told nothing"
    message = messages[0]
    assert message.door is not None
    body = door_message_body(
        message.door, message.data, message.params, shop.web.context.links.link, type_of_file
    )
    headers = signed_headers([key_of_user(SECRET, user)], message.id, 1_800_000_000, body)
    secret = await by(client.webhooks.default.secret)
    Webhooks.validate(headers=headers, body=body.decode(), secret=secret)
    assert secret.key not in (derived_key(SECRET), key_of_user(SECRET, "o-other"))
    with pytest.raises(ValueError, match="signature"):
        Webhooks.validate(
            headers=headers,
            body=body.decode(),
            secret=WebhookSigningSecret(key=key_of_user(SECRET, "o-other")),
        )
    shown = json.loads(body)
    assert shown["status"] == "succeeded" and shown["output"][0].startswith(f"{shop.url}/files/")
    assert shown["input"] == {"prompt": "a fair", "image": "https://example.org/a.jpg"}
    got = await by(client.predictions.get, shown["id"])
    assert got.output is not None and got.model == "ours/poster" and shown["model"] == MODEL


async def test_every_status_is_one_of_theirs() -> None:
    task = {
        "task_id": "t", "stage": "queued", "progress": 0, "error": None, "result": None, "created_at": "c",
        "started_at": None, "finished_at": None,
    }  # fmt: skip
    for status in ("pending", "processing", "ai_processing", "completed", "failed", "cancelled"):
        for is_order in (False, True):
            shown = prediction(
                {**task, "status": status},
                model="o/n",
                version="v",
                given={},
                origin="",
                link=str,
                is_order=is_order,
            )
            assert shown["status"] in ("starting", "processing", "succeeded", "failed", "canceled")
            assert not (is_order and shown["status"] == "processing")


# --- connections that are cut ---


@pytest.mark.parametrize("point", POINTS)
async def test_an_order_that_the_caller_repeats_after_a_cut_is_one_task(
    shop: DoorShop, user: str, point: str
) -> None:
    """This SDK repeats no order by itself: whoever calls it does."""
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = [point], lambda: until(lambda: shop.tasks(user), "it is stored")
        client = replicate.Client(api_token=shop.key(user), base_url=proxy.url + BASE)
        with pytest.raises(Exception, match=r"disconnected|closed|reset|Error"):
            await by(client.run, MODEL, input={"prompt": "wait"})
        asked = asyncio.create_task(by(client.run, MODEL, input={"prompt": "wait"}))
        (claim,) = await shop.held_of(user)
        await until(lambda: proxy.posts == 2, "it was sent again")
        await shop.complete(claim)
        assert len(list(await asked)) == 1
    assert len(shop.tasks(user)) == shop.debits(user) == 1
