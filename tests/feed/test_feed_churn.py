"""Clients that vanish at any moment leave no stream behind, and old clients are served."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.changes import make_changes
from tests.support.clients.vanishing import vanish
from tests.support.houses.web_server import Web, bearer, feed_of, running_web, until

FEED = "/v1/works/feed"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, limits={"streams_per_user": 0, "open_tasks_per_user": 0}) as running:
        yield running


async def test_streams_that_vanish_at_any_moment_leave_no_stream_and_no_error(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as http, feed_of(http, web, "o-1") as steady:
        await steady.next()
        header = f"Authorization: {bearer('o-1')['Authorization']}"
        leaving = asyncio.create_task(asyncio.to_thread(vanish, web.port, header, 400, random.Random(3)))
        told = 0
        while not leaving.done():
            await make_changes(web, "o-1", 3)
            told += 3
        await leaving
        assert [event.data["id"] for event in await steady.take(told)] == list(range(1, told + 1))
        await until(lambda: web.context.hub.stream_count == 1, "only the steady stream is left")
    await until(lambda: web.connections() == 0 and web.context.hub.is_idle, "nothing is left")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_of_http_1_0_gets_the_stream_as_it_is(web: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    token = bearer("o-1")["Authorization"]
    writer.write(f"GET {FEED} HTTP/1.0\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"200 OK" in head and b"chunked" not in head.lower()
        assert (await reader.readuntil(b"\n\n")).startswith(b"retry: ")
        assert (await reader.readuntil(b"\n\n")).startswith(b"id: ")
        for seq in (1, 2):
            await make_changes(web, "o-1", 1)
            assert (await reader.readuntil(b"\n\n")).split(b"\n")[0].endswith(b"-%d" % seq)
    writer.close()


async def test_a_stream_has_no_head_alone(web: Web) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.head(web.url + FEED, headers=bearer("o-1")) as response,
    ):
        assert response.status == 405 and response.headers["Allow"] == "GET"
    assert web.context.hub.is_idle


async def test_a_slow_client_gets_everything_and_fills_no_memory(web: Web) -> None:
    """Its kernel takes no more, its queue overflows, the log takes over; it reads on, so it is not cut off."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await asyncio.to_thread(slow.connect, ("127.0.0.1", web.port))
    token = bearer("o-1")["Authorization"]
    slow.sendall(f"GET {FEED} HTTP/1.0\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
    await until(lambda: web.context.hub.stream_count == 1, "it is open")
    slow.setblocking(False)
    loop, received = asyncio.get_running_loop(), bytearray()

    async def sip() -> None:
        while b'"id":2500,"docChanges"' not in received:
            received.extend(await loop.sock_recv(slow, 3000))
            await asyncio.sleep(0.0005)

    sipping = asyncio.create_task(sip())
    await make_changes(web, "o-1", 2500)
    async with asyncio.timeout(60):
        await sipping
    seqs = [int(line.partition(b"-")[2]) for line in received.split(b"\n") if line.startswith(b"id: ")]
    assert seqs == list(range(2501))
    slow.close()
