"""The official SDKs for JavaScript order here, by their changed line: docs/sdks.md."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from supervisor.webhooks.signing_keys import key_of_user
from tests.support.clients.node_sdks import NodeSdks, Thrown, node_sdks
from tests.support.houses.door_shop import REFUSED, DoorShop
from tests.support.houses.web_server import SECRET, picture_bytes, until
from tests.support.npm_packages import NODE, NPM, SDKS
from tests.support.repository import ROOT
from tests.support.servers.cutting_proxy import BODY, REQUEST, STORED, cutting_proxy

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.system,
    pytest.mark.skipif(not (NODE and NPM) and not os.environ.get("CI"), reason="there is no Node"),
]

MODEL = "darkroom/poster"
POSTER = {"inputs": {"images": [0, 4]}}
PHOTO = base64.b64encode(picture_bytes(size=(300, 200))).decode()
SHOP: dict[str, Any] = {"tasks": {"poster": POSTER}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeSdks]:
    async with node_sdks(tmp_path_factory.mktemp("node")) as running:
        yield running


class Asking:
    """One user's calls."""

    def __init__(self, node: NodeSdks, shop: DoorShop, user: str) -> None:
        self._node, self._shop, self._user = node, shop, user

    async def __call__(self, sdk: str, call: str, url: str = "", key: str = "", **given: Any) -> Any:
        if sdk == "openai":
            given.setdefault("model", MODEL)
        else:
            given["more"] = {"model": MODEL, **given.get("more", {})}
        return await self._node.call(
            sdk, call, url=url or self._shop.url, key=key or self._shop.key(self._user), **given
        )


@pytest.fixture
def ask(node: NodeSdks, shop: DoorShop, user: str) -> Asking:
    return Asking(node, shop, user)


ORDERS = [
    ("openai", "generate"),
    ("replicate", "run"),
    ("fal", "subscribe"),
    ("fal", "streamed"),
    ("fal", "run"),
]
FROM_AI = ["openai", "fal", "replicate"]


@pytest.mark.parametrize(("sdk", "call"), ORDERS)
async def test_pictures_are_ordered(shop: DoorShop, ask: Asking, user: str, sdk: str, call: str) -> None:
    many = {"openai": "n", "replicate": "num_outputs", "fal": "num_images"}[sdk]
    told = await ask(sdk, call, prompt="a fair", **{many: 2})
    urls = (
        told
        if sdk == "replicate"
        else [each["url"] for each in (told if sdk == "openai" else told["images"])]
    )
    assert len(urls) == 2 and all(url.startswith(f"{shop.url}/files/") for url in urls)
    (task,) = shop.tasks(user)
    assert shop.params(task) == {"prompt": "a fair", "count": 2} and shop.debits(user) == 1


@pytest.mark.parametrize("sdk", FROM_AI)
async def test_the_ai_sdk_orders_a_task_for_each_picture(
    shop: DoorShop, ask: Asking, user: str, sdk: str
) -> None:
    """Equal orders, all at once and all meant."""
    lengths = await ask("ai", sdk, prompt="a fair", n=3)
    assert lengths == [len(base64.b64encode(shop.picture))] * 3
    assert len(shop.tasks(user)) == shop.debits(user) == 3


@pytest.mark.parametrize(("sdk", "call"), [*ORDERS, *(("ai", each) for each in FROM_AI)])
async def test_a_failure_throws_its_sentence_and_is_one_task(
    shop: DoorShop, ask: Asking, user: str, sdk: str, call: str
) -> None:
    with pytest.raises(Thrown, match=REFUSED):
        await ask(sdk, call, prompt="refuse")
    assert len(shop.tasks(user)) == 1


@pytest.mark.parametrize(("sdk", "call"), [*ORDERS, *(("ai", each) for each in FROM_AI)])
async def test_too_few_credits_and_bad_input_throw_their_sentences(
    shop: DoorShop, ask: Asking, user: str, sdk: str, call: str
) -> None:
    shop.web.sql("UPDATE account SET balance = balance WHERE user_openid = ?", user)
    await ask("openai", "generate", prompt="a fair", n=8)
    await ask("openai", "generate", prompt="a fair", n=2)
    with pytest.raises(Thrown, match="costs 1 credit") as thrown:
        await ask(sdk, call, prompt="a fair")
    assert thrown.value.status == 402
    with pytest.raises(Thrown, match=r"at most 4,?000 characters|4000"):
        await ask(sdk, call, prompt="x" * 4001)
    with pytest.raises(Thrown):
        await ask(sdk, call, key="wrong", prompt="a fair")
    assert len(shop.tasks(user)) == 2


async def test_photos_go_in_by_each_sdk(shop: DoorShop, ask: Asking, user: str) -> None:
    await ask("openai", "edit", prompt="a fair", more={"photos": [PHOTO, PHOTO]})
    await ask("replicate", "upload", prompt="a fair", more={"photo": PHOTO})
    await ask("fal", "upload", prompt="a fair", more={"photo": PHOTO})
    uploads = [shop.params(task)["images"] for task in shop.tasks(user)]
    assert [len(each) for each in uploads] == [2, 1, 1]
    for upload in (each for images in uploads for each in images):
        assert shop.web.sql("SELECT user_openid, width FROM image WHERE id = ?", upload) == [(user, 300)]


async def test_progress_and_cancels_reach_each_sdk_that_has_words_for_them(
    shop: DoorShop, ask: Asking, user: str
) -> None:
    asked = asyncio.create_task(ask("fal", "subscribe", prompt="wait"))
    (claim,) = await shop.held_of(user)
    await shop.progress(claim, 30)
    await until(lambda: shop.web.context.hub.waiter_count, "it is polled")
    await shop.complete(claim)
    assert (await asked)["seen"][-1] == "COMPLETED"
    assert await ask("replicate", "cancel", prompt="wait") == ["starting", "canceled"]
    assert await ask("fal", "cancel", prompt="wait") == "COMPLETED"
    statuses = shop.web.sql("SELECT status FROM task_queue WHERE user_openid = ? ORDER BY id", user)
    assert statuses == [("completed",), ("cancelled",), ("cancelled",)]


async def test_streams_tell_the_end(ask: Asking) -> None:
    assert await ask("openai", "stream", prompt="a fair") == ["image_generation.completed"]
    with pytest.raises(Thrown, match=REFUSED):
        await ask("openai", "stream", prompt="refuse")
    told = await ask("fal", "stream", prompt="a fair")
    assert len(told["done"]["images"]) == 1


async def test_models_and_the_key_of_webhooks_are_told(shop: DoorShop, ask: Asking, user: str) -> None:
    assert MODEL in await ask("openai", "models")
    assert await ask("replicate", "secret") == key_of_user(SECRET, user)


@pytest.mark.parametrize("point", [BODY, REQUEST, STORED])
@pytest.mark.parametrize(("sdk", "call"), [*ORDERS, *(("ai", each) for each in FROM_AI)])
async def test_an_order_is_one_task_wherever_its_connection_is_cut(
    shop: DoorShop, ask: Asking, user: str, monkeypatch: pytest.MonkeyPatch, sdk: str, call: str, point: str
) -> None:
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = [point], lambda: until(lambda: shop.tasks(user), "it is stored")
        if point == STORED and call in ("subscribe", "streamed"):
            shop.stall_answers(monkeypatch, lambda: proxy.posts <= 1)
        asked = asyncio.create_task(ask(sdk, call, url=proxy.url, prompt="wait"))
        await until(lambda: proxy.posts == 2, "the SDK has repeated it")
        (claim,) = await shop.held_of(user)
        await shop.complete(claim)
        assert await asked
    assert len(shop.tasks(user)) == shop.debits(user) == 1


async def test_equal_orders_that_are_meant_stay_several_though_one_is_cut(
    shop: DoorShop, ask: Asking, user: str
) -> None:
    async with cutting_proxy(shop.url) as proxy:
        proxy.plan, proxy.is_stored = (
            [STORED],
            lambda: until(lambda: len(shop.tasks(user)) == 3, "all are stored"),
        )
        asked = asyncio.create_task(ask("ai", "openai", url=proxy.url, prompt="wait", n=3))
        await until(lambda: proxy.posts == 4, "the SDK has repeated one")
        for claim in await shop.held_of(user, 3):
            await shop.complete(claim)
        assert len(await asked) == 3
    assert len(shop.tasks(user)) == shop.debits(user) == 3


async def test_the_pages_name_the_versions_that_are_tested_here() -> None:
    for page in ("sdks.md", "sdks.zh-CN.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        for package, version in SDKS.items():
            if package not in ("node", "ai"):
                assert f"`{package}`" in text and version in text, (page, package)
