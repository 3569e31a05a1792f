"""Signed addresses are requested exactly as spelled: results, redirects, addresses of services, users' pictures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from actors.net.fetch import Allowed, Unfetchable, fetch
from actors.net.given_addresses import as_given, redirected
from actors.providers.base import Transient
from actors.providers.common.client import HttpClient
from actors.providers.common.requests import Outgoing, request_template
from actors.webhooks.webhook_delivery import NotDelivered, _send
from config.settings import Settings
from supervisor.store.webhooks.deliveries import Message
from tests.support.servers.signing_server import SigningServer, signing_server

PICTURE = b"\x89PNG\r\n\x1a\n and so on"
# Each is valid, each is spelled otherwise by a client that normalises.
SIGNED = [
    "/b/a%2fb.png?sig=a%2Fb%2b%7E&x=1+2",
    "/b/%7euser/%e5%9b%be.png?X-Amz-Credential=k%2F20261129%2Fs3&X-Amz-Signature=0a",
    "/b/a//b/./c/../d.png?q-sign-time=1%3b2&response-content-disposition=a%3d%22b%22",
    "/b/x.png?a=(1)!*'&b=%28%29&sig=3D==&empty=&flag",
    "/b/:x@y;v=1,2/$&+.png?/?:@,;=%40",
]


@pytest.fixture
async def server() -> AsyncIterator[SigningServer]:
    async with signing_server() as opened:
        opened.files = dict.fromkeys(SIGNED, PICTURE)
        yield opened


async def fetched(address: str) -> bytes:
    return await fetch(address, most_bytes=100, allowed=Allowed(("http",), True))


@pytest.mark.parametrize("signed", SIGNED)
async def test_a_picture_is_fetched_under_the_very_address_that_was_signed(server, signed):
    assert str(URL(server.url + signed)) != server.url + signed, "a client would respell it"
    assert await fetched(server.url + signed) == PICTURE
    assert server.asked == [signed]


@pytest.mark.parametrize("signed", SIGNED)
async def test_a_redirect_is_followed_as_it_is_spelled(server, signed):
    server.moved = {"/whole": server.url + signed, "/from/here": signed}
    assert await fetched(server.url + "/whole") == PICTURE
    assert await fetched(server.url + "/from/here") == PICTURE
    assert server.asked == ["/whole", signed, "/from/here", signed]


@pytest.mark.parametrize("signed", SIGNED)
async def test_an_address_that_a_service_gave_is_asked_as_it_gave_it(server, signed):
    template = request_template("GET", "${kept.here}", {}, {}, None, "json", home=server.url)
    client = HttpClient(most_bytes=1000)
    try:
        answer = await client.question(template.render(lambda _: server.url + signed), 10)
    finally:
        await client.close()
    assert (answer.status, server.asked) == (200, [signed])


async def test_a_webhook_goes_to_the_very_address_that_was_given(server, tmp_path):
    settings = Settings(data_dir=tmp_path, webhooks={"allow_private_addresses": True})  # type: ignore[arg-type]
    worker: Any = SimpleNamespace(settings=settings, images=None, files=None)

    def message(url: str) -> Message:
        return Message(
            id="msg_1", user="o-1", task_id="t-1", type="task.completed", ended_at="2026-01-01T00:00:00Z",
            data={"result": None}, url=url, dispatch=1, attempts=1,
        )  # fmt: skip

    assert await _send(worker, message(server.url + SIGNED[0])) == 200
    assert server.asked == [SIGNED[0]]
    with pytest.raises(NotDelivered):
        await _send(worker, message("http://127.0.0.1/\x00"))


@pytest.mark.parametrize(
    "bad", ["http://127.0.0.1/a\r\nX-Injected: 1", "http://127.0.0.1/\x7f", "no address", "", "/x"]
)
async def test_an_invalid_address_is_never_sent(server, bad):
    with pytest.raises(ValueError, match="no address"):
        as_given(bad)
    with pytest.raises(Unfetchable):
        await fetched(bad)
    client = HttpClient(most_bytes=1000)
    with pytest.raises(Transient):
        await client.ask(Outgoing("GET", bad, {}), 10)
    server.moved = {"/x": f"{server.url}/\x01y"}
    with pytest.raises(Unfetchable):
        await asyncio.wait_for(fetched(server.url + "/x"), 10)
    assert server.asked == ["/x"]


def test_only_characters_forbidden_in_a_request_are_escaped():
    assert str(as_given("https://例え.jp/图 1.png?n=ä%2f#part")) == (
        "https://xn--r8jz45g.jp/%E5%9B%BE%201.png?n=%C3%A4%2f"
    )
    assert as_given("https://host.test?a=%2f").raw_path_qs == "/?a=%2f"
    assert as_given("HTTPS://user:p%40@host.test:8443/x").host == "host.test"
    with pytest.raises(ValueError, match="backslash"):
        as_given("http://public.test\\@127.0.0.1/")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=60))
def test_no_printable_sign_of_a_path_or_query_is_changed(rest):
    address = as_given(f"https://host.test/{rest}")
    assert address.host == "host.test" and address.scheme == "https"
    assert address.raw_path_qs == f"/{rest}" or (
        rest.endswith("?") and address.raw_path_qs == f"/{rest[:-1]}"
    )


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("https://b.test/%7ex?s=%2f", "https://b.test/%7ex?s=%2f"),
        ("//b.test/y", "https://b.test/y"),
        ("/%7ex?s=%2f", "https://a.test/%7ex?s=%2f"),
        ("next?s=%2f", "https://a.test/b/next?s=%2f"),
        ("?s=%2f", "https://a.test/b/c?s=%2f"),
        ("javascript:alert(1)", "javascript:alert(1)"),
    ],
)
def test_where_a_redirect_leads(location, leads_to):
    assert redirected("https://a.test/b/c?old=1", location) == leads_to
