"""Front ends on another domain: the headers that a browser needs, and for which origins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from config.load_settings import SettingsError, load_settings
from tests.support.houses.web_server import SseReader, Web, bearer, running_web

APP = "https://app.example.com"
ALLOW = "Access-Control-Allow-Origin"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, allowed_origins=(APP, "http://localhost:5173")) as running:
        yield running


def _preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }


async def test_a_page_of_an_allowed_origin_is_let_in_and_shown_errors_and_streams_too(
    web: Web, http: aiohttp.ClientSession
) -> None:
    async with http.options(web.url + "/v1/tasks", headers=_preflight(APP)) as response:
        assert response.status == 204 and response.headers[ALLOW] == APP
        allowed = response.headers["Access-Control-Allow-Headers"].lower()
        assert all(
            name in allowed
            for name in ("authorization", "content-type", "idempotency-key", "last-event-id", "traceparent")
        )
        assert "POST" in response.headers["Access-Control-Allow-Methods"]
    headers = {"Origin": APP} | bearer("o-1")
    for path, status in (("/v1/credits", 200), ("/v1/tasks/none", 404), ("/v1/nothing", 404)):
        async with http.get(web.url + path, headers=headers) as response:
            assert (response.status, response.headers[ALLOW]) == (status, APP)
            assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
            assert "Origin" in response.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in response.headers
    async with http.get(web.url + "/v1/works/feed", headers=headers) as response:
        assert response.headers[ALLOW] == APP
        assert await SseReader(response).next() is not None


async def test_pages_of_other_origins_get_no_headers(web: Web, http: aiohttp.ClientSession) -> None:
    for origin in (
        "https://evil.example",
        "null",
        "https://app.example.com.evil.example",
        "http://app.example.com",
    ):
        async with http.options(web.url + "/v1/tasks", headers=_preflight(origin)) as response:
            assert response.status == 403 and ALLOW not in response.headers
        async with http.get(web.url + "/v1/credits", headers={"Origin": origin} | bearer("o-1")) as response:
            assert response.status == 200 and ALLOW not in response.headers
            assert "Origin" in response.headers["Vary"], "or a cache would show it another page's answer"
    async with http.get(web.url + "/metrics", headers={"Origin": APP}) as response:
        assert ALLOW not in response.headers


async def test_an_allowed_origin_is_not_the_demo_user(web: Web, http: aiohttp.ClientSession) -> None:
    async with http.get(web.url + "/v1/credits", headers={"Origin": APP}) as response:
        assert response.status == 403


async def test_by_default_no_origin_is_allowed_and_a_star_allows_every_one(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with (
        running_web(tmp_path / "1") as web,
        http.options(web.url + "/v1/tasks", headers=_preflight(APP)) as response,
    ):
        assert response.status == 405 and ALLOW not in response.headers
    async with (
        running_web(tmp_path / "2", allowed_origins=("*",)) as web,
        http.options(web.url + "/v1/tasks", headers=_preflight("null")) as response,
    ):
        assert response.status == 204 and response.headers[ALLOW] == "*"


def test_origins_and_proxies_are_lists_and_a_wrong_item_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings(
        {
            "DARKROOM_ALLOWED_ORIGINS": "https://App.example.com, http://localhost:5173",
            "DARKROOM_TRUSTED_PROXIES": "10.0.0.0/8,::1",
        }
    )
    assert settings.allowed_origins == (APP, "http://localhost:5173")
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1")
    for name, value in (("ALLOWED_ORIGINS", "https://a.example/path"), ("TRUSTED_PROXIES", "proxy.local")):
        with pytest.raises(SettingsError, match=f"DARKROOM_{name} holds '{value}'"):
            load_settings({f"DARKROOM_{name}": value})
    (tmp_path / "darkroom.toml").write_text('allowed_origins = ["https://app.example.com"]\n')
    assert load_settings({}).allowed_origins == (APP,)
