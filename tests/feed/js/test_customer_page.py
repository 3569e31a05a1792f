"""A page written for `wx.cloud.database()`, with one line changed, through the usual faults of phones and servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from supervisor.security.tokens import make_user_token
from tests.support.clients.node_client import FRONT_ENDS, NODE, QUICK, NodeClient, node_page
from tests.support.houses.shop import USER, Shop
from tests.support.houses.web_server import SECRET, Web
from tests.support.repository import ROOT
from tests.support.servers.faulty_proxy import CHANGES, FEED, FaultyProxy
from web.app.pages import CLIENT_TWIN, static_files

CUSTOMERS = ROOT.parent / "shared" / "cases" / "customer" / "works.js"
DONE = "作品生成完成"

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="there is no Node"),
]
theirs = pytest.mark.skipif(
    not CUSTOMERS.exists() and not os.environ.get("CI"), reason="the customer's page is not here"
)

Phone = Callable[..., AbstractAsyncContextManager[NodeClient]]


@pytest.fixture
def phone(proxy: FaultyProxy, tmp_path: Path) -> Phone:
    module = tmp_path / "darkroom.cjs"
    module.write_bytes(static_files()[CLIENT_TWIN].body)
    token = make_user_token(SECRET, USER, "user", ttl_seconds=600)

    def make(page: Path = CUSTOMERS, **settings: Any) -> Any:
        return node_page(page, module, proxy.url, token, USER, **{"timing": QUICK, **settings})

    return make


def shown(page: NodeClient) -> list[tuple[str, str, int]]:
    works = page.told("works")
    return [(work["_id"], work["status"], work["progress"]) for work in works[-1]] if works else []


async def shows_the_truth(page: NodeClient, shop: Shop, what: str) -> None:
    """Each work once, as the database has it; works of one millisecond have no order among them."""
    await page.until(lambda: sorted(shown(page)) == sorted(shop.truth()), what)


async def is_watching(page: NodeClient, proxy: FaultyProxy) -> None:
    await page.until(lambda: page.told("works") and proxy.open_streams, "it shows a list and watches")


@theirs
async def test_the_customers_page_shows_orders_progress_ends_and_removals(
    web: Web, proxy: FaultyProxy, phone: Phone
) -> None:
    shop = Shop(web)
    async with phone() as page:
        await is_watching(page, proxy)
        await shop.order(4)
        await shows_the_truth(page, shop, "new orders")
        done, failed, running, waiting = await shop.claim()
        await shop.progress(running, 40)
        await shop.fail(failed)
        await shop.cancel(waiting.task_id)
        await shop.complete(done)
        await shows_the_truth(page, shop, "progress and ends")
        assert {status for _, status, _ in shown(page)} == {"completed", "failed", "cancelled", "processing"}
        await shop.remove(shown(page)[0][0])
        await shows_the_truth(page, shop, "a work less")
        assert page.told("toast") == [DONE] and not page.told("error")


@theirs
@pytest.mark.parametrize("later", [FEED, CHANGES], ids=["the watch", "the list"])
async def test_an_order_that_comes_while_the_page_loads_its_list_is_shown_once(
    web: Web, proxy: FaultyProxy, phone: Phone, later: str
) -> None:
    shop, gate = Shop(web), asyncio.Event()
    proxy.gates = {later: gate}
    async with phone(timing={}) as page:
        if later == FEED:
            await page.until(
                lambda: page.told("works"), "an empty list, and then an order before the watch begins"
            )
        else:
            await page.until(
                lambda: proxy.asked(CHANGES) and proxy.open_streams, "the watch is ahead of the list"
            )
        await shop.order(1)
        if later == CHANGES:
            await page.until(lambda: page.told("works"), "the watch has shown it")
        gate.set()
        if later == CHANGES:
            before = len(page.told("works"))
            await page.until(lambda: len(page.told("works")) > before, "the list has come")
        await shows_the_truth(page, shop, "the order, once")


async def test_a_page_keeps_its_list_by_whichever_words_it_knows(
    web: Web, proxy: FaultyProxy, phone: Phone
) -> None:
    shop = Shop(web)
    async with phone(FRONT_ENDS / "three_switches.js") as page:
        await page.until(lambda: page.told("works"), "a first list")
        await shop.order(3)
        claims = await shop.claim()
        await shop.complete(claims[0])
        await shop.fail(claims[1])
        await page.until(lambda: "failed" in str(page.told("works")[-1]), "they come")
        await shop.remove(shop.truth()[0][0])
        truth = sorted(f"{id_} {status}" for id_, status, _ in shop.truth())
        await page.until(
            lambda: (
                {name: sorted(works) for name, works in page.told("works")[-1].items()}
                == {"names": truth, "queue": truth, "data": truth}
            ),
            "each list holds each work once",
        )


@theirs
@pytest.mark.parametrize("is_log_kept", [True, False], ids=["short", "longer than the log"])
async def test_after_an_absence_the_customers_page_shows_the_changes(
    web: Web, proxy: FaultyProxy, phone: Phone, is_log_kept: bool
) -> None:
    shop = Shop(web)
    async with phone() as page:
        await is_watching(page, proxy)
        await shop.order(4)
        one, two, *_ = await shop.claim()
        await shop.progress(one, 27)
        await shop.progress(two, 27)
        await shows_the_truth(page, shop, "two at 27 %")
        proxy.is_down = True
        proxy.cut()
        await shop.complete(one)
        await shop.progress(two, 60)
        await shop.remove(next(id_ for id_, _, progress in shown(page) if progress == 0))
        await shop.order(2)
        if not is_log_kept:
            web.sql("DELETE FROM work_change")
        proxy.is_down = False
        await shows_the_truth(page, shop, "all that has changed")
        assert page.told("toast") == [DONE] and not page.told("error")


@theirs
@pytest.mark.parametrize("web", [{"file_link_seconds": 48}], indirect=True)  # another link every 2 s
async def test_new_links_are_no_news_for_the_customers_page(
    web: Web, proxy: FaultyProxy, phone: Phone
) -> None:
    shop = Shop(web)
    async with phone(timing={**QUICK, "linksAtMostEveryMs": 400}) as page:
        await is_watching(page, proxy)
        await shop.order(3)
        for claim in await shop.claim():
            await shop.complete(claim)
        await shows_the_truth(page, shop, "three are done")
        renewals = len(proxy.asked("/v1/works"))
        await page.until(lambda: len(proxy.asked("/v1/works")) > renewals + 5, "links are renewed")
        assert page.told("toast") == [DONE] * 3


@theirs
async def test_no_work_falls_out_of_the_customers_page_because_a_newer_one_comes(
    web: Web, proxy: FaultyProxy, phone: Phone
) -> None:
    shop = Shop(web)
    await shop.order(130)
    async with phone() as page:
        await is_watching(page, proxy)
        for n in range(20, 130, 20):
            page.do("call", name="loadWorks", args=[n])
            await page.until(lambda n=n: len(shown(page)) == min(n + 20, 130), "an older page")
        await shows_the_truth(page, shop, "all 130")
        await shop.order(5)
        await shows_the_truth(page, shop, "135")


@theirs
async def test_a_restart_of_web_is_no_news_for_the_customers_page(
    web: Web, proxy: FaultyProxy, phone: Phone
) -> None:
    shop = Shop(web)
    async with phone() as page:
        await is_watching(page, proxy)
        await shop.order(2)
        await shows_the_truth(page, shop, "two works")
        await web.stop()
        await web.start()
        await shop.order(1)
        await shows_the_truth(page, shop, "the third")
        assert not page.told("error") and not page.told("toast")


@theirs
@pytest.mark.parametrize("what", ["a dead port", "a domain that is not listed"])
async def test_the_customers_page_polls_while_the_stream_is_silent_and_then_watches_again(
    web: Web, proxy: FaultyProxy, phone: Phone, what: str
) -> None:
    shop = Shop(web)
    await shop.order(1)
    proxy.is_down = what == "a dead port"
    domains = None if proxy.is_down else ["https://another.example.com"]
    async with phone(domains=domains, timing={"connectingMs": 1500}) as page:
        await page.until(lambda: page.told("error"), "it says so", 20)
        (error,) = page.told("error")
        assert ("mp.weixin.qq.com" in error) == bool(domains), error
        proxy.is_down = False
        page.do("domains", value=None)
        await shows_the_truth(page, shop, "the page's own polling")
        await page.until(lambda: proxy.open_streams, "and the watch, too")
        await shop.order(1)
        await shows_the_truth(page, shop, "an order")
        assert len(page.told("error")) == 1
