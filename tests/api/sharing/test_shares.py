"""A link to a work for others: that work's pictures alone, for a while, and no longer than the work itself."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.security.tokens import Callback, make_callback_token, make_feed_ticket, make_share_token
from supervisor.store.limits import revocations
from tests.support.houses.printed import SMALL, picture_of, printed
from tests.support.houses.shop import Shop
from tests.support.houses.web_server import SECRET, Web, bearer, running_web

USER = "o-secret-name"
DAY = 86_400


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(tmp_path, database_kind) as running:
        yield running


@pytest.fixture
def shop(web: Web) -> Shop:
    return Shop(web, USER)


async def _share(
    http: aiohttp.ClientSession, web: Web, work_id: str, body: Any, user: str = USER
) -> tuple[int, Any]:
    url = f"{web.url}/v1/works/{work_id}/shares"
    async with http.post(url, headers=bearer(user), json=body) as answer:
        return answer.status, await answer.json()


async def _got(http: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, bytes, Any]:
    async with http.get(url, headers=headers) as answer:
        return answer.status, await answer.read(), answer.headers


async def _link(http: aiohttp.ClientSession, web: Web, work_id: str) -> str:
    status, told = await _share(http, web, work_id, {"ttl_seconds": DAY})
    assert status == 201, told
    return str(told["url"])


async def test_a_link_shows_the_pictures_of_its_work_to_somebody_without_a_token(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    work_id = await printed(shop, 2)
    link = await _link(http, web, work_id)
    assert link.startswith(f"{web.url}/shared/"), "whole, on the host that was asked"
    status, page, headers = await _got(http, link)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    pictures = re.findall(r'<img src="([^"]+)"', page.decode())
    assert len(pictures) == 2
    for n, address in enumerate(pictures):
        status, body, headers = await _got(http, web.url + address)
        assert (status, body, headers["Content-Type"]) == (200, picture_of(n), "image/png")
        assert headers["Cache-Control"] == "private, no-cache", (
            "asked for again, so that it ends with its work"
        )
        assert (await _got(http, web.url + address, **{"If-None-Match": headers["ETag"]}))[0] == 304
    assert (await _got(http, f"{web.url}{pictures[0]}?small"))[1] == SMALL
    saved = (await _got(http, f"{web.url}{pictures[1]}?save"))[2]
    assert saved["Content-Disposition"] == 'attachment; filename="photography-2.png"'


async def test_a_link_plays_the_films_and_sounds_of_its_work_and_saves_its_files(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    files = [
        {"key": "results/a.mp4", "media_type": "video/mp4", "bytes": 9, "name": 'a "fair".mp4'},
        {"key": "results/a.mp3", "media_type": "audio/mpeg", "bytes": 9, "name": "a fair.mp3"},
        {"key": "results/a.zip", "media_type": "application/zip", "bytes": 9, "name": "a fair.zip"},
    ]
    for file in files:
        web.context.files.put(str(file["key"]), io.BytesIO(str(file["name"]).encode()))
    link = await _link(http, web, await printed(shop, 0, outputs={"files": files}))
    status, page, headers = await _got(http, link)
    assert status == 200 and "media-src 'self'" in headers["Content-Security-Policy"]
    text = page.decode()
    (film,) = re.findall(r'<video controls preload="metadata" src="([^"]+)"', text)
    (sound,) = re.findall(r'<audio controls preload="metadata" src="([^"]+)"', text)
    assert "Save a &quot;fair&quot;.mp4" in text and "Save a fair.zip" in text
    status, body, headers = await _got(http, web.url + film, Range="bytes=3-6")
    assert (status, body, headers["Content-Type"]) == (206, b"fair", "video/mp4")
    assert (await _got(http, web.url + sound))[1] == b"a fair.mp3"
    saved = (await _got(http, f"{link}/3?save"))[2]
    assert saved["Content-Disposition"].startswith("attachment;")
    assert (await _got(http, f"{link}/4"))[0] == 404
    mixed = await _link(http, web, await printed(shop, 2, outputs={"files": files[:1]}))
    text = (await _got(http, mixed))[1].decode()
    assert text.count("<img ") == 2 and f'src="{mixed.removeprefix(web.url)}/3"' in text


async def test_the_page_is_plain_runs_nothing_and_names_nobody(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    link = await _link(http, web, await printed(shop))
    _, page, headers = await _got(http, link)
    text = page.decode()
    assert "<script" not in text and "style=" not in text and "console" not in text
    assert "script-src" not in headers["Content-Security-Policy"], "so default-src 'none' holds"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Robots-Tag"] == "noindex, nofollow" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    _, claims, _ = link.rpartition("/")[2].split(".")
    told = [text, str(headers), base64.urlsafe_b64decode(claims + "==").decode()]
    _, _, of_picture = await _got(http, f"{link}/1")
    assert not [each for each in [*told, str(of_picture)] if USER in each]


@pytest.mark.parametrize(
    ("asked", "says"), [("zh-CN,en;q=0.5", "此链接有效至"), ("fr", "This link works until")]
)
async def test_the_page_speaks_the_readers_language(
    web: Web, http: aiohttp.ClientSession, shop: Shop, asked: str, says: str
) -> None:
    link = await _link(http, web, await printed(shop))
    _, page, headers = await _got(http, link, **{"Accept-Language": asked})
    assert says in page.decode() and headers["Vary"] == "Accept-Language"


async def test_the_link_of_a_deleted_work_says_so_and_its_pictures_are_gone(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    work_id = await printed(shop)
    link = await _link(http, web, work_id)
    async with http.delete(f"{web.url}/v1/works/{work_id}", headers=bearer(USER)) as answer:
        assert answer.status == 204
    status, page, _ = await _got(http, link)
    assert status == 410 and "This work was deleted" in page.decode()
    status, body, _ = await _got(http, f"{link}/1")
    assert status == 410 and b"deleted" in body


async def test_a_link_ends_at_its_time_and_says_so(web: Web, http: aiohttp.ClientSession, shop: Shop) -> None:
    work_id = await printed(shop)
    token = make_share_token(SECRET, work_id, ttl_seconds=3600, now=time.time() - 4000)
    status, page, _ = await _got(http, f"{web.url}/shared/{token}", **{"Accept-Language": "zh"})
    assert status == 410 and "链接已过期" in page.decode()
    assert (await _got(http, f"{web.url}/shared/{token}/1"))[0] == 410


async def test_revoking_a_users_tokens_ends_the_links_of_before(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    work_id = await printed(shop)
    link = await _link(http, web, work_id)
    await shop.write(lambda tx: revocations.revoke_user(tx, USER, time.time() + 0.01))
    assert (await _got(http, link))[0] == 404
    assert (await _got(http, f"{link}/1"))[0] == 404
    token = make_share_token(SECRET, work_id, ttl_seconds=3600, now=time.time() + 1)
    assert (await _got(http, f"{web.url}/shared/{token}"))[0] == 200, "one of afterwards is good"


async def test_no_other_token_and_no_altered_one_opens_it(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    work_id = await printed(shop)
    link = await _link(http, web, work_id)
    others = [
        make_feed_ticket(SECRET, USER),
        make_callback_token(SECRET, Callback("r-1")),
        make_share_token("another secret that is long enough for it", work_id, ttl_seconds=60),
        link.rpartition("/")[2][:-3] + "abc",
        "x",
    ]
    for token in others:
        status, page, _ = await _got(http, f"{web.url}/shared/{token}")
        assert status == 404 and "This link leads nowhere" in page.decode()
    for n in ("0", "2", "-1", "x", "９"):
        assert (await _got(http, f"{link}/{n}"))[0] == 404, "that work's pictures alone"


async def test_only_ones_own_finished_work_can_be_shared_for_a_time_that_is_offered(
    web: Web, http: aiohttp.ClientSession, shop: Shop
) -> None:
    work_id = await printed(shop)
    body = {"ttl_seconds": DAY}
    assert (await _share(http, web, work_id, body, "o-another"))[0] == 404
    assert (await _share(http, web, "01J00000000000000000000000", body))[0] == 404
    for wrong in (
        {},
        {"ttl_seconds": 60},
        {"ttl_seconds": True},
        {"ttl_seconds": "3600"},
        [],
        {**body, "x": 1},
    ):
        status, problem = await _share(http, web, work_id, wrong)
        assert status == 422 and problem["errors"]
    (task_id,) = await shop.order()
    open_work = web.sql("SELECT work_id FROM task_queue WHERE id = ?", task_id)[0][0]
    status, problem = await _share(http, web, open_work, body)
    assert status == 409 and problem["type"].endswith(":nothing_to_share")


async def test_an_address_that_asks_too_often_is_slowed(tmp_path: Path) -> None:
    proxied = {"trusted_proxies": ["127.0.0.1"], "limits": {"requests_per_minute": 5}}
    async with running_web(tmp_path / "slow", **proxied) as web, aiohttp.ClientSession() as http:
        link = await _link(http, web, await printed(Shop(web, USER)))
        guest = {"X-Forwarded-For": "203.0.113.9"}
        answers = await asyncio.gather(*(_got(http, link, **guest) for _ in range(12)))
        statuses = [status for status, _, _ in answers]
        assert 429 in statuses and statuses.count(200) <= 10, "of one minute, or of two"
