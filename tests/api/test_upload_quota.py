"""No user and no address can take all the room that there is for uploads."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web, until
from tests.support.providers.greedy_image_child import JPEG_HEAD
from web.api.images import UPLOAD_BYTES
from web.uploads.upload_quota import OF_A_USER, OF_MANY, Holder, UploadQuota

IMAGES = "/v1/images"
MIB = 1024 * 1024


def user(name: str) -> Holder:
    return Holder(f"user {name}", OF_A_USER)


def address(name: str) -> Holder:
    return Holder(f"address {name}", OF_MANY)


def test_one_user_gets_half_an_address_three_quarters() -> None:
    shares = UploadQuota(1000)
    one = shares.begin((user("a"), address("x")))
    assert one.take(501) == user("a") and one.take(500) is None
    assert shares.begin((user("b"), address("x"))).take(250) is None
    assert shares.begin((user("c"), address("x"))).take(1) == address("x")
    assert shares.begin((user("d"), address("y"))).take(125) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(1, 400)), max_size=60))
def test_whatever_the_others_take_a_newcomer_finds_room_and_all_of_it_comes_back(
    asked: list[tuple[int, int, int]],
) -> None:
    shares = UploadQuota(1000)
    begun = []
    for n, place, count in asked:
        share = shares.begin((user(str(n)), address(str(place))))
        begun.append(share)
        share.take(count)
        left = shares.most_bytes - shares.held_bytes
        assert left > 0
        fresh = shares.begin((user("fresh"), address("fresh")))
        assert fresh.take(left // 2) is None, "half of the rest is always theirs"
        fresh.end()
    for share in begun:
        share.end()
    assert shares.held_bytes == 0 and not shares._held and not shares._uploads


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path) as running:
        running.context.uploads.most_bytes = 2 * MIB
        yield running


@contextlib.asynccontextmanager
async def stalled_upload(web: Web, who: dict[str, str], size: int) -> AsyncIterator[None]:
    """An upload that has sent so many bytes and goes no further."""
    before = web.context.uploads.held_bytes
    _, writer = await asyncio.open_connection("127.0.0.1", web.port)
    heads = "".join(f"{name}: {value}\r\n" for name, value in who.items())
    writer.write(f"POST {IMAGES} HTTP/1.1\r\nHost: x\r\n{heads}Content-Type: image/jpeg\r\n".encode())
    writer.write(f"Content-Length: {size + 9}\r\n\r\n".encode() + JPEG_HEAD.ljust(size, b"x"))
    await until(
        lambda: web.context.uploads.held_bytes >= before + size + UPLOAD_BYTES,
        "the upload has arrived so far",
    )
    try:
        yield
    finally:
        writer.close()


async def upload(http: aiohttp.ClientSession, web: Web, who: dict[str, str]) -> tuple[int, str]:
    headers = who | {"Content-Type": "image/jpeg"}
    async with http.post(web.url + IMAGES, data=picture_bytes(), headers=headers) as response:
        if response.status != 201:
            assert int(response.headers["Retry-After"]) >= 1
        return response.status, await response.text()


async def test_a_users_stalled_uploads_are_in_the_way_of_that_user_alone(
    web: Web, http: aiohttp.ClientSession
) -> None:
    hog = bearer("hog")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(stalled_upload(web, hog, 448 * 1024))
        status, text = await upload(http, web, hog)
        assert status == 429 and "too_many_uploads" in text and "this user (2)" in text
        assert (await upload(http, web, bearer("o-2")))[0] == 201
    await until(lambda: web.context.uploads.held_bytes == 0, "all of it was given back")
    assert (await upload(http, web, hog))[0] == 201


async def test_an_addresss_many_users_leave_room_to_other_addresses(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for n, size in enumerate((900, 470)):
            who = bearer(f"o-{n}") | {"X-Forwarded-For": "203.0.113.9"}
            await stack.enter_async_context(stalled_upload(web, who, size * 1024))
        status, text = await upload(http, web, bearer("o-9") | {"X-Forwarded-For": "203.0.113.9"})
        assert status == 429 and "this address" in text
        assert (await upload(http, web, bearer("o-9") | {"X-Forwarded-For": "203.0.113.10"}))[0] == 201
        acting = bearer("backend", "service") | {"X-User": "o-8", "X-Forwarded-For": "203.0.113.9"}
        assert (await upload(http, web, acting))[0] == 201, (
            "a service sends its users' pictures from one address"
        )


async def test_an_upload_without_room_is_refused_because_the_system_is_full(
    web: Web, http: aiohttp.ClientSession
) -> None:
    web.context.uploads.most_bytes = UPLOAD_BYTES
    status, text = await upload(http, web, bearer("o-1"))
    assert status == 503 and "Too many uploads" in text
