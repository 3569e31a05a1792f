"""OpenAI's own SDK for Python orders pictures here, with nothing changed but its address and its key."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from tests.support.houses.door_shop import REFUSED, DoorShop, door_shop
from tests.support.houses.web_server import picture_bytes, until
from tests.support.servers.cutting_proxy import ANSWER, POINTS, STORED, cutting_proxy
from web.doors import held_answers

pytestmark = pytest.mark.asyncio(loop_scope="module")

POSTER = {
    "inputs": {"images": [0, 4]},
    "parameters": {
        "properties": {"quality": {"enum": ["sd", "hd"]}, "steps": {"type": "integer"}},
        "additionalProperties": False,
    },
    "doors": {"openai": "gpt-image-1", "map": {"style": "parameters.quality"}},
}
MODEL = "darkroom/poster"
SHOP: dict[str, Any] = {
    "tasks": {"poster": POSTER, "plain": {"inputs": {"images": [0, 4]}}},
    "limits": {"open_tasks_per_user": 4},
}


@pytest_asyncio.fixture(loop_scope="module")
async def client(shop: DoorShop, user: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{shop.url}/openai/v1", api_key=shop.key(user)) as made:
        yield made


async def test_a_picture_is_ordered_and_comes_as_bytes_and_as_a_link(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    answer = await client.images.generate(model=MODEL, prompt="a fair", quality="hd")
    (image,) = answer.data or []
    assert base64.b64decode(image.b64_json or "") == shop.picture
    assert (image.url or "").startswith(f"{shop.url}/files/")
    async with httpx.AsyncClient() as plain:
        assert (await plain.get(image.url or "")).content == shop.picture, "without the key"
    (task,) = shop.tasks(user)
    assert shop.params(task) == {"prompt": "a fair", "parameters": {"quality": "hd"}}
    assert answer._request_id == task and shop.debits(user) == 1


@pytest.mark.parametrize(("format_", "other"), [("b64_json", "url"), ("url", "b64_json")])
async def test_the_format_that_is_asked_for_comes_alone(
    client: openai.AsyncOpenAI, format_: Any, other: str
) -> None:
    answer = await client.images.generate(model="gpt-image-1", prompt="a fair", response_format=format_)
    (image,) = answer.data or []
    assert getattr(image, format_) and getattr(image, other) is None


async def test_several_pictures_are_one_order(shop: DoorShop, client: openai.AsyncOpenAI, user: str) -> None:
    answer = await client.images.generate(model=MODEL, prompt="a fair", n=3, extra_body={"style": "sd"})
    assert len(answer.data or []) == 3
    (task,) = shop.tasks(user)
    assert shop.params(task) == {"prompt": "a fair", "count": 3, "parameters": {"quality": "sd"}}


async def test_the_sync_client_works_too(shop: DoorShop, user: str) -> None:
    def order() -> int:
        with openai.OpenAI(base_url=f"{shop.url}/openai/v1", api_key=shop.key(user)) as made:
            return len(made.images.generate(model=MODEL, prompt="a fair", n=2).data or [])

    assert await asyncio.to_thread(order) == 2


async def test_pictures_are_uploaded_with_an_edit(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    photos = [picture_bytes(color=(n, n, n)) for n in (1, 90)]
    answer = await client.images.edit(
        model=MODEL, prompt="a fair", image=photos, extra_body={"steps": 7}, n=2
    )
    assert len(answer.data or []) == 2
    (task,) = shop.tasks(user)
    params = shop.params(task)
    assert params["parameters"] == {"steps": 7} and params["count"] == 2, "text of a form is a number again"
    rows = dict(shop.web.sql("SELECT id, user_openid FROM image"))
    assert [rows[each] for each in params["images"]] == [user, user]
    await client.images.create_variation(model=MODEL, image=photos[0])
    assert "prompt" not in shop.params(shop.tasks(user)[-1])


async def test_a_picture_in_the_body_and_a_link_of_ours_are_inputs(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    uri = "data:image/jpeg;base64," + base64.b64encode(picture_bytes(size=(900, 700))).decode()
    made = await client.images.generate(model=MODEL, prompt="a fair", extra_body={"image": uri})
    link = (made.data or [])[0].url
    upload = shop.params(shop.tasks(user)[0])["images"][0]
    ((key,),) = shop.web.sql("SELECT key FROM image WHERE id = ?", upload)
    own = shop.url + shop.web.context.links.link(key)
    again = await client.images.generate(model=MODEL, prompt="a fair", extra_body={"image_urls": [own, link]})
    images = shop.params(shop.tasks(user)[1])["images"]
    assert images[0] == upload and len(images) == 2, "a result became an upload"
    assert len(again.data or []) == 1


async def test_a_stream_tells_its_progress_and_then_the_picture(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    stream = await client.images.generate(model=MODEL, prompt="wait", stream=True, partial_images=2)
    (claim,) = await shop.held_of(user)
    await shop.progress(claim, 40)
    await shop.complete(claim)
    events = [event async for event in stream]
    assert [event.type for event in events] == ["image_generation.completed"]
    assert base64.b64decode(events[0].b64_json) == shop.picture


async def test_a_stream_of_a_task_that_fails_raises(client: openai.AsyncOpenAI) -> None:
    stream = await client.images.generate(model=MODEL, prompt="refuse", stream=True)
    with pytest.raises(openai.APIError, match=REFUSED):
        async for _ in stream:
            pass


async def test_models_are_listed_and_shown(client: openai.AsyncOpenAI) -> None:
    names = [model.id async for model in client.models.list()]
    assert "gpt-image-1" in names and "darkroom/plain" in names and MODEL not in names
    assert (await client.models.retrieve("darkroom/plain")).id == "darkroom/plain"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("darkroom/none")


async def test_bad_input_is_told_in_our_sentence_and_nothing_is_stored(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    for members, said in (
        ({"n": 99}, "count: This must be less than or equal to 8"),
        ({"extra_body": {"colour": "red"}}, "colour"),
        ({"quality": "ultra"}, "quality"),
        ({"extra_body": {"image": "cloud://x"}}, "getTempFileURL"),
        ({"extra_body": {"image": "data:image/png;base64,@@"}}, "broken"),
        ({"extra_body": {"image": 7}}, "image must be"),
    ):
        with pytest.raises(openai.UnprocessableEntityError, match=said):
            await client.images.generate(model=MODEL, prompt="a fair", **members)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError, match="darkroom/plain"):
        await client.images.generate(model="dall-e-9", prompt="a fair")
    with pytest.raises(openai.UnprocessableEntityError, match="mask"):
        await client.images.edit(
            model="darkroom/plain", prompt="a", image=picture_bytes(), mask=picture_bytes()
        )
    assert shop.tasks(user) == []


async def test_a_task_that_fails_raises_its_sentence_and_is_ordered_once(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=REFUSED) as raised:
        await client.images.generate(model=MODEL, prompt="refuse")
    assert raised.value.code == "content_rejected"
    assert len(shop.tasks(user)) == 1, "the SDK does not order again by itself"


async def test_a_cancelled_task_raises(shop: DoorShop, client: openai.AsyncOpenAI, user: str) -> None:
    asked = asyncio.create_task(client.images.generate(model=MODEL, prompt="wait"))
    (claim,) = await shop.held_of(user)
    await shop.cancel(claim.task_id)
    with pytest.raises(openai.UnprocessableEntityError, match="cancelled"):
        await asked


async def test_too_few_credits_are_402_and_not_asked_again(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    await client.images.generate(model=MODEL, prompt="a fair", n=8)
    with pytest.raises(openai.APIStatusError, match="costs 3 credits and the balance is 2") as raised:
        await client.images.generate(model=MODEL, prompt="a fair", n=3)
    assert raised.value.status_code == 402 and raised.value.code == "insufficient_credits"  # type: ignore[attr-defined]
    assert len(shop.tasks(user)) == 1


async def test_the_users_limit_is_429_and_a_full_queue_503(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    eager = client.with_options(max_retries=0)
    asked = [asyncio.create_task(eager.images.generate(model=MODEL, prompt=f"wait {n}")) for n in range(4)]
    waiting = await shop.held_of(user, 4)
    with pytest.raises(openai.RateLimitError, match="4 open tasks"):
        await eager.images.generate(model=MODEL, prompt="wait")
    for claim in waiting:
        await shop.complete(claim)
    await asyncio.gather(*asked)
    monkeypatch.setattr("web.doors.held_requests.MOST_HELD", 0)
    with pytest.raises(openai.InternalServerError, match="wait for their pictures"):
        await eager.images.generate(model=MODEL, prompt="a fair")
    assert len(shop.tasks(user)) == 4


async def test_a_wrong_key_is_an_authentication_error(shop: DoorShop) -> None:
    async with openai.AsyncOpenAI(base_url=f"{shop.url}/openai/v1", api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="token"):
            await client.images.generate(model=MODEL, prompt="a fair")


async def test_what_takes_long_is_kept_alive_by_white_space(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_answers, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(held_answers, "SPACE_SECONDS", 0.05)
    patient = client.with_options(timeout=httpx.Timeout(60, read=30), max_retries=0)
    asked = asyncio.create_task(patient.images.generate(model=MODEL, prompt="wait"))
    (claim,) = await shop.held_of(user)
    head = shop.url + "/openai/v1/images/generations"
    body = {"model": MODEL, "prompt": "wait too"}
    async with (
        httpx.AsyncClient(timeout=30, headers={"Authorization": f"Bearer {shop.key(user)}"}) as plain,
        plain.stream("POST", head, json=body) as raw,
    ):
        pieces = raw.aiter_raw()
        assert [await anext(pieces), await anext(pieces)] == [b" ", b" "] and raw.status_code == 200
    await shop.complete(claim)
    assert len((await asked).data or []) == 1


async def test_a_failure_after_the_head_is_raised_by_the_repeat_that_takes_it_over(
    shop: DoorShop, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_answers, "HEAD_SECONDS", 0.05)
    async with cutting_proxy(shop.url) as proxy:
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/openai/v1", api_key=shop.key(user)) as client:
            asked = asyncio.create_task(client.images.generate(model=MODEL, prompt="wait"))
            (claim,) = await shop.held_of(user)
            await until(lambda: proxy.answers, "the head was sent")
            await shop.fail(claim)
            with pytest.raises(openai.UnprocessableEntityError, match=REFUSED):
                await asked
        assert proxy.posts == 2
    assert len(shop.tasks(user)) == 1


# --- connections that are cut ---


@pytest.mark.parametrize("point", [*POINTS, ANSWER])
@pytest.mark.parametrize("times", [1, 2])
async def test_an_order_is_one_task_wherever_its_connection_is_cut(
    shop: DoorShop, user: str, monkeypatch: pytest.MonkeyPatch, point: str, times: int
) -> None:
    monkeypatch.setattr(held_answers, "HEAD_SECONDS", 0.05)
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = [point] * times, lambda: until(lambda: shop.tasks(user), "it is stored")
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/openai/v1", api_key=shop.key(user)) as client:
            asked = asyncio.create_task(client.images.generate(model=MODEL, prompt="wait"))
            await until(lambda: proxy.posts == times + 1, "the SDK has repeated it")
            (claim,) = await shop.held_of(user)
            await shop.complete(claim)
            assert len((await asked).data or []) == 1
    assert len(shop.tasks(user)) == shop.debits(user) == 1
    assert proxy.posts == times + 1


async def test_a_form_that_is_sent_again_is_one_task(shop: DoorShop, user: str) -> None:
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = [STORED], lambda: until(lambda: shop.tasks(user), "it is stored")
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/openai/v1", api_key=shop.key(user)) as client:
            asked = asyncio.create_task(client.images.edit(model=MODEL, prompt="wait", image=picture_bytes()))
            await until(lambda: proxy.posts == 2, "the SDK has repeated it")
            (claim,) = await shop.held_of(user)
            await shop.complete(claim)
            await asked
    assert len(shop.tasks(user)) == 1


async def test_equal_orders_that_are_meant_stay_several_though_one_is_cut(shop: DoorShop, user: str) -> None:
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = (
            [STORED],
            lambda: until(lambda: len(shop.tasks(user)) == 3, "all are stored"),
        )
        async with openai.AsyncOpenAI(base_url=f"{proxy.url}/openai/v1", api_key=shop.key(user)) as client:
            asked = [
                asyncio.create_task(client.images.generate(model=MODEL, prompt="wait")) for _ in range(3)
            ]
            await until(lambda: proxy.posts == 4, "the SDK has repeated one")
            for claim in await shop.held_of(user, 3):
                await shop.complete(claim)
            assert [len((await each).data or []) for each in asked] == [1, 1, 1]
    assert len(shop.tasks(user)) == shop.debits(user) == 3


async def test_a_key_of_the_callers_own_is_kept(
    shop: DoorShop, client: openai.AsyncOpenAI, user: str
) -> None:
    key = {"Idempotency-Key": "order-1"}
    for _ in range(2):
        await client.images.generate(model=MODEL, prompt="a fair", extra_headers=key)
    assert len(shop.tasks(user)) == 1
    with pytest.raises(openai.UnprocessableEntityError, match="Idempotency-Key"):
        await client.images.generate(model=MODEL, prompt="another", extra_headers=key)


async def test_a_web_that_stops_gives_its_orders_to_the_repeats(tmp_path: Any, user: str) -> None:
    async with door_shop(tmp_path / "stops", tasks={"poster": POSTER}) as shop:
        async with openai.AsyncOpenAI(base_url=f"{shop.url}/openai/v1", api_key=shop.key(user)) as client:
            asked = asyncio.create_task(client.images.generate(model=MODEL, prompt="wait"))
            (claim,) = await shop.held_of(user)
            await until(lambda: shop.web.context.hub.waiter_count, "it waits")
            await shop.web.server.stop()
            assert shop.web.sql("SELECT task_id FROM cut_order") == [(claim.task_id,)]
            await shop.web.start()
            await shop.complete(claim)
            assert len((await asked).data or []) == 1
        assert len(shop.tasks(user)) == 1
