"""On the same host the link of this start lets a browser in without typing, and nothing else does."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.security.start_secret import (
    FILE_NAME,
    VARIABLE,
    make_start_secret,
    start_link,
    start_secret_of,
)
from tests.support.command_line import darkroom
from tests.support.houses.web_server import Web, bearer, running_web
from web.http.demo_access import is_of_a_browser, names_another_host

CREDITS, OPS = "/v1/credits", "/v1/ops/overview"
TYPED = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
OUR_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}


async def follow(http: aiohttp.ClientSession, link: str, **headers: str) -> tuple[int, str, str]:
    """Status, where it leads, and the cookie that is set."""
    async with http.get(link, headers=headers, allow_redirects=False) as response:
        return (
            response.status,
            response.headers.get("Location", ""),
            response.headers.get("Set-Cookie", ""),
        )


async def status(http: aiohttp.ClientSession, where: str, headers: dict[str, str]) -> tuple[int, str]:
    async with http.get(where, headers=headers) as response:
        answer = await response.json()
        return response.status, answer.get("type", "").rpartition(":")[2] if response.status >= 400 else ""


async def test_a_browser_needs_the_cookie_that_the_link_sets_and_a_program_does_not(web: Web) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        for headers in (TYPED, OUR_PAGE, {"Origin": web.url}, {"Origin": web.url, **OUR_PAGE}):
            for path in (CREDITS, OPS):
                assert await status(http, web.url + path, headers) == (403, "start_link_needed")
        for path in (CREDITS, OPS):
            assert await status(http, web.url + path, {}) == (200, "")

        code, where, cookie = await follow(http, start_link(web.url, web.context.start_secret), **TYPED)
        assert (code, where) == (303, "/")
        pair, *attributes = (each.strip() for each in cookie.split(";"))
        assert pair == f"darkroom-{web.port}={web.context.start_secret}"
        assert {each.lower() for each in attributes} == {"httponly", "path=/", "samesite=strict"}

        for headers in (TYPED, OUR_PAGE, {"Origin": web.url, **OUR_PAGE}):
            for path in (CREDITS, OPS):
                assert await status(http, web.url + path, {**headers, "Cookie": pair}) == (200, "")


async def test_the_cookie_helps_no_foreign_page_no_proxy_and_no_rebound_name(web: Web) -> None:
    cookie = {"Cookie": f"darkroom-{web.port}={web.context.start_secret}"}
    foreign: list[dict[str, str]] = [
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"http://127.0.0.1:{web.port + 1}", "Sec-Fetch-Site": "same-site"},  # a site has no port
        {"Sec-Fetch-Site": "same-site"},
        {"Host": f"rebound.example:{web.port}", "Origin": f"http://rebound.example:{web.port}", **OUR_PAGE},
        {"X-Forwarded-For": "203.0.113.1", **OUR_PAGE},
        {"CF-Connecting-IP": "203.0.113.1", **TYPED},
    ]
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        assert await status(http, web.url + CREDITS, OUR_PAGE | cookie) == (200, "")
        for headers in foreign:
            assert await status(http, web.url + CREDITS, headers | cookie) == (403, "forbidden"), headers


async def test_a_wrong_cookie_or_link_is_refused(web: Web, tmp_path: Path) -> None:
    good = web.context.start_secret
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        for key in ("", "wrong", good[:-1], good + "x", "%00", "%ff", "\u4f60"):
            code, where, cookie = await follow(http, f"{web.url}/start?key={key}", **TYPED)
            assert (code, where, cookie) == (303, "/", ""), "the page it leads to says what to do"
            headers = OUR_PAGE | {"Cookie": f"darkroom-{web.port}={key}"}
            assert await status(http, web.url + CREDITS, headers) == (403, "start_link_needed")
        another_port = {"Cookie": f"darkroom-{web.port + 1}={good}"}
        assert (await status(http, web.url + CREDITS, OUR_PAGE | another_port))[0] == 403
        for headers in ({"Host": "evil.example"}, {"Via": "1.1 proxy"}):
            assert (await follow(http, start_link(web.url, good), **headers))[::2] == (403, "")
        async with running_web(tmp_path / "strict", demo_user=False) as strict:
            link = start_link(strict.url, strict.context.start_secret)
            assert (await follow(http, link))[::2] == (403, "")


async def test_a_wrong_token_is_never_mended_by_a_cookie(web: Web, http: aiohttp.ClientSession) -> None:
    headers = OUR_PAGE | {"Cookie": f"darkroom-{web.port}={web.context.start_secret}"}
    assert (await status(http, web.url + CREDITS, headers | {"Authorization": "Bearer x"}))[0] == 401
    assert (await status(http, web.url + CREDITS, OUR_PAGE | bearer("o-1")))[0] == 200


async def test_a_foreign_name_is_warned_of_once_and_only_where_the_demo_user_is(
    tmp_path: Path, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "darkroom.web")
    for n, (chosen, warned) in enumerate((({}, 1), ({"demo_user": False}, 0))):
        caplog.clear()
        async with running_web(tmp_path / str(n), **chosen) as web:  # type: ignore[arg-type]
            for host in (
                f"127.0.0.1:{web.port}",
                "localhost",
                "darkroom.example.com",
                "other.example",
                "x\u00ff",
            ):
                async with http.get(web.url + "/healthz", headers={"Host": host}) as response:
                    assert response.status == 200
        said = [each.getMessage() for each in caplog.records if "names the host" in each.getMessage()]
        assert len(said) == warned
        assert all("'darkroom.example.com'" in each and "DARKROOM_DEMO_USER=false" in each for each in said)


def test_the_secret_of_a_start_is_private_new_each_time_and_the_parents_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_start_secret(tmp_path), start_secret_of(tmp_path)
    kept = tmp_path / FILE_NAME
    assert first != second == kept.read_text().strip() and kept.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(VARIABLE, "of up")
    assert start_secret_of(tmp_path) == "of up" and kept.read_text().strip() == second


async def test_the_command_prints_the_link_alone_and_says_what_to_do_where_there_is_none(
    tmp_path: Path,
) -> None:
    away = await asyncio.to_thread(darkroom, tmp_path, "link")
    assert (away.returncode, away.stdout) == (1, "") and "start it with `darkroom up`" in away.stderr
    secret = make_start_secret(tmp_path)
    (tmp_path / "url").write_text("http://127.0.0.1:8000\n")
    printed = await asyncio.to_thread(darkroom, tmp_path, "link")
    assert printed.stdout == f"http://127.0.0.1:8000/start?key={secret}\n"
    off = await asyncio.to_thread(darkroom, tmp_path, "link", DARKROOM_DEMO_USER="false")
    assert (off.returncode, off.stdout) == (2, "") and "darkroom token USER" in off.stderr


@given(
    st.lists(st.sampled_from(["Host", "Accept", "User-Agent", "Cookie", "Range", "X-User", "Sec-Fetch-Mode"]))
)
def test_only_what_a_browser_alone_sends_makes_a_browser(names: list[str]) -> None:
    assert not is_of_a_browser(names)
    for sign in ("Origin", "ORIGIN", "Sec-Fetch-Site", "sec-fetch-site"):
        assert is_of_a_browser([*names, sign])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "[::1]:8000", "LOCALHOST"])
def test_a_loopback_name_is_no_other_host(host: str) -> None:
    assert not names_another_host([host]) and names_another_host([host, "darkroom.example.com"])
