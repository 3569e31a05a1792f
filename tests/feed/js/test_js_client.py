"""The JS client against a real web part, through a proxy with the faults of real networks.

It runs in Node, by `fetch` as a browser has it and by `wx.request` as a phone has it; `make test-system` runs this.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web as aiohttp_web

from supervisor.security.tokens import make_user_token
from supervisor.store.tasks import claims
from tests.support.clients.node_client import NODE, QUICK, NodeClient, node_client
from tests.support.houses.shop import USER, Shop
from tests.support.houses.web_server import SECRET, Web, picture_bytes, until
from tests.support.providers.made_files_provider import MP4
from tests.support.servers.faulty_proxy import CHANGES, FEED, FaultyProxy

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not NODE and not os.environ.get("CI"), reason="there is no Node"),
]


Client = Callable[..., AbstractAsyncContextManager[NodeClient]]


def token_of(user: str = USER, ttl_seconds: float = 600) -> str:
    return make_user_token(SECRET, user, "user", ttl_seconds=ttl_seconds)


@pytest.fixture(params=["fetch", "wx"])
def platform(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(web: Web, proxy: FaultyProxy, tmp_path: Path) -> Client:
    """Makes a client that reaches the web part through the proxy; the module comes from the web part too."""
    async with aiohttp.ClientSession() as http:
        for name, file in (("darkroom.js", "darkroom.mjs"), ("darkroom.cjs.js", "darkroom.cjs")):
            async with http.get(f"{web.url}/static/{name}") as response:
                (tmp_path / file).write_bytes(await response.read())

    def make(*tokens: str, platform: str = "fetch", wx: Any = None, **settings: Any) -> Any:
        is_phone = platform == "wx"
        return node_client(
            tmp_path / ("darkroom.cjs" if is_phone else "darkroom.mjs"), proxy.url, *(tokens or (token_of(),)),
            wx=(wx or {}) if is_phone else None, **{"timing": QUICK, **settings},
        )  # fmt: skip

    return make


def shown(client: NodeClient, name: str = "main") -> list[tuple[str, str, int]]:
    return [(doc["_id"], doc["status"], doc["progress"]) for doc in client.docs(name)]


async def test_a_page_gets_every_change_in_the_shape_of_cloudbase(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    shop = Shop(web)
    async with client(platform=platform) as page:
        page.do("watch", where={"user_openid": USER})
        await page.until(page.snapshots, "the first snapshot comes, though there is nothing")
        assert page.snapshots() == [{"id": 0, "type": "init", "docChanges": [], "docs": []}]
        await shop.order()
        (claim,) = await shop.claim()
        await shop.progress(claim, 40, "晒 🖼 printing")
        await shop.complete(claim)
        await page.until(
            lambda: page.docs() and page.docs()[0]["status"] == "completed", "it is seen completed"
        )
        (work,) = page.docs()
        await shop.remove(work["_id"])
        await page.until(lambda: page.docs() == [], "it is gone")
        told = page.snapshots()[1:]
        assert [each["id"] for each in told] == list(range(1, shop.seq() + 1)), "each change once, in order"
        entered, *updated, left = [[entry["queueType"] for entry in each["docChanges"]] for each in told]
        assert (entered, left) == (["enqueue", "add"], ["remove", "dequeue"]), "for pages of either words"
        assert all("type" not in each for each in told) and updated == [["update"]] * len(updated)
        changes = page.changes()
        assert [(each["dataType"], each["queueType"]) for each in changes] == [
            ("add", "enqueue"), *[("update", "update")] * (len(changes) - 2), ("remove", "dequeue")
        ]  # fmt: skip
        assert any(each["doc"]["stage"] == "晒 🖼 printing" for each in changes), "characters survive any cut"
        assert any(each.get("updatedFields", {}).get("progress") == 40 for each in changes)
        assert all(each["docId"] == each["doc"]["_id"] == work["_id"] for each in changes)
        (image,) = work["images"]
        for each in (image, image["thumbnail"]):  # a mini-program has no page that a path could belong to
            assert each["url"].startswith(page_url := "http://127.0.0.1:"), page_url
        assert page.states()[-1] == "live" and not page.errors()


async def test_links_cut_at_any_byte_lose_nothing_and_double_nothing(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    shop = Shop(web)
    chance = random.Random(5)
    proxy.cut_every = 2000
    proxy.on_frame = lambda frame: [b"retry: 30\n\n"] if frame.startswith(b"retry") else [frame]
    async with client(platform=platform, timing={**QUICK, "streamAgainMs": 20}) as page:
        page.do("watch")
        await page.until(page.snapshots, "the first snapshot")
        await shop.order(6)
        open_ = await shop.claim()
        percents = iter(range(1, 100))
        while len(proxy.asked(FEED)) < 6 or not proxy.asked(CHANGES):
            proxy.cut_every = chance.randrange(900, 4000)
            percent = next(percents)
            for claim in open_:
                await shop.progress(claim, percent)
            await page.until(lambda: shown(page) == shop.truth(), "it shows what the database holds")
        for claim in open_:
            await shop.complete(claim)
        await page.until(lambda: shown(page) == shop.truth(), "the end too")
        told = [each["id"] for each in page.snapshots()[1:]]
        assert told == list(range(1, shop.seq() + 1)), "through many streams, and polls between them"
        assert [each.get("type") for each in page.snapshots()].count("init") == 1, "it resumed each time"


async def test_a_lost_frame_is_requested_and_a_doubled_one_is_dropped(
    web: Web, proxy: FaultyProxy, client: Client
) -> None:
    shop, count = Shop(web), itertools.count()

    def faulty(frame: bytes) -> list[bytes]:
        if b"event: change" not in frame:
            return [frame]
        n = next(count)
        return [] if n % 5 == 2 else [frame, frame] if n % 5 == 4 else [b"data: {\n\n", frame]

    proxy.on_frame = faulty
    async with client() as page:
        page.do("watch")
        await page.until(page.snapshots, "the first snapshot")
        await shop.order(5)
        for claim in await shop.claim():
            await shop.complete(claim)
        await page.until(lambda: shown(page) == shop.truth(), "it shows what the database holds")
        assert [each["id"] for each in page.snapshots()[1:]] == list(range(1, shop.seq() + 1))


async def test_a_web_part_that_restarts_is_an_interruption_and_no_news(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    shop = Shop(web)
    async with client(platform=platform) as page:
        page.do("watch")
        await page.until(page.snapshots, "the first snapshot")
        await shop.order(2)
        await page.until(lambda: len(page.docs()) == 2, "two works")
        await web.stop()
        await page.until(lambda: page.states()[-1] == "lost", "it knows")
        await web.start()
        await shop.order(1)
        await page.until(lambda: len(page.docs()) == 3, "the third")
        await page.until(lambda: page.states()[-1] == "live", "it streams again")
        assert [each["id"] for each in page.snapshots()] == [0, 1, 2, 3]
        assert [each.get("type") for each in page.snapshots()].count("init") == 1


async def test_a_position_that_is_no_longer_kept_brings_the_differences(
    web: Web, proxy: FaultyProxy, client: Client
) -> None:
    """A night in the background: the log has been pruned, works have come and gone."""
    shop = Shop(web)
    async with client() as page:
        page.do("watch")
        await shop.order(3)
        await page.until(lambda: len(page.docs()) == 3, "three works")
        claim, *_ = await shop.claim()
        proxy.is_down = True
        proxy.cut()
        await page.until(lambda: page.states()[-1] == "lost", "it knows")
        gone = page.docs()[0]["_id"]
        await shop.remove(gone)
        await shop.complete(claim)
        await shop.order(2)
        web.sql("DELETE FROM work_change")
        proxy.is_down = False
        await page.until(lambda: shown(page) == shop.truth(), "it shows what the database holds")
        last = page.snapshots()[-1]
        assert "type" not in last and last["id"] == shop.seq()
        told = [
            (each["dataType"], each["queueType"], each["docId"])
            for each in last["docChanges"]
            if each["dataType"] != "alias"
        ]
        new, newer = (id_ for id_, *_ in reversed(shop.truth()[:2]))
        assert ("remove", "dequeue", gone) in told
        assert told[-2:] == [("add", "enqueue", new), ("add", "enqueue", newer)], (
            "in the order of their coming"
        )
        update = next(each for each in last["docChanges"] if each["doc"]["task_id"] == claim.task_id)
        assert (update["dataType"], update["queueType"]) == ("update", "update")
        assert update["updatedFields"]["status"] == "completed"


async def test_where_streams_are_buffered_it_polls_and_streams_again_when_it_can(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    shop = Shop(web)
    proxy.buffers = True
    async with client(platform=platform) as page:
        page.do("watch")
        await page.until(lambda: page.states()[-1:] == ["polling"], "it polls")
        await shop.order(2)
        await page.until(lambda: len(page.docs()) == 2, "two works")
        proxy.buffers = False
        await page.until(lambda: page.states()[-1] == "live", "it streams")
        await shop.order(1)
        await page.until(lambda: len(page.docs()) == 3, "the third")
        assert [each["id"] for each in page.snapshots()][-3:] == [1, 2, 3], "nothing twice by the two ways"


async def test_a_phone_that_cannot_stream_polls(web: Web, proxy: FaultyProxy, client: Client) -> None:
    shop = Shop(web)
    async with client(platform="wx", wx={"canStream": False}) as page:
        page.do("watch")
        await page.until(page.snapshots, "the first snapshot")
        await shop.order(2)
        await page.until(lambda: len(page.docs()) == 2, "two works")
        assert page.states()[-1] == "polling" and not proxy.open_streams
        page.do("close")
        await page.until(
            lambda: not page.said[-1].get("running", 1) or page.do("running"), "no request is left"
        )


async def test_a_broken_link_of_an_iphone_is_noticed_by_its_silence(
    web: Web, proxy: FaultyProxy, client: Client
) -> None:
    shop = Shop(web)
    async with client(platform="wx", wx={"isSilent": True}) as page:
        page.do("watch")
        await page.until(lambda: page.states()[-1:] == ["live"], "it streams")
        proxy.cut()
        await shop.order(1)
        await page.until(lambda: len(page.docs()) == 1, "what came after the break")
        assert len(proxy.asked(FEED)) == 2


async def test_a_phone_that_comes_to_the_front_or_changes_its_network_reconnects_at_once(
    web: Web, proxy: FaultyProxy, client: Client
) -> None:
    shop = Shop(web)
    async with client(platform="wx", wx={"isSilent": True}, timing={}) as page:
        page.do("watch")
        await page.until(lambda: page.states()[-1:] == ["live"], "it streams")
        assert proxy.asked(FEED)[0].query["rotate"] == "50", "WeChat cuts after a minute"
        page.do("happens", what="NetworkStatusChange", value={"isConnected": False, "networkType": "none"})
        await page.until(lambda: page.states()[-1] == "lost", "it knows")
        await shop.order(1)
        page.do("happens", what="NetworkStatusChange", value={"isConnected": True, "networkType": "4g"})
        await page.until(lambda: len(page.docs()) == 1, "what came meanwhile")
        assert page.states()[-1] == "live"


async def test_a_token_that_is_refused_is_renewed_and_nothing_is_lost(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    shop = Shop(web)
    async with client(
        token_of(ttl_seconds=-60), token_of(ttl_seconds=-2), token_of(), platform=platform
    ) as page:
        page.do("watch")
        await page.until(page.snapshots, "the first snapshot")
        for n in range(1, 4):
            await shop.order(1)
            await page.until(lambda n=n: len(page.docs()) == n, f"work {n}")
        await page.until(lambda: [line["asked"] for line in page.said if "asked" in line] == [False, True, True],
                         "the second token has expired in mid-stream")  # fmt: skip
        await shop.order(1)
        await page.until(lambda: len(page.docs()) == 4, "the fourth")
        assert [each["id"] for each in page.snapshots()][-4:] == [1, 2, 3, 4] and not page.errors()


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ("nobody listens", "unreachable", "can't be reached"),
        ("nobody answers", "timeout", "answered for 1 s"),
        ("another answers", "not_darkroom", "Something else"),
        ("it is full", "unavailable", "full"),
    ],
)
async def test_a_client_that_does_not_connect_reports_why_once_and_keeps_trying(
    web: Web, proxy: FaultyProxy, client: Client, platform: str, wrong: str, kind: str, words: str
) -> None:
    proxy.is_down = wrong == "nobody listens"
    if wrong == "nobody answers":
        proxy.speaks.clear()
    if wrong == "another answers":
        proxy.answers = dict.fromkeys((FEED, CHANGES), aiohttp_web.Response(text="<h1>Welcome</h1>"))
    if wrong == "it is full":
        problem = {"detail": "It is full.", "type": "urn:darkroom:problem:unavailable", "status": 503}
        proxy.answers = dict.fromkeys((FEED, CHANGES), aiohttp_web.json_response(problem, status=503))
    async with client(platform=platform, timing={**QUICK, "connectingMs": 1200}) as page:
        page.do("watch")
        await page.until(page.errors, "it says so")
        assert page.states()[0] == "connecting"
        assert page.errors()[0]["kind"] == kind and words in page.errors()[0]["message"]
        asked = len(proxy.requests)
        await page.until(lambda: len(proxy.requests) > asked, "it tries again")
        proxy.is_down = False
        proxy.speaks.set()
        proxy.answers = {}
        await page.until(lambda: page.states()[-1] == "live" and page.snapshots(), "it has come")
        assert len(page.errors()) == 1


async def test_any_answer_ends_the_wait_for_a_server_that_was_away(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    proxy.answers = {CHANGES: aiohttp_web.Response(status=502), FEED: aiohttp_web.Response(status=502)}
    async with client(platform=platform, timing={"connectingMs": 600_000}) as page:
        page.do("watch")
        await page.until(lambda: len(proxy.asked(FEED)) > 3, "pauses of seconds")
        proxy.answers = {}
        asked = len(proxy.asked(FEED))
        await page.call("credits")
        await page.until(lambda: len(proxy.asked(FEED)) > asked, "the stream is asked for at once", 1.5)


async def test_a_token_that_stays_refused_ends_the_watch_with_one_error(
    client: Client, platform: str
) -> None:
    async with client(token_of(ttl_seconds=-60), platform=platform) as page:
        page.do("watch")
        await page.until(page.errors, "it says no")
        assert page.errors()[0]["status"] == 401 and "token" in page.errors()[0]["message"].lower()
        assert page.states() == ["connecting", "lost"]
        page.do("watch", name="other")
        await page.until(lambda: page.errors("other"), "another watch gets it as well")
        assert len(page.errors()) == 1


async def test_another_users_token_shows_nothing_of_the_first(web: Web, client: Client) -> None:
    await Shop(web).order(2)
    await Shop(web, "o-2").order(1)
    async with client(token_of(ttl_seconds=-2), token_of("o-2")) as page:
        page.do("watch")
        await page.until(lambda: len(page.docs()) == 2, "the first user's works")
        await page.until(lambda: len(page.docs()) == 1, "the second user's work")
        assert page.docs()[0]["user_openid"] == "o-2" and page.snapshots()[-1]["type"] == "init"


async def test_something_else_that_answers_is_not_taken_for_darkroom(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    hotel = aiohttp_web.Response(text="<h1>Welcome to our network</h1>", content_type="text/html")
    proxy.answers = {FEED: hotel, CHANGES: hotel}
    await Shop(web).order(1)
    async with client(platform=platform) as page:
        page.do("watch")
        await page.until(lambda: len(proxy.asked(FEED)) > 1, "it tries again")
        assert not page.snapshots() and "live" not in page.states() and not page.errors()
        proxy.answers = {}
        await page.until(lambda: len(page.docs()) == 1, "after the log-in page")


HOLE = {
    "id": 7,
    "docChanges": [{"id": 7, "dataType": "add", "queueType": "enqueue", "docId": "w", "doc": {}}],
}
HOLED = aiohttp_web.json_response({**HOLE, "next": "epoch-7"})
STREAMED = {"Content-Type": "text/event-stream"}
OPENING = b'id: epoch-5\nevent: init\ndata: {"id": 5, "type": "init", "docChanges": [], "docs": []}\n\n'
BAD_STREAMS = {
    "a hole": b"retry: 0\n\n"
    + OPENING
    + b"id: epoch-7\nevent: change\ndata: %s\n\n" % json.dumps(HOLE).encode(),
    "no JSON": b"retry: 0\n\n" + OPENING + b"id: epoch-6\nevent: change\ndata: {\n\n",
    "resets": b"retry: 0\n\n" + OPENING.replace(b"epoch-5", b"other-5"),
    "an end": b"retry: 0\n\n",
    "bye": b"retry: 0\n\nevent: bye\ndata: {}\n\n",
    "a retry beyond every timer": b"retry: 99999999999\n\n" + OPENING,
}
GONE = aiohttp_web.Response(status=400)


@pytest.mark.parametrize("polled", ["holes", "resets", "refusals"])
@pytest.mark.parametrize("streamed", BAD_STREAMS)
async def test_whatever_is_answered_nothing_is_asked_again_without_a_pause(
    proxy: FaultyProxy, client: Client, platform: str, streamed: str, polled: str
) -> None:
    reset = aiohttp_web.json_response(
        {"id": 5, "type": "reset", "docChanges": [], "docs": [], "next": "new-5"}
    )
    proxy.answers = {
        FEED: aiohttp_web.Response(body=BAD_STREAMS[streamed], headers=STREAMED),
        CHANGES: {"holes": HOLED, "resets": reset, "refusals": GONE}[polled],
    }
    async with client(platform=platform, share=False) as page:
        page.do("watch")
        began = time.monotonic()
        await page.until(
            lambda: time.monotonic() - began > 3 and proxy.asked(FEED) + proxy.asked(CHANGES), "three seconds"
        )
        for path in (FEED, CHANGES):
            assert len(proxy.asked(path)) <= 3 + 2 * (time.monotonic() - began), path


@pytest.mark.parametrize("what", ["holes", "nothing", "resets", "too many"])
async def test_a_polling_client_asks_again_only_after_a_pause(
    proxy: FaultyProxy, client: Client, platform: str, what: str
) -> None:
    opening = {"id": 5, "docChanges": [], "docs": [], "next": "epoch-5"}
    problem = {"title": "Too Many Requests", "status": 429}
    later = {
        "holes": HOLED,
        "nothing": aiohttp_web.json_response({"id": 5, "docChanges": [], "next": "epoch-5"}),
        "resets": aiohttp_web.json_response({**opening, "type": "reset", "next": "epoch-6"}),
        "too many": aiohttp_web.json_response(problem, status=429, headers={"Retry-After": "1e999"}),
    }[what]
    proxy.answers = {
        FEED: aiohttp_web.json_response(problem, status=429),
        CHANGES: aiohttp_web.json_response({**opening, "type": "init"}),
    }
    timing = {**QUICK, "streamAgainMs": 600_000, "longestPauseMs": 30_000}
    async with client(platform=platform, share=False, timing=timing) as page:
        page.do("watch")
        await page.until(lambda: page.snapshots(), "it is opened by a poll")
        proxy.answers[CHANGES] = later
        began, before = time.monotonic(), len(proxy.asked(CHANGES))
        await page.until(
            lambda: time.monotonic() - began > 3 and len(proxy.asked(CHANGES)) > before, "three seconds"
        )
        assert len(proxy.asked(CHANGES)) - before <= 2 + 2 * (time.monotonic() - began)
        for happening in range(200):
            if platform == "wx":
                page.do("happens", what="NetworkStatusChange", value={"isConnected": happening % 2 == 1})
        again = len(proxy.asked(CHANGES))
        await page.until(lambda: time.monotonic() - began > 5, "two seconds more")
        assert len(proxy.asked(CHANGES)) - again <= 2 + 2 * (time.monotonic() - began), (
            "however often it is woken"
        )


async def test_more_streams_than_allowed_are_polled(
    tmp_path: Path, client: Client, web: Web, proxy: FaultyProxy
) -> None:
    problem = {"title": "Too Many Requests", "type": "urn:darkroom:problem:too_many_streams", "status": 429}
    proxy.answers = {FEED: aiohttp_web.json_response(problem, status=429, headers={"Retry-After": "5"})}
    async with client() as page:
        page.do("watch")
        await page.until(lambda: page.states()[-1:] == ["polling"], "it polls")
        await Shop(web).order(1)
        await page.until(lambda: len(page.docs()) == 1, "a change")


async def test_filters_orders_and_limits_are_kept_as_works_come_and_go(web: Web, client: Client) -> None:
    shop = Shop(web)
    async with client() as page:
        page.do("watch", name="done", where={"status": {"$in": ["completed", "failed"]}})
        page.do("watch", name="newest", limit=2)
        page.do("watch", name="busy", where={"progress": {"$gt": 10}}, orders=[["progress", "desc"]], limit=1)
        await page.until(lambda: page.snapshots("done") and page.snapshots("busy"), "first snapshots")
        await shop.order(3)
        one, two, three = await shop.claim()
        await shop.progress(one, 20)
        await shop.progress(two, 30)
        await shop.complete(one)
        await page.until(lambda: page.docs("done"), "one is done")
        done = page.changes("done")
        assert [(each["dataType"], each["queueType"]) for each in done] == [("update", "enqueue")]
        newest = [doc["task_id"] for doc in page.docs("newest")]
        assert newest == [three.task_id, two.task_id]
        assert ("limit", "dequeue", one.task_id) in {
            (each["dataType"], each["queueType"], each["doc"]["task_id"]) for each in page.changes("newest")
        }
        await page.until(lambda: page.docs("busy")[0]["progress"] == 100, "the furthest")
        await shop.remove(page.docs("newest")[0]["_id"])
        await page.until(
            lambda: [doc["task_id"] for doc in page.docs("newest")] == [two.task_id, one.task_id],
            "it moves up",
        )
        assert [(each["dataType"], each["queueType"]) for each in page.changes("newest")][-2:] == [
            ("remove", "dequeue"), ("limit", "enqueue")
        ]  # fmt: skip


async def test_works_older_than_the_first_hundred_are_found(web: Web, client: Client) -> None:
    shop = Shop(web)
    await shop.order(2, "fitting")
    await shop.order(230)
    async with client() as page:
        page.do("watch", name="all")
        page.do("watch", name="fittings", where={"type": "fitting"})
        page.do("watch", name="many", limit=150)
        await page.until(lambda: len(page.docs("many")) == 150, "as many as asked for")
        await page.until(lambda: len(page.docs("fittings")) == 2, "the old ones")
        assert len(page.snapshots("fittings")) == 1, "not reported before it was whole"
        assert [doc["_id"] for doc in page.docs("many")] == [id_ for id_, *_ in shop.truth()[:150]]
        await page.until(lambda: shown(page, "all") == shop.truth(), "all, where no limit is given")
        await shop.order(1)
        await page.until(lambda: shown(page, "all") == shop.truth(), "none fell out")
        assert len(page.docs("all")) == 233 and len(page.snapshots("all")) == 2
        page.do("watch", name="one", where={"_id": shop.truth()[200][0]}, limit=1)
        await page.until(lambda: page.docs("one"), "one by its id")


@pytest.mark.parametrize("web", [{"file_link_seconds": 48}], indirect=True)  # another link every 2 s
async def test_links_are_renewed_before_they_expire_and_a_long_list_stays_whole(
    web: Web, client: Client
) -> None:
    shop = Shop(web)
    await shop.order(120)
    async with client(timing={**QUICK, "linksAtMostEveryMs": 800}) as page:
        page.do("watch", limit=110)
        page.do("watch", name="new", limit=5)
        await page.until(lambda: len(page.docs()) == 110 and page.docs("new"), "first snapshots")
        claims = {claim.task_id: claim for claim in await shop.claim()}
        newest = claims[page.docs("new")[0]["task_id"]]
        shown = {doc["task_id"] for doc in page.docs()}
        await shop.complete(newest)
        await shop.complete(next(claim for task, claim in claims.items() if task not in shown))
        await page.until(lambda: any(doc["images"] for doc in page.docs("new")), "its picture")
        before = len(page.snapshots("new"))
        await page.until(lambda: len(page.snapshots("new")) > before + 1, "new links")
        renewed, again = page.snapshots("new")[-2:]
        assert not renewed["docChanges"] and not again["docChanges"], "nothing has happened to the work"
        images = [each["docs"][0]["images"][0] for each in (renewed, again)]
        assert len({image["thumbnail"]["url"] for image in images}) == 2, "of thumbnails too"
        assert (
            len({image["url"] for image in images}) == 2 and renewed["docs"][0]["task_id"] == newest.task_id
        )
        assert {len(each["docs"]) for each in page.snapshots()} == {110}, "never less than the whole"


@pytest.mark.parametrize("web", [{"file_link_seconds": 48}], indirect=True)  # another link every 2 s
async def test_films_and_data_come_with_whole_addresses_that_are_renewed(
    web: Web, proxy: FaultyProxy, client: Client, platform: str, tmp_path: Path
) -> None:
    shop = Shop(web)
    await shop.order(1)
    [claim] = await shop.claim()
    film = {"key": "results/t/1-1-10000.mp4", "media_type": "video/mp4", "bytes": 5, "name": "fair.mp4"}
    outputs = {"files": [film], "data": None, "data_key": "results/t/1-1-1000000.json"}
    made = claims.Made(claim.task_id, claim.lease, [], 0, outputs)
    async with client(platform=platform, timing={**QUICK, "linksAtMostEveryMs": 800}) as page:
        page.do("watch")
        if platform == "wx":
            path = tmp_path / "fair.mp4"
            path.write_bytes(MP4)
            told = await page.call("uploadFile", str(path))
            assert (told["media_type"], told["name"], told["bytes"]) == ("video/mp4", "fair.mp4", len(MP4))
        await page.until(page.docs, "the work")
        await shop.write(lambda tx: claims.complete_all(tx, [made]).get())
        await page.until(lambda: page.docs()[0].get("files"), "its film")
        doc = page.docs()[0]
        [shown] = doc["files"]
        assert shown["url"].startswith(f"{proxy.url}/files/results/t/1-1-10000.mp4?exp=")
        assert doc["data_url"].startswith(f"{proxy.url}/files/results/t/1-1-1000000.json?exp=")
        assert (shown["media_type"], shown["name"], doc["data"]) == ("video/mp4", "fair.mp4", None)
        await page.until(lambda: page.docs()[0]["files"][0]["url"] != shown["url"], "a new link to the film")
        assert page.docs()[0]["data_url"] != doc["data_url"]


@pytest.mark.parametrize("compat", [True, False])
async def test_compat_chooses_one_kind_of_words(web: Web, client: Client, compat: bool) -> None:
    shop = Shop(web)
    async with client(compat=compat) as page:
        page.do("watch")
        await page.until(page.snapshots, "the first snapshot")
        await shop.order(1)
        await page.until(page.docs, "a work")
        await shop.remove(page.docs()[0]["_id"])
        await page.until(lambda: not page.docs(), "it is gone")
        told = [each["queueType"] for snapshot in page.snapshots() for each in snapshot["docChanges"]]
        first, last = ("add", "remove") if compat else ("enqueue", "dequeue")
        assert (told[0], told[-1]) == (first, last) and set(told) == {first, "update", last}


async def test_an_order_whose_answer_is_lost_is_one_order(
    web: Web, proxy: FaultyProxy, client: Client, platform: str, tmp_path: Path
) -> None:
    picture = tmp_path / "person.png"
    picture.write_bytes(picture_bytes("PNG"))
    async with client(platform=platform) as page:
        page.do("watch")
        if platform == "wx":
            image = await page.call("upload", str(picture))
            assert (image["width"], image["height"]) == (64, 48)
        order = {"type": "photography", "params": {"images": ["https://example.org/1.jpg"]}}
        proxy.loses_answer_of = "/v1/tasks"
        accepted = await page.call("submit", order)
        assert len(proxy.asked("/v1/tasks")) == 2
        assert web.sql("SELECT id FROM task_queue") == [(accepted["task_id"],)]
        await page.until(
            lambda: [doc["_id"] for doc in page.docs()] == [accepted["work_id"]], "its work is seen"
        )
        proxy.loses_answer_of = f"/v1/tasks/{accepted['task_id']}/cancel"
        assert (await page.call("cancel", accepted["task_id"]))["status"] == "cancelled"
        assert (await page.call("retry", accepted["task_id"]))["status"] == "pending"
        assert (await page.call("task", accepted["task_id"]))["queue_position"] == 0
        proxy.loses_answer_of = f"/v1/works/{accepted['work_id']}"
        assert await page.call("remove", accepted["work_id"]) is None
        await page.until(lambda: page.docs() == [], "it is gone")
        assert (await page.call("credits"))["balance"] == 100_000
        with pytest.raises(AssertionError, match="422"):
            await page.call("submit", {**order, "type": "watercolour"})


async def test_closing_ends_the_stream_and_the_last_watch_closes_for_all(
    web: Web, proxy: FaultyProxy, client: Client, platform: str
) -> None:
    async with client(platform=platform) as page:
        page.do("watch", name="one")
        page.do("watch", name="two")
        await page.until(lambda: page.snapshots("one") and page.snapshots("two"), "first snapshots")
        assert proxy.open_streams == 1, "watches of one page share a stream"
        page.do("close", name="one")
        await Shop(web).order(1)
        await page.until(lambda: page.docs("two"), "the other goes on")
        assert page.docs("one") == []
        page.do("close", name="two")
        await until(
            lambda: proxy.open_streams == 0 and web.context.hub.stream_count == 0, "no stream is left"
        )
