"""No input gives a 5xx: every string of every route, taken from the API's own description, on both databases.

Strings that once found a fault are in `nasty_strings`; add further ones there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import gzip
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from supervisor.security.tokens import CALLBACK_AUDIENCE, TICKET_AUDIENCE
from tests.fuzz.requests import BODIES
from tests.support.databases import KINDS
from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web
from tests.support.nasty_strings import NASTY
from tests.support.signed_tokens import signed
from web.app.app import ADDRESSES
from web.openapi.generator import openapi_document

pytestmark = pytest.mark.timeout(900)

IDS = {"kind": "type", "name": "photography", "key": "uploads/a.jpg", "token": "x", "webhook_id": "msg_01K_1"}
RAW = (
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf{}", b"{", b"[" * 100_000, b'{"a":NaN}', b"1" * 5000, b'"\\ud800"',
    '{"type":"ph"}'.encode("utf-16"), b'{"type":1e999,"params":[]}', gzip.compress(b"{}"),
)  # fmt: skip
MEDIA = (
    "application/json", "application/json; charset=\xff", "application/json; charset=nope", "", "/", ";", "a/b; c=\"",
    "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\xff", "image/\xff",
    "image/jpeg; charset=utf-7", "application/x-www-form-urlencoded", f"multipart/form-data; boundary={'x' * 500}",
)  # fmt: skip
PART_HEADS = (
    "Content-Type: text/plain; charset=nope", "Content-Type: text/plain; charset=\xff", "Content-Type: /",
    "Content-Type: multipart/mixed; boundary=y", "Content-Type: multipart/mixed", "Content-Type: ;;=", "Content-Type:",
    "Content-Type: image/jpeg; =", "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: nope",
    "Content-Transfer-Encoding: quoted-printable", "Content-Encoding: gzip", "Content-Encoding: br",
    "Content-Encoding: nope", "Content-Length: -1", "Content-Length: x", "Content-Length: 99999999999999999999",
)  # fmt: skip
PART_NAMES = (
    'form-data; name="image"; filename*=utf-8\'\'%ff', 'form-data; name="image"; filename="\xff\xfe"', "form-data",
    'form-data; name="\\"', "attachment", 'form-data; name*=nope\'\'x', ";", 'form-data; name="image"; filename="a\\"',
)  # fmt: skip


@pytest.fixture(params=KINDS)
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    limits = {"open_tasks_per_user": 0, "logins_per_minute": 0}
    async with running_web(tmp_path, request.param, limits=limits, credits={"enabled": False}) as running:
        yield running


class Asker:
    """Sends requests of a badly behaved client, and keeps those that are answered with a 5xx."""

    def __init__(self, http: aiohttp.ClientSession, web: Web) -> None:
        self._http, self._web = http, web
        self._at_once = asyncio.Semaphore(8)
        self.faults: list[str] = []
        self.count = 0

    async def ask(self, method: str, target: str, headers: dict[str, str], body: bytes | None = None) -> None:
        async with self._at_once:
            with contextlib.suppress(
                aiohttp.ClientError
            ):  # a body that is broken off is no answer, and no fault
                await self._ask(method, target, headers, body)

    async def _ask(self, method: str, target: str, headers: dict[str, str], body: bytes | None) -> None:
        url = aiohttp.client.URL(self._web.url + target, encoded=True)
        async with self._http.request(
            method, url, headers=headers, data=body, allow_redirects=False
        ) as response:
            self.count += 1
            if response.status >= 500:
                text = (await response.read())[:200]
                self.faults.append(f"{method} {target[:120]} {headers} {(body or b'')[:120]!r}: {text!r}")
            if response.content_type == "text/event-stream":
                response.close()


def in_url(text: str) -> str:
    """A string as bytes of an address; one that is escaped already stays so."""
    return text if "%" in text else quote(text.encode("utf-8", "surrogatepass"), safe="")


def in_header(text: str) -> str | None:
    """A string that a header can carry; None for what no client can send."""
    return (
        None
        if any(ord(each) < 32 or each == "\x7f" or "\ud800" <= each <= "\udfff" for each in text)
        else text
    )


def with_each_string_replaced(value: Any, text: str) -> Iterator[Any]:
    """The value again and again, each time with another of its strings, numbers or names replaced."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from ({**value, name: changed} for changed in with_each_string_replaced(each, text))
            yield {text if key == name else key: other for key, other in value.items()}
    elif isinstance(value, list):
        for n, each in enumerate(value):
            yield from (
                [*value[:n], changed, *value[n + 1 :]] for changed in with_each_string_replaced(each, text)
            )
    else:
        yield text


def described(web: Web) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Method, path and parameters of every operation."""
    for path, operations in openapi_document(web.settings, ADDRESSES)["paths"].items():
        for method, operation in operations.items():
            parameters = (
                [*operations.get("parameters", []), *operation.get("parameters", [])]
                if isinstance(operation, dict)
                else []
            )
            if method in ("get", "post", "put", "delete", "head"):
                yield method.upper(), path, parameters


def filled(path: str, **chosen: str) -> str:
    names = set(path.replace("}", "{").split("{")[1::2])
    return path.format_map(
        {name: chosen.get(name, IDS.get(name, "01KB7Q4W1XKQ7Y9V6J3T5M2N8P")) for name in names}
    )


async def run(asker: Asker, requests: list[Any]) -> None:
    await asyncio.gather(*requests)
    assert asker.faults == [], "\n".join(asker.faults[:20])


async def test_no_string_in_an_address_or_a_header_is_a_fault(web: Web, http: aiohttp.ClientSession) -> None:
    asker, own = Asker(http, web), bearer("o-1", "operator")
    requests = []
    for method, path, parameters in described(web):
        for text in NASTY:
            for parameter in parameters:
                name, place = parameter["name"], parameter["in"]
                if place == "path":
                    requests.append(asker.ask(method, filled(path, **{name: in_url(text)}), own))
                elif place == "query":
                    requests.append(asker.ask(method, f"{filled(path)}?{name}={in_url(text)}", own))
                elif (sent := in_header(text)) is not None:
                    requests.append(asker.ask(method, filled(path), own | {name: sent}))
    await run(asker, requests)
    assert asker.count > 2000


async def test_no_string_in_a_json_body_is_a_fault(web: Web, http: aiohttp.ClientSession) -> None:
    asker, own = Asker(http, web), bearer("o-1", "operator") | {"Content-Type": "application/json"}
    requests = [
        asker.ask("POST", path, own, json.dumps(changed).encode())
        for path, body in BODIES.items()
        for text in NASTY
        for changed in with_each_string_replaced(copy.deepcopy(body), text)
    ]
    await run(asker, requests)
    assert asker.count > 1000


async def test_no_body_however_it_is_made_or_called_is_a_fault(web: Web, http: aiohttp.ClientSession) -> None:
    asker, own = Asker(http, web), bearer("o-1", "operator")
    posts = [path for method, path, _ in described(web) if method == "POST"]
    requests = []
    for path in posts:
        requests += [
            asker.ask("POST", filled(path), own | {"Content-Type": "application/json"}, raw) for raw in RAW
        ]
        requests += [
            asker.ask("POST", filled(path), own | {"Content-Type": media}, b"--x\r\n\r\n") for media in MEDIA
        ]
        for coding in ("gzip", "deflate", "br", "zstd", "nope", "gzip, gzip"):
            said = own | {"Content-Type": "application/json", "Content-Encoding": coding}
            for raw in (b"no such thing", gzip.compress(b'{"a":1}'), gzip.compress(b"x" * 100)[:-9]):
                requests.append(asker.ask("POST", filled(path), said, raw))
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for disposition in ('form-data; name="image"', *PART_NAMES):
        for head in ("X: y", *PART_HEADS):
            text = f"--x\r\nContent-Disposition: {disposition}\r\n{head}\r\n\r\n".encode("latin-1")
            for data in (picture_bytes(), b"\x1f\x8b\xff", base64.b64encode(picture_bytes())):
                requests.append(asker.ask("POST", "/v1/images", own | form, text + data + b"\r\n--x--\r\n"))
    await run(asker, requests)


async def test_no_token_is_a_fault(web: Web, http: aiohttp.ClientSession) -> None:
    asker, far = Asker(http, web), 4_000_000_000
    values: tuple[Any, ...] = (
        *NASTY,
        int("9" * 400),
        -int("9" * 400),
        1e300,
        -1e300,
        None,
        True,
        [],
        {},
        ["x"],
        {"a": 1},
    )
    requests = []
    for value in values:
        for name in ("sub", "exp", "iat", "nbf", "jti", "role", "aud"):
            token = signed({"sub": "o-1", "exp": far, "role": "operator", name: value})
            for target in ("/v1/credits", "/v1/works/changes"):
                requests.append(asker.ask("GET", target, {"Authorization": f"Bearer {token}"}))
            ticket = signed({"sub": "o-1", "iat": 1, "exp": far, "aud": TICKET_AUDIENCE, name: value})
            by = signed(
                {"sub": "o-1", "iat": 1, "exp": far, "aud": TICKET_AUDIENCE, "by": {"sub": "b", name: value}}
            )
            requests += [asker.ask("GET", f"/v1/works/feed?ticket={each}", {}) for each in (ticket, by)]
        callback = signed({"aud": CALLBACK_AUDIENCE, "job": value})
        requests.append(asker.ask("POST", f"/v1/callbacks/{callback}", {}, b"\0\xff"))
    await run(asker, requests)


@pytest.mark.parametrize(
    "raw", [b"\xff", b"\xed\xa0\x80", b"\x80a", b"a\tb", b"\x01", b"\xc3\x28" * 50, b'"\\', b"a,b;c=d"]
)
async def test_no_bytes_in_a_header_are_a_fault(web: Web, raw: bytes) -> None:
    own = bearer("o-1")["Authorization"].encode()
    names = ("Authorization", "X-User", "Last-Event-ID", "Idempotency-Key", "Prefer", "traceparent", "Origin", "Host",
             "Content-Type", "Content-Encoding", "Accept", "Cookie", "Range", "If-None-Match", "Expect",
             "Content-Length", "Transfer-Encoding", "Connection", "Sec-Fetch-Site")  # fmt: skip
    for name in names:
        for line in (
            b"GET /v1/works/changes",
            b"GET /static/console.js",
            b"POST /v1/tasks",
            b"GET /files/a.jpg?exp=1&sig=x",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            base = b"Authorization: " + own + b"\r\n" if name != "Authorization" else b""
            host = b"" if name == "Host" else b"Host: 127.0.0.1\r\n"
            end = b"" if name == "Connection" else b"Connection: close\r\n"
            writer.write(
                line + b" HTTP/1.1\r\n" + host + base + end + name.encode() + b": " + raw + b"\r\n\r\n"
            )
            writer.write_eof()
            answer = await asyncio.wait_for(reader.readline(), 30)
            writer.close()
            assert not answer or not answer.split()[1].startswith(b"5"), (name, line, answer)


@pytest.fixture(autouse=True)
def nothing_is_logged_as_a_fault(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever the answer was: a traceback in the log is a fault of ours."""
    caplog.set_level(logging.ERROR)
    yield
    ours = [each for each in caplog.records if each.name.startswith("darkroom") and each.exc_info]
    assert [each.getMessage() for each in ours] == []
