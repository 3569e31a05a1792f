"""All finished works in one ZIP file: whole, made while it is sent, and of one user alone."""

from __future__ import annotations

import asyncio
import io
import json
import time
import tracemalloc
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from supervisor.security.tokens import make_archive_token
from supervisor.store.limits import revocations
from tests.support.houses.printed import picture_of, printed
from tests.support.houses.shop import Shop
from tests.support.houses.web_server import Web, bearer, running_web, until
from web.sharing import archives
from web.sharing.zip_stream import ZipStream

USER = "o-1"


@pytest.fixture
async def web(tmp_path: Path, database_kind: str) -> AsyncIterator[Web]:
    async with running_web(tmp_path, database_kind) as running:
        yield running


async def _asked(http: aiohttp.ClientSession, web: Web, body: Any, user: str = USER) -> tuple[int, Any]:
    async with http.post(f"{web.url}/v1/archives", headers=bearer(user), json=body) as answer:
        return answer.status, await answer.json()


async def _unpacked(http: aiohttp.ClientSession, web: Web, url: str) -> dict[str, bytes]:
    async with http.get(web.url + url) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "application/zip"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="darkroom.zip"'
        file = zipfile.ZipFile(io.BytesIO(await answer.read()))
    assert file.testzip() is None
    return {name: file.read(name) for name in file.namelist()}


async def test_every_picture_and_file_of_a_user_is_in_it_and_nobody_elses(
    web: Web, http: aiohttp.ClientSession
) -> None:
    shop, other = Shop(web, USER), Shop(web, "o-2")
    film = {"key": "results/a-film.mp4", "media_type": "video/mp4", "bytes": 4, "name": "a film.mp4"}
    web.context.files.put(film["key"], io.BytesIO(b"film"))
    first = await printed(shop, 2)
    second = await printed(
        shop, 1, type_="fitting", outputs={"files": [film], "data": {"score": 0.5, "晒": 1}}
    )
    await printed(other, 1)
    await shop.order()  # is not finished
    status, told = await _asked(http, web, {})
    assert status == 201 and told["works"] == 2 and told["expires_in"] == 600
    found = await _unpacked(http, web, told["url"])
    ends = {name[18:]: content for name, content in found.items()}  # without the time
    one, two = first[-6:].lower(), second[-6:].lower()
    data = ends.pop(f"fitting-{two}.json")
    assert ends == {
        f"photography-{one}-1.png": picture_of(0),
        f"photography-{one}-2.png": picture_of(1),
        f"fitting-{two}-1.png": picture_of(0),
        f"fitting-{two}-1-a film.mp4": b"film",
    }
    assert json.loads(data) == {"score": 0.5, "晒": 1}


async def test_a_search_is_saved_as_it_was_searched(web: Web, http: aiohttp.ClientSession) -> None:
    shop = Shop(web, USER)
    await printed(shop)
    fitted = await printed(shop, type_="fitting")
    _, told = await _asked(http, web, {"type": "fitting"})
    assert told["works"] == 1
    (name,) = await _unpacked(http, web, told["url"])
    assert fitted[-6:].lower() in name
    status, _ = await _asked(http, web, {"created_before": "2020-01-01T00:00:00Z"})
    assert status == 404
    for wrong in ({"type": 1}, {"created_from": "now"}, {"status": "failed"}, [], {"type": "\0"}):
        status, problem = await _asked(http, web, wrong)
        assert status == 422 and problem["errors"]


async def test_a_picture_that_is_gone_is_left_out_and_the_rest_is_whole(
    web: Web, http: aiohttp.ClientSession
) -> None:
    shop = Shop(web, USER)
    work_id = await printed(shop, 3)
    task_id = web.sql("SELECT task_id FROM works WHERE id = ?", work_id)[0][0]
    web.context.files.delete(f"results/{task_id}/1-1-1.png")
    _, told = await _asked(http, web, {})
    found = await _unpacked(http, web, told["url"])
    assert sorted(found.values()) == sorted([picture_of(0), picture_of(2)])


async def test_a_link_is_nobodys_but_who_asked_and_ends_with_their_token(
    web: Web, http: aiohttp.ClientSession
) -> None:
    shop = Shop(web, USER)
    await printed(shop)
    _, told = await _asked(http, web, {})
    for token in (
        told["url"][10:-3] + "abc",
        "x",
        make_archive_token("another secret, long enough for it", USER, {}),
    ):
        async with http.get(f"{web.url}/archives/{token}") as answer:
            assert answer.status == 403
    assert (await _asked(http, web, {}, "o-nobody"))[0] == 404, "there is nothing of theirs"
    await shop.write(lambda tx: revocations.revoke_user(tx, USER, time.time() + 0.01))
    async with http.get(web.url + told["url"]) as answer:
        assert answer.status == 401


async def test_large_files_pass_through_little_memory_and_a_third_file_at_once_is_refused(
    web: Web, http: aiohttp.ClientSession
) -> None:
    shop = Shop(web, USER)
    large = io.BytesIO(bytes(range(256)) * 40_000)  # 10 MB
    for _ in range(4):
        work_id = await printed(shop)
        task_id = web.sql("SELECT task_id FROM works WHERE id = ?", work_id)[0][0]
        web.context.files.put(f"results/{task_id}/1-1-0.png", large)
    _, told = await _asked(http, web, {})
    tracemalloc.start()
    try:
        readers = [await _slow_reader(web, told["url"], 15_000_000) for _ in range(2)]
        async with http.get(web.url + told["url"]) as answer:
            assert answer.status == 429 and answer.headers["Retry-After"] == "30"
        async with http.get(f"{web.url}/healthz") as answer:
            assert answer.status == 200, "who reads no more delays nobody"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6, f"{peak:,.0f} bytes were held while 30 MB passed to two readers"
    for writer in readers:
        writer.close()
    under_way = web.server._runner.app[archives.UNDER_WAY]
    await until(lambda: not under_way, "both are given up")


async def _slow_reader(web: Web, url: str, most: int) -> asyncio.StreamWriter:
    """A connection that reads so many bytes of the file, and no more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    while most > 0:
        most -= len(await reader.read(65_536))
    return writer


def test_a_member_beyond_two_gigabytes_gets_the_larger_form() -> None:
    class Long:
        size = 3 * 1024**3

        def __init__(self) -> None:
            self.left = 2

        def read(self, most: int = -1, /) -> bytes:
            self.left -= 1
            return b"x" * 10 if self.left >= 0 else b""

    stream = ZipStream()
    made = b"".join(stream.member("a.bin", datetime(2026, 1, 2, tzinfo=UTC), Long(), 10)) + stream.end()
    with zipfile.ZipFile(io.BytesIO(made)) as file:
        assert file.read("a.bin") == b"x" * 20
        assert file.getinfo("a.bin").date_time[:3] == (2026, 1, 2)
