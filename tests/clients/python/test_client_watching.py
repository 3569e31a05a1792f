"""Our client for Python hears every change once and in order, wherever its stream is cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import darkroom_client as api
import pytest
import pytest_asyncio
from darkroom_client import watching

from supervisor.core.claim import Claim
from tests.support.clients.python_client import KINDS, AnyClient, any_client
from tests.support.houses.door_shop import DoorShop, door_shop
from tests.support.houses.web_server import until
from tests.support.servers.cut_streams import cut_streams

pytestmark = pytest.mark.asyncio(loop_scope="module")

POSTER = {"inputs": {"images": [0, 4]}}
RETRY_MS = (1, 2)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients come back at once: hundreds of cuts are tried."""
    monkeypatch.setattr("web.api.feed.retry_window", lambda _: RETRY_MS)
    monkeypatch.setattr(watching, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(watching, "LONGEST_PAUSE_SECONDS", 0.01)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DoorShop]:
    limits = {"streams_per_user": 3, "open_tasks_per_user": 0}
    async with door_shop(tmp_path_factory.mktemp("shop"), tasks={"poster": POSTER}, limits=limits) as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    return f"o-{request.node.name[:80]}"


async def _order(client: AnyClient, shop: DoorShop, user: str) -> Claim:
    """The claim of an order that waits."""
    order = await client.call("order", "poster", prompt="wait")
    return next(claim for claim in await shop.held_of(user) if claim.task_id == order.task_id)


async def _place(client: AnyClient) -> str:
    """How far the user's works are now."""
    events = client.each("watch")
    async with contextlib.aclosing(events):  # type: ignore[type-var]
        return str((await anext(events)).place)


async def _heard(client: AnyClient, since: str, until_status: str) -> list[api.Event]:
    """All that is heard after a place, until a work has this status."""
    heard: list[api.Event] = []
    events = client.each("watch", since)
    async with contextlib.aclosing(events):  # type: ignore[type-var]
        async for event in events:
            heard.append(event)
            if event.works and event.works[0].status == until_status:
                return heard
    raise AssertionError("the watch ended")


def _seqs(events: list[api.Event]) -> list[int]:
    return [int(event.place.rpartition("-")[2]) for event in events]


async def test_a_watch_that_is_cut_at_every_byte_is_whole(shop: DoorShop, user: str, kind: str) -> None:
    async with any_client(kind, shop.url, shop.key(user)) as client:
        claim = await _order(client, shop, user)
        since = await _place(client)
        for percent in (20, 40, 60, 80):
            await shop.progress(claim, percent)
        await shop.complete(claim)
        whole = await _heard(client, since, "completed")
    assert [event.work.progress for event in whole] == [20, 40, 60, 80, 100]
    # Each connection brings two bytes more than the one before it, one client's an even number and the other's an odd
    # one: so the cut comes at each byte of `retry` and of an event.  In the head, which httpx reads, it comes at every
    # tenth.
    reached = KINDS.index(kind)

    def bytes_of(_: int) -> int:
        nonlocal reached
        reached += 10 if reached < 380 else 2
        return reached

    async with cut_streams(shop.url, bytes_of) as proxy:
        async with any_client(kind, proxy.url, shop.key(user)) as client:
            heard: list[api.Event] = []
            place = since
            while not heard or heard[-1].work.status != "completed":
                events = client.each("watch", place)
                async with contextlib.aclosing(events):  # type: ignore[type-var]
                    heard.append(await anext(events))
                place = heard[-1].place
                if len(heard) > 1:
                    reached = max(reached, 900)  # the first event was met at each of its bytes
        assert proxy.connections > 150, "an event was cut at each of its bytes"
    assert [event.work.raw["progress"] for event in heard] == [event.work.progress for event in whole]
    start = int(since.rpartition("-")[2])
    assert _seqs(heard) == list(range(start + 1, start + 1 + len(heard)))


async def test_one_watch_goes_on_over_many_cuts_while_things_happen(
    shop: DoorShop, user: str, kind: str
) -> None:
    async with any_client(kind, shop.url, shop.key(user)) as client:
        claim = await _order(client, shop, user)
        since = await _place(client)

    async with cut_streams(shop.url, lambda n: 700 + 97 * (n % 40)) as proxy:
        async with any_client(kind, proxy.url, shop.key(user)) as client:
            listening = asyncio.create_task(_heard(client, since, "completed"))
            for percent in range(1, 60):
                await shop.progress(claim, percent)
            await shop.complete(claim)
            heard = await listening
        assert proxy.connections > 5
    start = int(since.rpartition("-")[2])
    assert _seqs(heard) == list(range(start + 1, start + 1 + len(heard)))
    assert [event.work.progress for event in heard] == [*range(1, 60), 100]


async def test_a_restarted_server_and_a_forgotten_place_are_survived(
    tmp_path: Path, user: str, kind: str
) -> None:
    async with (
        door_shop(tmp_path / kind, tasks={"poster": POSTER}) as shop,
        any_client(kind, shop.url, shop.key(user)) as client,
    ):
        claim = await _order(client, shop, user)
        since = await _place(client)
        listening = asyncio.create_task(_heard(client, since, "completed"))
        await shop.progress(claim, 10)
        await shop.web.server.stop()
        await shop.progress(claim, 20)
        await shop.web.start()
        await shop.complete(claim)
        heard = await listening
        assert [event.work.progress for event in heard] == [10, 20, 100]
        (event,) = await _heard(client, "abcdefabcdef-7", "completed")
        assert event.kind == "reset" and event.works[0].task_id == claim.task_id


async def test_what_a_stream_says_of_new_changed_and_deleted_works(
    shop: DoorShop, user: str, kind: str
) -> None:
    async with any_client(kind, shop.url, shop.key(user)) as client:
        events = client.each("watch")
        async with contextlib.aclosing(events):  # type: ignore[type-var]
            first = await anext(events)
            assert (first.kind, first.works) == ("init", ())
            with pytest.raises(ValueError):
                _ = first.work
            claim = await _order(client, shop, user)
            kinds = []
            await shop.complete(claim)
            async for event in events:
                kinds.append(event.kind)
                if event.work.has_ended:
                    assert (await client.call("fetch", event.work.images[0])) == shop.picture
                    break
            assert kinds[0] == "add" and set(kinds[1:]) == {"update"}
            await client.call("delete_work", event.work.id)
            assert (await anext(events)).kind == "remove"


async def test_a_task_is_followed_though_all_streams_of_the_user_are_taken(
    shop: DoorShop, user: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LATER", -0.99)  # Retry-After asks for five seconds
    async with any_client(kind, shop.url, shop.key(user)) as client, contextlib.AsyncExitStack() as open_:
        for _ in range(3):
            events: Any = client.each("watch")
            await open_.enter_async_context(contextlib.aclosing(events))
            await anext(events)
        order = await client.call("order", "poster", prompt="wait")
        asked = asyncio.create_task(client.call("wait", order, 80))
        (claim,) = await shop.held_of(user)
        await shop.complete(claim)
        assert (await asked).status == "completed"


async def test_a_task_that_has_ended_is_told_at_once_and_one_whose_work_is_deleted_without_it(
    shop: DoorShop, user: str, kind: str
) -> None:
    async with any_client(kind, shop.url, shop.key(user)) as client:
        order = await client.call("order", "poster", prompt="a fair")
        task = await client.call("wait", order)
        (last,) = [work async for work in client.each("watch_task", order)]
        assert last.has_ended and last.images == task.images
        await client.call("delete_work", task.work_id)
        assert [work async for work in client.each("watch_task", order)] == []


async def test_a_token_that_ends_is_renewed_in_the_middle_of_a_watch(
    shop: DoorShop, user: str, kind: str
) -> None:
    from supervisor.security.tokens import make_user_token
    from tests.support.houses.web_server import SECRET

    given: list[str] = []

    def token() -> str:
        given.append(make_user_token(SECRET, user, ttl_seconds=600 if given else 2))
        return given[-1]

    async with any_client(kind, shop.url, token) as client:
        order = await client.call("order", "poster", prompt="wait")
        asked = asyncio.create_task(client.call("wait", order, 80))
        (claim,) = await shop.held_of(user)
        await until(lambda: len(given) == 2, "the token was renewed")
        await shop.complete(claim)
        assert (await asked).status == "completed"


async def test_a_watch_gives_up_after_an_outage(kind: str) -> None:
    async with any_client(kind, "http://127.0.0.1:9", None) as client:
        with pytest.raises(api.ConnectionFailed):
            [event async for event in client.each("watch", outage_seconds=0.1)]
