"""A full queue, told through each door: the SDK raises its own exception with our sentence, and nothing is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import fal_client
import openai
import pytest
import pytest_asyncio
import replicate
from replicate.exceptions import ReplicateError

from tests.support.houses.door_shop import DoorShop, door_shop

pytestmark = pytest.mark.asyncio(loop_scope="module")

FULL = "holds 1 waiting task,"
Order = Callable[[DoorShop, str, str], Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def full_shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DoorShop]:
    """Its queue is full for as long as the test wants: one order runs, and one waits for it."""
    limits = {"pending_tasks": 1, "running_tasks_per_user": 1}
    poster = {"poster": {"inputs": {"images": [0, 4]}}}
    async with door_shop(tmp_path_factory.mktemp("shop"), tasks=poster, limits=limits) as shop:
        await _fal(shop, "o-first", "wait")
        await shop.held_of("o-first")

        async with asyncio.timeout(90):  # the web knows of the first one's start within a second
            while len(shop.tasks("o-first")) < 2:
                await _fal(shop, "o-first", "wait too", may_fail=True)
        yield shop


async def _openai(shop: DoorShop, user: str, prompt: str) -> Any:
    async with openai.AsyncOpenAI(
        base_url=f"{shop.url}/openai/v1", api_key=shop.key(user), max_retries=0
    ) as client:
        return await client.images.generate(model="darkroom/poster", prompt=prompt)


async def _replicate(shop: DoorShop, user: str, prompt: str) -> Any:
    client = replicate.Client(api_token=shop.key(user), base_url=f"{shop.url}/replicate")
    return await asyncio.to_thread(client.run, "darkroom/poster", input={"prompt": prompt})


async def _fal(shop: DoorShop, user: str, prompt: str, *, may_fail: bool = False) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{shop.url}/fal/queue/")
        client = fal_client.AsyncClient(key=shop.key(user))
        try:
            return await client.submit("darkroom/poster", {"prompt": prompt})
        except fal_client.FalClientHTTPError:
            if not may_fail:
                raise
            return None


async def _fal_run(shop: DoorShop, user: str, prompt: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{shop.url}/fal/run/")
        return await fal_client.AsyncClient(key=shop.key(user)).run("darkroom/poster", {"prompt": prompt})


@pytest.mark.parametrize(
    ("order", "error", "status_of"),
    [
        (_openai, openai.InternalServerError, lambda raised: raised.status_code),
        (_replicate, ReplicateError, lambda raised: raised.status),
        (_fal, fal_client.FalClientHTTPError, lambda raised: raised.status_code),
        (_fal_run, fal_client.FalClientHTTPError, lambda raised: raised.status_code),
    ],
    ids=["openai", "replicate", "fal-queue", "fal-run"],
)
async def test_a_full_queue_is_raised_as_503_and_nothing_is_stored(
    full_shop: DoorShop, order: Order, error: type[Exception], status_of: Callable[[Any], int], request: Any
) -> None:
    user = f"o-{request.node.callspec.id}"
    with pytest.raises(error, match=FULL) as raised:
        await order(full_shop, user, "a fair")
    assert status_of(raised.value) == 503
    assert full_shop.tasks(user) == [] and full_shop.debits(user) == 0
