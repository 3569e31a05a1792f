"""When clients reconnect: spread over a window, and at a set time before a proxy would cut the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.changes import make_changes
from tests.support.houses.web_server import SseReader, Web, bearer, feed_of, running_web, until
from web.feed.reconnection import LOOK_SECONDS, ROTATE_SECONDS, life_of, retry_window, rotation

FEED = "/v1/works/feed"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, ping_seconds=0.15, credits={"signup_grant": 100_000}) as running:
        yield running


def test_the_more_clients_come_back_the_longer_they_take_within_bounds() -> None:
    assert retry_window(0) == retry_window(2000) == (1000, 3000)
    assert retry_window(5000) == (1000, 6000)
    assert retry_window(1_000_000) == (1000, 10_000)


@pytest.mark.parametrize("text", ["", "4", "3601", "-5", "5.5", "1e1", " 30", "٣٠", "99999", "x"])
def test_a_rotation_that_can_t_be_is_none(text: str) -> None:
    assert rotation(text) is None


def test_a_rotation_is_never_late_and_not_for_all_at_once() -> None:
    for text in ("5", "50", "3600"):
        seconds = rotation(text)
        assert seconds is not None and seconds in ROTATE_SECONDS
        assert life_of(seconds, chance=0.0) + LOOK_SECONDS == seconds
        assert 0 < life_of(seconds, chance=0.999) < life_of(seconds, chance=0.0)


async def test_a_stream_rotates_in_good_order_and_resumes_at_its_position(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async with feed_of(http, web, "o-1", path=f"{FEED}?rotate=5") as feed:
        place = (await feed.take(1))[0].id
        events = [event async for event in _rest(feed)]
        assert [event.event for event in events] == ["bye"] and events[0].data == {}
        assert feed.retry is not None and feed.retry <= 500, (
            "one of many that end at different times: come soon"
        )
    await make_changes(web, "o-1", 1)
    async with feed_of(http, web, "o-1", path=f"{FEED}?rotate=5", last_event_id=place) as feed:
        (event,) = await feed.take(1)
        assert event.event == "change" and event.data["id"] == 1


async def test_a_rotation_out_of_bounds_is_422(web: Web, http: aiohttp.ClientSession) -> None:
    for given in ("4", "3601", "soon", ""):
        async with http.get(web.url + FEED, params={"rotate": given}, headers=bearer("o-1")) as response:
            assert response.status == 422
            assert (await response.json())["errors"][0]["pointer"] == "/rotate"
    assert web.context.hub.is_idle


async def test_each_client_gets_its_own_wait_at_a_stop(web: Web) -> None:
    async with aiohttp.ClientSession() as http:
        responses = await asyncio.gather(
            *(http.get(web.url + FEED, headers=bearer(f"o-{n}")) for n in range(20))
        )
        await until(lambda: web.context.hub.stream_count == 20, "all are open")
        await web.stop()
        waits = []
        for response in responses:
            feed = SseReader(response)
            assert [event.event async for event in _rest(feed)] == ["init", "bye"]
            waits.append(feed.retry)
        assert all(wait is not None and 1000 <= wait <= 3000 for wait in waits) and len(set(waits)) > 10
        await web.start()


async def _rest(feed: SseReader) -> AsyncIterator[object]:
    while (event := await feed.next()) is not None:
        yield event
