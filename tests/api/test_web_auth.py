"""Who is let in: owners of tokens, the demo user of a loopback host, and no foreign web page."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from supervisor.security.tokens import make_feed_ticket
from tests.support.houses.web_server import SECRET, Web, bearer, running_web
from web.http.demo_access import FORWARDING_HEADERS, refusal

CREDITS = "/v1/credits"


async def _status(http: aiohttp.ClientSession, web: Web, headers: dict[str, str], path: str = CREDITS) -> int:
    async with http.get(web.url + path, headers=headers) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
            problem = await response.json()
            assert problem["status"] == response.status and problem["instance"] == path
        if response.status == 401:
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        return response.status


async def test_without_a_token_this_host_is_the_demo_user(web: Web, http: aiohttp.ClientSession) -> None:
    assert await _status(http, web, {}) == 200
    assert web.sql("SELECT user_openid, balance FROM account") == [("demo", 100)]
    assert await _status(http, web, {"Host": f"localhost:{web.port}"}) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "localhost.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://localhost:{port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Host": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        *({name.replace("*", "x"): "127.0.0.1"} for name in FORWARDING_HEADERS),
        *(
            {name: "1"}
            for name in ("CF-Connecting-IP", "CF-Ray", "True-Client-IP", "X-Client-IP", "X-Original-URL")
        ),
        *(
            {name: "1"}
            for name in ("Fastly-Client-IP", "X-Cluster-Client-IP", "X-Forwarded", "x-FORWARDED-any")
        ),
    ],
)
async def test_a_foreign_page_or_a_proxy_is_403_without_a_token(
    web: Web, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    headers = {name: value.format(port=web.port) for name, value in headers.items()}
    assert await _status(http, web, headers) == 403
    assert await _status(http, web, {**headers, **bearer("o-1")}) == 200, "a token comes from no foreign page"


async def test_http_1_0_is_refused_without_a_token_as_a_proxy_of_every_default_speaks_it(web: Web) -> None:
    for version, head, status in (
        ("1.0", "", 403),
        ("1.1", "", 200),
        ("1.0", bearer("o-1")["Authorization"], 200),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        more = f"Authorization: {head}\r\n" if head else ""
        request = (
            f"GET {CREDITS} HTTP/{version}\r\nHost: 127.0.0.1:{web.port}\r\n{more}Connection: close\r\n\r\n"
        )
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ", 2)[1] == str(status).encode(), (version, answer)


async def test_turned_off_or_not_on_loopback_there_is_no_demo_user(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    refusing: list[dict[str, Any]] = [{"demo_user": False}, {"host": "0.0.0.0"}]
    for number, chosen in enumerate(refusing):
        async with running_web(tmp_path / str(number), **chosen) as web:
            assert await _status(http, web, {}) == 401
            assert await _status(http, web, bearer("o-1")) == 200


def _forged(head: dict[str, str], claims: dict[str, object]) -> str:
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (head, claims)
    )
    return ".".join(parts) + "."


async def test_a_token_that_proves_nothing_is_401_and_never_the_demo_user(
    web: Web, http: aiohttp.ClientSession
) -> None:
    claims = {"sub": "o-1", "role": "operator", "exp": 4_000_000_000}
    good = bearer("o-1")["Authorization"]
    for header in [
        f"Bearer {_forged({'alg': 'none', 'typ': 'JWT'}, claims)}",
        f"Bearer {jwt.encode(claims, 'some other secret of some length', algorithm='HS256')}",
        bearer("o-1", ttl_seconds=-60)["Authorization"],
        f"Bearer {jwt.encode({'sub': 'o-1'}, SECRET, algorithm='HS256')}",
        f"Bearer {make_feed_ticket(SECRET, 'o-1')}",
        good[:-1] + ("A" if good[-1] != "A" else "B") + "x",
        "Bearer",
        "Bearer ",
        "Basic ZGVtbzpkZW1v",
        "",
    ]:
        assert await _status(http, web, {"Authorization": header}) == 401, header


async def test_only_a_service_may_act_for_another_user(web: Web, http: aiohttp.ClientSession) -> None:
    assert await _status(http, web, {**bearer("shop", "service"), "X-User": "o-9"}) == 200
    assert web.sql("SELECT user_openid FROM account") == [("o-9",)]
    for role in ("user", "operator"):
        assert await _status(http, web, {**bearer("o-1", role), "X-User": "o-9"}) == 403
    assert await _status(http, web, {**bearer("o-1"), "X-User": "o-1"}) == 200
    assert await _status(http, web, {"X-User": "o-9"}) == 403, "not even the demo user"
    assert await _status(http, web, {**bearer("shop", "service"), "X-User": "x" * 129}) == 422


async def test_another_users_task_and_work_are_404(web: Web, http: aiohttp.ClientSession) -> None:
    body = {"type": "photography", "params": {"images": ["https://example.org/a.jpg"]}}
    async with http.post(web.url + "/v1/tasks", json=body, headers=bearer("o-1")) as response:
        urls = (await response.json())["urls"]
    for headers, status in ((bearer("o-1"), 200), (bearer("o-2"), 404), (bearer("o-2", "operator"), 404)):
        assert await _status(http, web, headers, urls["task"]) == status
        assert await _status(http, web, headers, urls["work"]) == status
    for method, path in [
        ("POST", urls["cancel"]),
        ("POST", urls["task"] + "/retry"),
        ("DELETE", urls["work"]),
    ]:
        async with http.request(method, web.url + path, headers=bearer("o-2")) as response:
            assert response.status == 404
    for path in ("/v1/tasks", "/v1/works"):
        async with http.get(web.url + path, headers=bearer("o-2")) as response:
            assert (await response.json())["items"] == []


async def test_health_and_metrics_need_no_token(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with running_web(tmp_path, demo_user=False) as web:
        for path in ("/healthz", "/readyz", "/metrics"):
            async with http.get(web.url + path, headers={"Host": "elsewhere"}) as response:
                assert response.status == 200


def test_the_loopback_rule_knows_every_way_to_write_loopback() -> None:
    def asked(peer: str | None, host: str, port: int | None = 8000) -> str | None:
        return refusal(peer=peer, port=port, hosts=[host], origins=[], fetch_sites=[], header_names=[])

    for peer, host in [
        ("127.0.0.1", "127.0.0.1:8000"),
        ("127.9.9.9", "LocalHost:8000"),
        ("::1", "[::1]:8000"),
        ("::ffff:127.0.0.1", "127.0.0.1:8000"),
    ]:
        assert asked(peer, host) is None
    assert asked("127.0.0.1", "localhost", 80) is None
    refused: list[tuple[str | None, str]] = [
        ("10.0.0.1", "127.0.0.1:8000"),
        (None, "127.0.0.1:8000"),
        ("", "127.0.0.1:8000"),
        ("127.0.0.1", ""),
        ("127.0.0.1", "localhost:"),
        ("127.0.0.1", "localhost:x"),
        ("127.0.0.1", "[::1]x:8000"),
        ("127.0.0.1", "::1:8000"),
        ("127.0.0.1", "0.0.0.0:8000"),
        ("127.0.0.1", "127.0.0.1:8000@evil.example"),
        ("127.0.0.1", "2130706433:8000"),
    ]
    for other, name in refused:
        assert asked(other, name) is not None, (other, name)
    assert refusal(
        peer="::1", port=1, hosts=["localhost:1", "evil"], origins=[], fetch_sites=[], header_names=[]
    ), "two Host headers"
