"""A mini-program's login: a code for a token, and every refusal of WeChat."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web as aiohttp_web

from config.load_settings import SettingsError, load_settings
from supervisor.security.tokens import read_user_token
from tests.support.fakes.fake_wechat import APP_ID, APP_SECRET, FakeWeChat, fake_wechat
from tests.support.houses.web_server import SECRET, Web, running_web
from web.api.wechat_answers import Refusal, Refused, openid_of
from web.openapi import schemas

LOGIN = "/v1/auth/wechat"
OPENID = "oABC_def-123"


@pytest.fixture
async def wechat() -> AsyncIterator[FakeWeChat]:
    async with fake_wechat() as fake:
        fake.codes["good"] = OPENID
        yield fake


def _settings(fake: FakeWeChat, **changed: Any) -> dict[str, Any]:
    return {"app_id": APP_ID, "app_secret": APP_SECRET, "url": fake.url, **changed}


@pytest.fixture
async def web(tmp_path: Path, wechat: FakeWeChat) -> AsyncIterator[Web]:
    async with running_web(tmp_path, wechat=_settings(wechat), demo_user=False) as running:
        yield running


async def _login(http: aiohttp.ClientSession, web: Web, body: Any, **more: Any) -> tuple[int, Any, Any]:
    """Status, body, headers."""
    async with http.post(web.url + LOGIN, json=body, **more) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        text = await response.text()
        assert APP_SECRET not in text and "SECRETsessionKEY" not in text
        return response.status, await response.json(content_type=None), response.headers


async def test_a_code_becomes_a_token_of_its_user_and_opens_their_account(
    web: Web, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="darkroom.access"):
        status, answer, headers = await _login(http, web, {"code": "good"})
    [line] = [record.__dict__ for record in caplog.records if record.name == "darkroom.access"]
    assert line["user"] == OPENID, "who logged in"
    assert status == 200 and headers["Cache-Control"] == "no-store"
    schemas.Login.model_validate(answer, strict=True)
    identity = read_user_token(SECRET, answer["token"])
    assert (identity.user, identity.role) == (OPENID, "user") == (answer["user_openid"], "user")
    assert answer["expires_in"] == 86400
    assert identity.expires_at is not None and abs(identity.expires_at - time.time() - 86400) < 60
    headers = {"Authorization": f"Bearer {answer['token']}"}
    async with http.get(web.url + "/v1/credits", headers=headers) as response:
        assert (await response.json())["balance"] == 100


async def test_a_code_is_good_for_one_login(
    web: Web, wechat: FakeWeChat, http: aiohttp.ClientSession
) -> None:
    assert (await _login(http, web, {"code": "good"}))[0] == 200
    status, problem, headers = await _login(http, web, {"code": "good"})
    assert status == 401 and "wx.login()" in problem["detail"] and "WWW-Authenticate" in headers


@pytest.mark.parametrize(
    ("errcode", "status", "kind"),
    [
        (40029, 401, "unauthorized"),
        (40163, 401, "unauthorized"),
        (40226, 403, "wechat_blocked"),
        (45011, 429, "too_many_logins"),
        (-1, 503, "wechat_busy"),
        (40125, 502, "wechat_unavailable"),
    ],
)
async def test_an_error_inside_200_is_an_error_here(
    web: Web, wechat: FakeWeChat, http: aiohttp.ClientSession, errcode: int, status: int, kind: str
) -> None:
    given, problem, headers = await _login(http, web, {"code": wechat.fails(errcode)})
    assert (given, problem["type"]) == (status, f"urn:darkroom:problem:{kind}")
    assert ("Retry-After" in headers) is (status in (429, 503))
    assert web.sql("SELECT count(*) FROM account") == [(0,)]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (FakeWeChat.said({"openid": ""}), 502),
        (FakeWeChat.said({"openid": "a\u0000b"}), 502),
        (FakeWeChat.said(["openid"]), 502),
        (aiohttp_web.Response(text="<html>maintenance</html>", content_type="text/html"), 502),
        (aiohttp_web.Response(text="busy", status=503), 503),
        (aiohttp_web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), 502),
        (aiohttp_web.Response(body=b"x" * 100_000), 502),
    ],
    ids=[
        "no openid",
        "an openid that can't be",
        "a list",
        "a page",
        "a busy gateway",
        "a redirect",
        "too long",
    ],
)
async def test_an_answer_that_is_not_wechats_logs_no_user_in(
    web: Web, wechat: FakeWeChat, http: aiohttp.ClientSession, answer: aiohttp_web.Response, status: int
) -> None:
    wechat.answers["odd"] = answer
    assert (await _login(http, web, {"code": "odd"}))[0] == status


async def test_a_silent_or_absent_wechat_is_504_or_502_and_the_secret_is_in_no_log(
    tmp_path: Path, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_wechat() as wechat:
        settings = _settings(wechat, timeout_seconds=0.2)
        async with running_web(tmp_path / "1", wechat=settings) as web:
            wechat.hangs = True
            assert (await _login(http, web, {"code": "good"}))[0] == 504
    async with running_web(tmp_path / "2", wechat=settings) as web:
        assert (await _login(http, web, {"code": "good"}))[0] == 502
    assert "WeChat" in caplog.text and APP_SECRET not in caplog.text


@pytest.mark.parametrize(
    "body",
    [{}, {"code": ""}, {"code": 7}, {"code": "x" * 257}, {"code": "ü"}, [], "good", {"code": "good", "x": 1}],
)
async def test_a_body_without_a_code_is_422_and_wechat_is_not_asked(
    web: Web, wechat: FakeWeChat, http: aiohttp.ClientSession, body: Any
) -> None:
    assert (await _login(http, web, body))[0] == 422
    assert wechat.asked == []


async def test_each_client_address_has_a_limit_of_its_own_behind_a_trusted_proxy(
    tmp_path: Path, wechat: FakeWeChat, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path, wechat=_settings(wechat), limits={"logins_per_minute": 2}) as web:
        statuses = [
            (await _login(http, web, {"code": "bad"}, headers={"X-Forwarded-For": address}))[0]
            for address in ["203.0.113.5"] * 3 + ["203.0.113.6", "6.6.6.6, 203.0.113.5"]
        ]
        assert statuses == [401, 401, 429, 401, 429], (
            "what a client writes left of its own address changes nothing"
        )
        status, _, headers = await _login(
            http, web, {"code": "bad"}, headers={"X-Forwarded-For": "203.0.113.5"}
        )
        assert status == 429 and 1 <= int(headers["Retry-After"]) <= 31
        assert len(wechat.asked) == 3


async def test_without_a_mini_program_the_login_is_refused(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with running_web(tmp_path) as web:
        status, problem, _ = await _login(http, web, {"code": "good"})
        assert status == 404 and "DARKROOM_WECHAT__APP_ID" in problem["detail"]


def test_half_a_mini_program_stops_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="DARKROOM_WECHAT__APP_SECRET is not set"):
        load_settings({"DARKROOM_WECHAT__APP_ID": APP_ID})
    with pytest.raises(SettingsError, match="DARKROOM_WECHAT__APP_ID is not set") as caught:
        load_settings({"DARKROOM_WECHAT__APP_SECRET": APP_SECRET})
    assert APP_SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"openid":"o","session_key":"k"}', "o"),
        (200, b'{"errcode":0,"openid":"o"}', "o"),
        (200, b'{"errcode":40029,"openid":"o"}', Refused(Refusal.BAD_CODE, 40029)),
        (200, b'{"errcode":99999}', Refused(Refusal.OUR_FAULT, 99999)),
        (200, b'{"openid":7}', Refused(Refusal.NOT_AN_ANSWER)),
        (500, b'{"openid":"o"}', Refused(Refusal.BUSY)),
        (200, b"\xff", Refused(Refusal.NOT_AN_ANSWER)),
        (200, b"[" * 100_000, Refused(Refusal.NOT_AN_ANSWER)),
    ],
)
def test_the_meaning_of_each_answer(status: int, body: bytes, answer: str | Refused) -> None:
    assert openid_of(status, body) == answer
