"""Behind nginx and Caddy as deploy/ configures them: streams flow and resume, and nothing private becomes public."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.security.tokens import make_feed_ticket, make_user_token
from tests.support.browser import Browser
from tests.support.changes import make_changes
from tests.support.clients.node_client import FRONT_ENDS, NODE, node_client
from tests.support.fakes.fake_wechat import APP_ID, APP_SECRET
from tests.support.houses.web_server import SECRET, SseReader, Web, bearer, picture_bytes, running_web, until
from tests.support.npm_packages import npm_packages
from tests.support.servers.faulty_proxy import FaultyProxy
from tests.support.servers.proxies import CADDY, NGINX, Proxy
from web.app.pages import static_files

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


async def test_an_event_arrives_while_the_stream_stays_open_and_a_client_that_leaves_is_released(
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
                assert (await feed.take(1))[0].data["id"] == seq, "not held back until a buffer is full"
            while (event := await feed.next(comments=True)) is not None and event.event != ":":
                pass
            assert event is not None, "comments pass too"
        await until(lambda: web.context.hub.is_idle, "the proxy has let the stream go")


async def test_a_stream_continues_after_a_restart_of_the_proxy(
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


async def test_a_stream_continues_after_a_restart_of_web_behind_the_proxy(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (web, proxy):
        async with http.get(proxy.url + FEED, headers=bearer("o-1")) as response:
            feed = SseReader(response)
            place = str((await feed.take(1))[0].id)
            await web.stop()
            assert [event.event for event in await feed.take(1)] == ["bye"] and await feed.next() is None
        async with http.get(proxy.url + FEED, headers=bearer("o-1")) as response:
            assert response.status == 200 and response.content_type == "text/event-stream"
            assert "Content-Encoding" not in response.headers
            feed = SseReader(response)
            assert [event.event for event in await feed.take(1)] == ["away"] and await feed.next() is None
            assert feed.retry == 3000
        async with http.get(proxy.url + "/v1/credits", headers=bearer("o-1")) as response:
            assert response.status == (503 if kind == "nginx" else 502), "of all else it is said as it is"
            assert response.content_type == "application/problem+json"
            assert (await response.json())["status"] == response.status
        await web.start()
        await make_changes(web, "o-1", 1)
        async with http.get(proxy.url + FEED, headers=bearer("o-1") | {"Last-Event-ID": place}) as response:
            assert (await SseReader(response).take(1))[0].data["id"] == 1


class Heard:
    """The events of a plain EventSource, and how often it lost its stream; `state` 2 means that it has given up."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    async def until(self, what: str, condition: Callable[[], Any]) -> None:
        def holds() -> bool:
            assert all(line["state"] != 2 for line in self.lines), self.lines[-3:]
            return bool(condition())

        await until(holds, what)

    def times(self, event: str) -> int:
        return sum(line["event"] == event for line in self.lines)

    def seqs(self) -> list[int]:
        """Of all changes, in the order in which they came."""
        return [line["data"]["id"] for line in self.lines if line["event"] == "change"]


@contextlib.asynccontextmanager
async def _npm_client(address: str) -> AsyncIterator[Heard]:
    heard = Heard()
    packages = await asyncio.to_thread(npm_packages)
    process = await asyncio.create_subprocess_exec(
        NODE or "node", str(FRONT_ENDS / "event_source.mjs"), str(packages), address,
        stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            heard.lines.append(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        yield heard
    finally:
        process.kill()
        await process.wait()
        await reading


_IN_A_PAGE = """window.lines = [];
    const source = new EventSource(arguments[0]);
    const say = (event, data) => lines.push({ event, data, state: source.readyState });
    for (const name of ["init", "reset", "change", "away"])
        source.addEventListener(name, ({ data }) => say(name, JSON.parse(data)));
    source.addEventListener("error", () => say("error", null));"""


@contextlib.asynccontextmanager
async def _chromium(page: str, address: str) -> AsyncIterator[Heard]:
    """page: where the EventSource runs; on another origin than its address it needs leave."""
    heard = Heard()
    browser = await asyncio.to_thread(Browser, page)

    async def read() -> None:
        while True:
            heard.lines = await asyncio.to_thread(browser.js, "return window.lines")
            await asyncio.sleep(0.05)

    try:
        # The page stands for an app's own, which has a policy of its own and not that of our /healthz.
        await asyncio.to_thread(browser.driver.execute_cdp_cmd, "Page.setBypassCSP", {"enabled": True})
        await asyncio.to_thread(browser.driver.get, page)
        await asyncio.to_thread(browser.js, _IN_A_PAGE, address)
        reading = asyncio.create_task(read())
        try:
            yield heard
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    finally:
        await asyncio.to_thread(browser.quit)


@pytest.mark.parametrize("client", ["npm", "chromium", "chromium on another origin"])
async def test_a_plain_event_source_survives_a_restart_of_the_web_part(
    kind: str, client: str, tmp_path: Path
) -> None:
    """A 503 ends it for good, and so would an answer that another origin may not read."""
    async with _behind(kind, tmp_path, demo_user=False, allowed_origins="*") as (web, proxy):
        address = f"{proxy.url}{FEED}?ticket={make_feed_ticket(SECRET, 'o-1')}"
        page = (proxy.url if client == "chromium" else web.url) + "/healthz"
        opened = _npm_client(address) if client == "npm" else _chromium(page, address)
        async with opened as heard:
            await heard.until("it gets the list", lambda: heard.times("init"))
            await make_changes(web, "o-1", 2)
            await heard.until("changes come", lambda: heard.seqs() == [1, 2])
            web.context.hub.is_closing = True  # Darkroom's own 503
            for stream in list(web.context.hub._streams["o-1"]):
                stream.end()
            await heard.until("it has asked while web says 503", lambda: heard.times("away"))
            await web.stop()
            before = heard.times("away")
            await heard.until(
                "it has asked twice while web is away", lambda: heard.times("away") > before + 1
            )
            await web.start()
            await make_changes(web, "o-1", 2)
            await heard.until("it goes on where it was", lambda: heard.seqs() == [1, 2, 3, 4])
            assert heard.times("init") == 1 and heard.times("reset") == 0


async def test_the_js_client_does_not_take_a_proxy_s_answer_for_darkroom_s(kind: str, tmp_path: Path) -> None:
    module, token = tmp_path / "darkroom.mjs", make_user_token(SECRET, "o-1", ttl_seconds=600)
    module.write_bytes(static_files()["darkroom.js"].body)
    async with (
        _behind(kind, tmp_path, demo_user=False) as (web, proxy),
        FaultyProxy(proxy.url).running() as between,
        node_client(module, between.url, token, timing={"longestPauseMs": 1000}) as page,
    ):
        page.do("watch")
        await page.until(lambda: page.states()[-1:] == ["live"], "it streams")
        await web.stop()
        await page.until(lambda: page.states()[-1] == "lost", "it has lost its stream")
        asked = len(between.asked(FEED))
        await page.until(lambda: len(between.asked(FEED)) > asked + 4, "it asks again and again")
        assert page.states()[-2:] == ["live", "lost"], "nor has it been live since"
        await web.start()
        await make_changes(web, "o-1", 1)
        await page.until(lambda: len(page.docs()) == 1, "it goes on")
        assert page.states()[-1] == "live" and not page.errors()


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
            begun = photo[:64] + bytes(beyond - 64)
            async with http.post(proxy.url + "/v1/images", data=begun, headers=too_large) as response:
                assert response.status == 413 and response.content_type == "application/problem+json"


async def test_a_proxy_gives_no_access_as_the_demo_user_or_to_metrics(
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


async def test_the_proxys_log_holds_no_credential(
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


async def test_while_web_is_away_no_log_of_the_proxy_holds_what_proves_something_and_errors_are_json(
    kind: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with _behind(kind, tmp_path, demo_user=False) as (web, proxy):
        await web.stop()
        try:
            proofs = {
                f"{FEED}?ticket=tell-nobody-1&x=1": FEED,
                "/files/results/a.jpg?exp=1&sig=tell-nobody-2": "/files/results/a.jpg",
                "/v1/callbacks/tell-nobody-3": None,
                "/a%22,%22b%5C%0a%00/c": None,
                '/a"b': None,
                "/v1/tasks?limit=3": "/v1/tasks",
            }
            for path, instance in proofs.items():
                target = aiohttp.client.URL(proxy.url + path, encoded=True)
                async with http.get(target, headers=bearer("o-1")) as response:
                    if "%00" in path and response.status == 400:  # nginx itself refuses that one
                        continue
                    text = await response.text()
                    assert "tell-nobody" not in text
                    if path.startswith(FEED):
                        assert response.status == 200 and "event: away" in text
                    else:
                        assert response.content_type == "application/problem+json"
                        problem = json.loads(text)
                        assert response.status in (502, 503) and problem["status"] == response.status
                        assert instance is None or problem["instance"] == instance
                    assert response.headers["X-Content-Type-Options"] == "nosniff"
                    assert not any(mark.isdigit() for mark in response.headers.get("Server", ""))
                    assert "Strict-Transport-Security" not in response.headers, (
                        "by plain http it would mean nothing"
                    )
            await proxy.stop()
            logs = "".join(path.read_text() for path in (tmp_path / "proxy").glob("*.log"))
            assert "tell-nobody" not in logs
        finally:
            await web.start()


@pytest.mark.skipif(NGINX is None and not os.environ.get("CI"), reason="there is no nginx")
@pytest.mark.parametrize("version", ["", "proxy_http_version 1.1;"])
async def test_a_bare_proxy_pass_before_a_default_instance_makes_no_browser_operator(
    tmp_path: Path, http: aiohttp.ClientSession, version: str
) -> None:
    async with running_web(tmp_path / "web") as web:
        (tmp_path / "proxy").mkdir()
        site = (
            f"server {{ listen 127.0.0.1:80; {version} location / {{ proxy_pass http://127.0.0.1:8000; }} }}"
        )
        proxy = Proxy("nginx", tmp_path / "proxy", web.port, site=site)
        await proxy.start()
        try:
            for headers in ({}, {"Sec-Fetch-Site": "none"}, {"Origin": f"http://127.0.0.1:{web.port}"}):
                async with http.get(proxy.url + "/v1/ops/overview", headers=headers) as response:
                    silent = (
                        version and not headers
                    )  # as the page says: no guard knows it from a program here
                    assert response.status == (200 if silent else 403)
        finally:
            await proxy.stop()


async def test_answers_over_tls_ask_for_tls_from_then_on(kind: str) -> None:
    folder = Path(__file__).parents[2] / "deploy"
    text = (folder / {"nginx": "nginx/darkroom.conf", "caddy": "caddy/Caddyfile"}[kind]).read_text()
    assert text.count("Strict-Transport-Security") == {"nginx": 4, "caddy": 2}[kind]
