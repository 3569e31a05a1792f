"""`useWorks` of React and of Vue, bundled and shown by a real browser, against a real server through bad networks."""

from __future__ import annotations

import asyncio
import functools
import http.server
import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, DRIVER, Browser
from tests.support.clients.npm_package import Project, packed
from tests.support.houses.door_shop import DoorShop, door_shop
from tests.support.npm_packages import NODE, NPM
from tests.support.servers.faulty_proxy import FEED, FaultyProxy
from tests.support.waiting import eventually

IS_MISSING = not (NODE and NPM and CHROMIUM.exists() and DRIVER.exists()) and not os.environ.get("CI")
pytestmark = [pytest.mark.system, pytest.mark.skipif(IS_MISSING, reason="there is no Node or no Chromium")]

PAGES = {"react": "hook.tsx", "vue": "composable.ts"}
USER = "o-1"
TYPES = {"poster": {"inputs": {"images": [0, 4]}}, "flyer": {"inputs": {"images": [0, 4]}}}


class Site:
    """The pages, served from an address of their own."""

    def __init__(self, project: Project) -> None:
        self.project, folder = project, project.folder / "out"

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

        handler = functools.partial(Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    project = Project(tmp_path_factory.mktemp("app"), packed(tmp_path_factory.mktemp("packed")))
    for framework, program in PAGES.items():
        project.take(program)
        script = project.bundled(
            program, "--jsx=automatic", '--define:process.env.NODE_ENV="development"',
            "--define:__VUE_OPTIONS_API__=true", "--define:__VUE_PROD_DEVTOOLS__=false",
            "--define:__VUE_PROD_HYDRATION_MISMATCH_DETAILS__=false",
        )  # fmt: skip
        page = f'<!doctype html><title>{framework}</title><link rel="icon" href="data:,"><main></main>'
        page += f'<script type="module" src="{script.name}"></script>'
        (script.parent / f"{framework}.html").write_text(page)
    running = Site(project)
    yield running
    running.end()


@pytest.fixture
async def shop(tmp_path: Path, site: Site) -> AsyncIterator[DoorShop]:
    async with door_shop(
        tmp_path, tasks=TYPES, allowed_origins=site.url, credits={"signup_grant": 50}
    ) as running:
        yield running


@pytest.fixture
async def proxy(shop: DoorShop) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(shop.url).running() as running:
        yield running


class Page:
    """A page in a browser, asked in a thread."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser

    async def text(self, selector: str) -> str:
        return await asyncio.to_thread(self._browser.text, selector)

    async def click(self, selector: str) -> None:
        await asyncio.to_thread(lambda: self._browser.find(selector).click())

    async def js(self, script: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(self._browser.js, script, *arguments)

    async def shows(self, selector: str, text: str) -> None:
        await asyncio.to_thread(
            eventually, f"{selector} shows '{text}'", lambda: text in self._browser.text(selector)
        )

    async def holds(self, claim: str, script: str) -> None:
        await asyncio.to_thread(eventually, claim, lambda: self._browser.js(script))

    async def complaints(self) -> list[str]:
        return await asyncio.to_thread(self._browser.complaints)


@pytest.fixture(params=list(PAGES))
async def page(
    request: pytest.FixtureRequest, site: Site, shop: DoorShop, proxy: FaultyProxy
) -> AsyncIterator[Page]:
    browser = await asyncio.to_thread(Browser, "about:blank")
    address = f"{site.url}/{request.param}.html#baseUrl={proxy.url}&token={shop.key(USER)}"
    try:
        await asyncio.to_thread(browser.driver.get, address)
        yield Page(browser)
    finally:
        await asyncio.to_thread(browser.quit)


async def test_a_component_shows_works_as_they_are_over_cuts_of_the_link(
    shop: DoorShop, proxy: FaultyProxy, page: Page
) -> None:
    await page.shows("#state", "live")
    await page.click("#order")
    (claim,) = await shop.held_of(USER)
    for percent in (30, 60):
        await shop.progress(claim, percent)
        await page.shows("li", f"{percent} %")
        proxy.cut()
    await shop.complete(claim)
    await page.shows("li", "completed")
    await page.holds("its picture is there", "return document.querySelector('li img')?.naturalWidth > 0")
    assert await page.text("#count") == "1" and await page.text("#error") == ""
    assert await page.text("#told") == await page.js("return document.querySelector('li').id")
    assert shop.debits(USER) == 1 and len(proxy.asked(FEED)) > 1


async def test_two_components_share_a_stream_and_the_last_one_ends_it(proxy: FaultyProxy, page: Page) -> None:
    for _ in range(2):
        await page.shows("#state", "live")
        await asyncio.to_thread(eventually, "one stream is open", lambda: proxy.open_streams == 1)
        await page.click("#hide")
        await asyncio.to_thread(eventually, "nothing is open", lambda: proxy.open_streams == 0)
        await page.click("#hide")
    assert [each for each in await page.complaints() if "React DevTools" not in each] == []


async def test_another_query_shows_nothing_of_the_one_before(shop: DoorShop, page: Page) -> None:
    await page.shows("#state", "live")
    await page.click("#order")
    await page.shows("li", "%")
    seen = """window.seen = new Set();
        new MutationObserver(() => seen.add(`${document.querySelector("#type").textContent} ${
            document.querySelectorAll("li").length} ${document.querySelector("#state")?.textContent}`))
            .observe(document.querySelector("main"), { subtree: true, childList: true, characterData: true });"""
    await page.js(seen)
    await page.click("#type")
    await page.shows("#type", "flyer")
    await page.shows("#state", "live")
    told = await page.js("return [...seen]")
    assert not [each for each in told if each.startswith("flyer 1")], told
    assert await page.text("#count") == "1" and await page.text("li") == ""
    await page.click("#order")
    await page.shows("#count", "2")
    await page.holds("one flyer", "return document.querySelectorAll('li').length === 1")


async def test_an_order_that_is_refused_is_an_error_with_the_servers_sentence(
    shop: DoorShop, page: Page
) -> None:
    await page.shows("#state", "live")
    await page.click("#wrong")
    await page.shows("#told", "422 ")
    assert "4000" in await page.text("#told") and not shop.tasks(USER)


async def test_a_server_that_is_away_is_an_error_until_it_is_back(proxy: FaultyProxy, page: Page) -> None:
    await page.shows("#state", "live")
    proxy.is_down = True
    proxy.cut()
    await page.shows("#state", "lost")
    await page.click("#hide")
    await page.click("#hide")
    await page.shows("#error", "Darkroom can't be reached")
    assert await page.text("#state") == "loading"
    proxy.is_down = False
    await page.shows("#state", "live")
    assert await page.text("#error") == ""


@pytest.mark.parametrize("page", ["react"], indirect=True)
async def test_reacts_memo_holds_for_works_that_have_not_changed(shop: DoorShop, page: Page) -> None:
    await page.shows("#state", "live")
    await page.click("#order")
    (first,) = await shop.held_of(USER)
    await page.click("#order")
    await page.shows("#count", "2")
    _, second = await shop.held_of(USER, 2)
    await page.holds(
        "both run",
        "return [...document.querySelectorAll('li')].every((item) => /processing/.test(item.textContent))",
    )
    before = await page.js("return {...drawn}")
    for percent in (10, 20, 30):
        await shop.progress(second, percent)
        await page.shows("ul", f"{percent} %")
    after = await page.js("return {...drawn}")
    moved = {work for work in after if after[work] != before.get(work, 0)}
    (works,) = shop.web.sql("SELECT work_id FROM task_queue WHERE id = ?", second.task_id)
    assert moved == {works[0]} and first.task_id != second.task_id


SERVER_SIDE = {
    "react": """
        import { createElement } from "react";
        import { renderToString } from "react-dom/server";
        import { useWorks } from "darkroom-client/react";
        const App = () => { const { works, isLoading } = useWorks(db); return `${works.length} ${isLoading}`; };
        console.log(renderToString(createElement(App)), asked);""",
    "vue": """
        import { createSSRApp } from "vue";
        import { renderToString } from "vue/server-renderer";
        import { useWorks } from "darkroom-client/vue";
        const setup = () => {
          const { works, isLoading } = useWorks(db);
          return () => `${works.value.length} ${isLoading.value}`;
        };
        console.log(await renderToString(createSSRApp({ setup })), asked);""",
}


@pytest.mark.parametrize("framework", SERVER_SIDE)
def test_a_page_that_is_made_on_a_server_watches_nothing(site: Site, framework: str) -> None:
    database = """
        import { database } from "darkroom-client";
        const db = database({ baseUrl: "http://127.0.0.1:1", token: "t" });
        let asked = 0;
        globalThis.fetch = () => { asked += 1; return new Promise(() => {}); };"""
    assert site.project.node_says(database + SERVER_SIDE[framework]) == "0 true 0"
