"""The event stream over a real server: changes in order, none missing, none twice, and an end in time."""

from __future__ import annotations

import asyncio
import functools
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.security.tokens import make_feed_ticket
from tests.support.changes import make_changes
from tests.support.houses.web_server import SECRET, SseReader, Web, bearer, feed_of, running_web, until


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(
        tmp_path, database_kind, limits={"open_tasks_per_user": 0}, credits={"signup_grant": 100_000}
    ) as running:
        yield running


async def test_init_comes_even_when_there_is_nothing(web: Web, http: aiohttp.ClientSession) -> None:
    async with feed_of(http, web, "o-1") as feed:
        event = await feed.next()
        assert event is not None and event.event == "init"
        assert event.data == {"id": 0, "type": "init", "docChanges": [], "docs": []}
        assert event.id is not None and event.id.endswith("-0")
        assert (
            feed.first_bytes.startswith(b"retry: ") and feed.retry is not None and 500 <= feed.retry <= 10_000
        )
        headers = feed.response.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store, no-transform"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in headers


async def test_a_stream_is_never_compressed(web: Web, http: aiohttp.ClientSession) -> None:
    headers = bearer("o-1") | {"Accept-Encoding": "gzip, deflate, br, zstd"}
    async with http.get(web.url + "/v1/works/feed", headers=headers) as response:
        assert "Content-Encoding" not in response.headers
        event = await SseReader(response).next()
        assert event is not None and event.event == "init"


async def test_a_change_by_plain_sql_reaches_the_stream(web: Web, http: aiohttp.ClientSession) -> None:
    async with feed_of(http, web, "o-1") as feed:
        await feed.next()
        await make_changes(web, "o-1", 1)
        event = await feed.next()
        assert event is not None and event.event == "change"
        (entry,) = event.data["docChanges"]
        assert event.data["id"] == entry["id"] == 1
        assert (entry["dataType"], entry["queueType"]) == ("add", "enqueue")
        assert entry["doc"]["error"]["code"] == "bad_params" and entry["docId"] == entry["doc"]["_id"]


async def test_users_hear_only_of_their_own(web: Web, http: aiohttp.ClientSession) -> None:
    async with feed_of(http, web, "o-1") as mine, feed_of(http, web, "o-2") as theirs:
        await mine.next(), await theirs.next()
        await make_changes(web, "o-2", 3)
        await make_changes(web, "o-1", 1)
        event = await mine.next()
        assert event is not None and event.data["docChanges"][0]["doc"]["user_openid"] == "o-1"
        assert [event.data["id"] for event in await theirs.take(3)] == [1, 2, 3]


async def test_a_burst_of_thousands_arrives_whole_and_in_order(web: Web, http: aiohttp.ClientSession) -> None:
    async with feed_of(http, web, "o-1") as one, feed_of(http, web, "o-1") as two:
        await one.next(), await two.next()
        writing = asyncio.create_task(make_changes(web, "o-1", 3000))
        for feed in (one, two):
            assert [event.data["id"] for event in await feed.take(3000)] == list(range(1, 3001))
        await writing


async def test_streams_opened_amid_changes_have_no_gap_and_no_double(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """Subscribe, then read, then send newer changes, at any moment at which a stream opens."""
    batches = 0

    async def follow() -> None:
        async with feed_of(http, web, "o-1") as feed:
            first = await feed.next()
            assert first is not None and first.event == "init"
            seq = first.data["id"]
            assert len(first.data["docs"]) == min(100, seq)
            while seq < 400:
                event = await feed.next()
                assert event is not None and event.data["id"] == seq + 1
                seq += 1

    async def write() -> None:
        nonlocal batches
        for batches in range(40):  # noqa: B007  # the test waits for it
            await make_changes(web, "o-1", 10)

    writing = asyncio.create_task(write())
    followers = []
    for n in range(9):
        await until(functools.partial(lambda n: batches >= 4 * n, n), "the writer is further on")
        followers.append(asyncio.create_task(follow()))
    await asyncio.gather(writing, *followers)


async def test_a_removed_work_says_so_with_its_last_document(web: Web, http: aiohttp.ClientSession) -> None:
    await make_changes(web, "o-1", 1)
    async with feed_of(http, web, "o-1") as feed:
        first = await feed.next()
        assert first is not None
        doc = first.data["docs"][0]
        async with http.delete(f"{web.url}/v1/works/{doc['_id']}", headers=bearer("o-1")) as response:
            assert response.status == 204
        event = await feed.next()
        assert event is not None
        entry = event.data["docChanges"][0]
        assert (entry["dataType"], entry["queueType"], entry["doc"]) == ("remove", "dequeue", doc)


async def test_a_comment_keeps_an_idle_stream_alive(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, ping_seconds=0.2) as web, feed_of(http, web, "o-1") as feed:
        await feed.next()
        for _ in range(3):
            event = await feed.next(comments=True)
            assert event is not None and event.event == ":"


async def test_the_limit_of_streams_is_429_and_a_closed_stream_frees_its_place(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path, limits={"streams_per_user": 2}) as web:
        async with feed_of(http, web, "o-1") as one, feed_of(http, web, "o-1"):
            await one.next()
            async with http.get(web.url + "/v1/works/feed", headers=bearer("o-1")) as response:
                assert response.status == 429
                assert response.content_type == "application/problem+json"
                assert int(response.headers["Retry-After"]) > 0
            async with feed_of(http, web, "o-2"):
                pass
        await until(lambda: web.context.hub.stream_count == 0, "all streams are given back")
        async with feed_of(http, web, "o-1") as again:
            assert await again.next() is not None


def _raw_feed(web: Web, user: str, *, receive_buffer: int = 0) -> socket.socket:
    """A feed by a bare socket, which can be rude."""
    raw = socket.socket()
    if receive_buffer:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.connect(("127.0.0.1", web.port))
    token = bearer(user)["Authorization"]
    raw.sendall(f"GET /v1/works/feed HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    return raw


async def test_abrupt_disconnects_leave_no_stream_behind(web: Web) -> None:
    sockets = [await asyncio.to_thread(_raw_feed, web, f"o-{n}") for n in range(30)]
    await until(lambda: web.context.hub.stream_count == 30, "30 streams are open")
    for n, raw in enumerate(sockets):
        if n % 2:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
        raw.close()
    await until(lambda: web.context.hub.stream_count == 0, "every place was given back")
    assert web.context.hub.is_idle


async def test_a_client_that_does_not_read_is_cut_off_and_others_are_not(
    web: Web, http: aiohttp.ClientSession
) -> None:
    rude = await asyncio.to_thread(_raw_feed, web, "o-1", receive_buffer=4096)
    await until(lambda: web.context.hub.stream_count == 1, "the rude stream is open")
    async with feed_of(http, web, "o-1") as feed:
        await feed.next()
        await make_changes(web, "o-1", 1500)
        await feed.take(1500)
        await until(lambda: web.context.hub.stream_count == 1, "the rude client was cut off")
        await make_changes(web, "o-1", 1)
        event = await feed.next()
        assert event is not None and event.data["id"] == 1501
    rude.close()


async def test_bye_is_sent_to_every_stream_and_a_slow_reader_delays_no_other(tmp_path: Path) -> None:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        running_web(tmp_path, limits={"streams_per_user": 0}) as web,
    ):
        responses = await asyncio.gather(
            *(http.get(web.url + "/v1/works/feed", headers=bearer("o-1")) for _ in range(200))
        )
        rude = await asyncio.to_thread(_raw_feed, web, "o-1", receive_buffer=4096)
        await until(lambda: web.context.hub.stream_count == 201, "all are open")
        url = web.url
        await web.stop()
        for response in responses:
            feed = SseReader(response)
            events = [event async for event in _all(feed)]
            assert [event.event for event in events] == ["init", "bye"]
            assert events[-1].data == {}
        rude.close()
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(url + "/healthz")
        await web.start()


async def _all(feed: SseReader) -> AsyncIterator[Any]:
    while (event := await feed.next()) is not None:
        yield event


async def test_a_stream_ends_when_its_token_does(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, ping_seconds=0.15) as web:
        headers = bearer("o-1", ttl_seconds=1)
        async with http.get(web.url + "/v1/works/feed", headers=headers) as response:
            assert [event.event async for event in _all(SseReader(response))] == ["init", "bye"]


async def test_a_ticket_opens_a_stream_and_an_old_one_only_reopens_it(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async with http.post(web.url + "/v1/feed-tickets", headers=bearer("o-1")) as response:
        assert response.status == 201
        answer = await response.json()
    assert answer["expires_in"] == 60
    async with http.get(web.url + "/v1/works/feed", params={"ticket": answer["ticket"]}) as response:
        event = await SseReader(response).next()
        assert event is not None and event.event == "init"
        place = event.id
    old = {"ticket": make_feed_ticket(SECRET, "o-1", now=time.time() - 600)}
    async with http.get(web.url + "/v1/works/feed", params=old) as response:
        assert response.status == 401
    async with http.get(
        web.url + "/v1/works/feed", params=old, headers={"Last-Event-ID": "guessed-0"}
    ) as response:
        assert response.status == 401
    async with http.get(
        web.url + "/v1/works/feed", params=old, headers={"Last-Event-ID": str(place)}
    ) as response:
        assert response.status == 200
    too_old = {"ticket": make_feed_ticket(SECRET, "o-1", now=time.time() - 3700)}
    async with http.get(
        web.url + "/v1/works/feed", params=too_old, headers={"Last-Event-ID": str(place)}
    ) as response:
        assert response.status == 401
    async with http.get(
        web.url + "/v1/credits", params={"ticket": answer["ticket"]}, headers={"Host": "x"}
    ) as response:
        assert response.status == 403, "a ticket opens nothing but the feed"


async def test_a_ticket_opens_its_users_feed_alone_though_a_service_has_asked_for_it(
    web: Web, http: aiohttp.ClientSession
) -> None:
    service = bearer("shop", "service") | {"X-User": "o-1"}
    async with http.post(web.url + "/v1/feed-tickets", headers=service) as response:
        ticket = {"ticket": (await response.json())["ticket"]}
    async with http.get(web.url + "/v1/works/feed", params=ticket, headers={"X-User": "o-2"}) as response:
        assert response.status == 403
    async with http.get(web.url + "/v1/works/feed", params=ticket) as response:
        assert response.status == 200
        await SseReader(response).next()
        assert web.context.hub.listens("o-1")


async def test_deliveries_and_clients_are_counted(web: Web, http: aiohttp.ClientSession) -> None:
    async with feed_of(http, web, "o-1") as one, feed_of(http, web, "o-1") as two:
        await one.next(), await two.next()
        await make_changes(web, "o-1", 1)
        await one.next(), await two.next()
        async with http.get(web.url + "/metrics") as response:
            text = await response.text()
    assert "darkroom_feed_clients 2.0" in text
    assert "darkroom_feed_events_total 2.0" in text
    assert "darkroom_feed_delivery_seconds_count 1.0" in text
    assert "darkroom_listener_up 1.0" in text
    assert json.dumps("o-1") not in text
