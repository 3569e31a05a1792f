"""No request is sent twice because its connection broke, whatever its method."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator

import aiohttp
import pytest

from actors.net.fetch import Allowed, NotFetchedNow, fetch
from actors.providers.base import Transient, UnknownOutcome
from actors.providers.common.client import HttpClient
from actors.providers.common.requests import Outgoing
from actors.providers.http.service import METHODS
from config.clients import WeChat
from supervisor.cli.api_client import Api, ApiError
from supervisor.net.http_session import BrokeOff, open_session
from tests.support.repository import ROOT, modules
from tests.support.servers.dropping_server import DroppingServer, dropping_server
from web.api.wechat import WeChatLogin
from web.http.problems import Problem

REPEATED_BY_AIOHTTP = {"GET", "PUT", "DELETE"}


@pytest.fixture(params=["closes", "resets"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[DroppingServer]:
    async with dropping_server() as opened:
        opened.resets = request.param == "resets"
        yield opened


def outgoing(method: str, server: DroppingServer) -> Outgoing:
    body = None if method in ("GET", "DELETE") else b'{"prompt":"by the sea"}'
    return Outgoing(method, f"{server.url}/make", {}, body=body)


@pytest.mark.parametrize("method", METHODS)
async def test_a_plain_session_of_aiohttp_sends_these_methods_twice(server, method):
    """The reason for `supervisor.net.http_session`.  Should this fail one day, that may become simpler."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.request(method, server.url)
    assert len(server.asked) == (2 if method in REPEATED_BY_AIOHTTP else 1)


@pytest.mark.parametrize("method", METHODS)
async def test_a_request_leaves_once_whatever_its_method(server, method):
    client = HttpClient(most_bytes=1000)
    try:
        with pytest.raises(UnknownOutcome, match="broke off"):
            await client.ask(outgoing(method, server), 10)
        assert len(server.asked) == 1 and server.asked[0].startswith(f"{method} /make ")
        with pytest.raises(Transient):  # who asks a question may ask again, when it is told so
            await client.question(outgoing(method, server), 10)
        assert len(server.asked) == 2
    finally:
        await client.close()


async def test_a_websocket_is_asked_for_once(server):
    client = HttpClient(most_bytes=1000)
    try:
        with pytest.raises(aiohttp.ClientError):
            async with client.socket(f"{server.url}/ws", {}):
                pass
        assert len(server.asked) == 1
    finally:
        await client.close()


async def test_a_login_code_that_is_good_once_is_sent_once(server):
    settings = WeChat(app_id="wx1", app_secret="secret", url=server.url)  # type: ignore[arg-type]
    async with open_session() as session:
        with pytest.raises(Problem) as refused:
            await WeChatLogin(settings, 5, session).exchange("good")
    assert refused.value.status == 502
    assert len(server.asked) == 1


async def test_a_picture_is_fetched_once(server):
    with pytest.raises(NotFetchedNow):
        await fetch(server.url, most_bytes=100, allowed=Allowed(("http",), True))
    assert len(server.asked) == 1


async def test_the_command_line_sends_a_request_once(server):
    async with Api(server.url, "") as api:
        with pytest.raises(ApiError, match="nobody answers"):
            await api.call("DELETE", "/v1/works/w-1")
    assert len(server.asked) == 1


async def test_a_failed_connect_is_not_reported_as_a_broken_connection():
    async with open_session() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await session.get("http://127.0.0.1:9/")
    assert not isinstance(refused.value, BrokeOff)


def test_sessions_are_opened_in_one_place_alone() -> None:
    home = ROOT / "supervisor/net/http_session.py"
    openers = ("aiohttp.ClientSession", "aiohttp.request", "ClientSession")
    elsewhere = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in openers and path != home
    ]
    assert not elsewhere, "use supervisor.net.http_session.open_session, or requests may leave twice"
