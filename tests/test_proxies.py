"""Behind nginx and Caddy as deploy/ configures them: streams flow, resume, and nothing is opened that was shut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fake_wechat import APP_ID, APP_SECRET
from tests.proxies import CADDY, NGINX, Proxy
from tests.test_feed_stream import make_changes
from tests.web_server import SseReader, Web, bearer, picture_bytes, running_web, until

FEED = "/v1/works/feed"

pytestmark = pytest.mark.system


@pytest.fixture(
    params=[
        pytest.param(
            kind,
            marks=pytest.mark.skipif(
                program is None and not os.environ.get("CI"), reason=f"there is no {kind}"
            ),
        )
        for kind, program in (("nginx", NGINX), ("caddy", CADDY))
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def _behind(kind: str, folder: Path, **settings: Any) -> AsyncIterator[tuple[Web, Proxy]]:
    async with running_web(folder / "web", ping_seconds=1.0, **settings) as web:
        (folder / "proxy").mkdir()
        proxy = Proxy(kind, folder / "proxy", web.port)
        await proxy.start()
        try:
            yield web, proxy
        finally:
            await proxy.stop()


async def test_an_event_arrives_while_the_stream_stays_open_and_who_leaves_is_let_go(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (web, proxy):
        headers = bearer("o-1") | {"Accept-Encoding": "gzip, br, zstd"}
        async with http.get(proxy.url + FEED, headers=headers) as response:
            assert response.status == 200 and "Content-Encoding" not in response.headers
            assert response.headers["Content-Type"] == "text/event-stream"
            feed = SseReader(response)
            await feed.take(1)
            for seq in (1, 2, 3):
                await make_changes(web, "o-1", 1)
                started = time.monotonic()
                assert (await feed.take(1))[0].data["id"] == seq
                assert time.monotonic() - started < 5, "not held back until a buffer is full"
            while (event := await feed.next(comments=True)) is not None and event.event != ":":
                pass
            assert event is not None, "comments pass too"
        await until(lambda: web.parts.hub.is_idle, "the proxy has let the stream go")


async def test_a_stream_goes_on_after_a_restart_of_the_proxy(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (web, proxy):
        headers, seen = bearer("o-1"), 0
        for _ in range(2):
            async with http.get(proxy.url + FEED, headers=headers) as response:
                feed = SseReader(response)
                if not seen:
                    await feed.take(1)
                await make_changes(web, "o-1", 5)
                for event in await feed.take(5):
                    seen += 1
                    assert event.event == "change" and event.data["id"] == seen
                headers["Last-Event-ID"] = str(event.id)
                await proxy.stop()
                with contextlib.suppress(aiohttp.ClientError):
                    assert await feed.next() is None, "the stream has ended"
            with pytest.raises(aiohttp.ClientConnectionError):
                await http.get(proxy.url + FEED, headers=headers)
            await proxy.start()


async def test_a_stream_goes_on_after_a_restart_of_the_web_part_behind_the_proxy(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (web, proxy):
        async with http.get(proxy.url + FEED, headers=bearer("o-1")) as response:
            feed = SseReader(response)
            place = str((await feed.take(1))[0].id)
            await web.stop()
            assert [event.event for event in await feed.take(1)] == ["bye"] and await feed.next() is None
        async with http.get(proxy.url + FEED, headers=bearer("o-1")) as response:
            assert (
                response.status == (503 if kind == "nginx" else 502)
                and response.content_type == "application/problem+json"
            )
            assert (await response.json())["status"] == response.status
        await web.start()
        await make_changes(web, "o-1", 1)
        async with http.get(proxy.url + FEED, headers=bearer("o-1") | {"Last-Event-ID": place}) as response:
            assert (await SseReader(response).take(1))[0].data["id"] == 1


async def test_a_photo_of_twenty_megabytes_passes_and_a_larger_one_is_a_problem(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (_, proxy):
        photo = await asyncio.to_thread(picture_bytes, "BMP", (2640, 2640))
        assert 20_900_000 < len(photo) <= 20_971_520
        form = aiohttp.FormData()
        form.add_field("image", photo, filename="a.bmp", content_type="image/bmp")
        async with http.post(proxy.url + "/v1/images", data=form, headers=bearer("o-1")) as response:
            assert response.status == 201, await response.text()
            assert (await response.json())["width"] == 2640
        too_large = bearer("o-1") | {"Content-Type": "image/bmp"}
        for beyond in (20_971_521, 23_100_000):  # by us, by the proxy
            async with http.post(proxy.url + "/v1/images", data=bytes(beyond), headers=too_large) as response:
                assert response.status == 413 and response.content_type == "application/problem+json"


async def test_nobody_is_the_demo_user_through_a_proxy_and_metrics_stay_inside(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path) as (web, proxy):
        local = {"Host": f"127.0.0.1:{web.port}"}
        for headers in ({}, local, local | {"X-Forwarded-For": "127.0.0.1"}):
            async with http.get(proxy.url + "/v1/credits", headers=headers) as response:
                assert response.status == 403
        async with http.get(proxy.url + "/metrics") as response:
            assert response.status == 403
        async with http.get(proxy.url + "/readyz") as response:
            assert response.status == 200


async def test_each_client_has_its_own_limit_of_logins_and_can_t_claim_another_address(
    kind: str, tmp_path: Path
) -> None:
    wechat = {"app_id": APP_ID, "app_secret": APP_SECRET, "url": "http://127.0.0.1:1"}
    settings = {"wechat": wechat, "limits": {"logins_per_minute": 1}, "demo_user": False}
    async with _behind(kind, tmp_path, **settings) as (_, proxy):
        statuses = []
        for number, client in enumerate(["127.0.0.2", "127.0.0.2", "127.0.0.3"]):
            connector = aiohttp.TCPConnector(local_addr=(client, 0))
            async with aiohttp.ClientSession(connector=connector) as http:
                claim = {"X-Forwarded-For": f"203.0.113.{number}"}
                async with http.post(
                    proxy.url + "/v1/auth/wechat", json={"code": "x"}, headers=claim
                ) as response:
                    statuses.append(response.status)
        assert statuses == [502, 429, 502], "WeChat is away; the second is stopped before it is asked"


async def test_what_proves_something_is_in_no_log_of_the_proxy(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (_, proxy):
        async with http.post(proxy.url + "/v1/feed-tickets", headers=bearer("o-1")) as response:
            ticket = (await response.json())["ticket"]
        async with http.get(proxy.url + FEED, params={"ticket": ticket}) as response:
            assert response.status == 200
            await SseReader(response).take(1)
        await proxy.stop()
        logs = "".join(path.read_text() for path in (tmp_path / "proxy").glob("*.log"))
        assert ticket not in logs and ticket.rpartition(".")[2] not in logs
