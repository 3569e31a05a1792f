"""Bodies are bounded before they are parsed: in bytes, time, values and parts; they are never decompressed."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.security.tokens import Callback, make_callback_token
from tests.support.houses.web_server import SECRET, Web, bearer, picture_bytes, running_web, until
from web.access.authentication import DOORS
from web.app.app import ADDRESSES
from web.http import body_timeouts
from web.http.body_timeouts import GRACE_SECONDS, LEAST_BYTES_A_SECOND, SILENT_SECONDS, Pace
from web.http.json_shape import MOST_DEPTH, MOST_VALUES, shape_fault

IMAGES, TASKS = "/v1/images", "/v1/tasks"
URL = "https://example.org/a.jpg"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, wechat={"app_id": "wx1", "app_secret": "s"}) as running:
        yield running


async def post(
    http: aiohttp.ClientSession, web: Web, path: str, data: Any, content_type: str, **headers: str
) -> tuple[int, dict[str, Any]]:
    sent = bearer("o-1") | {"Content-Type": content_type} | headers
    async with http.post(web.url + path, data=data, headers=sent) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        return response.status, await response.json()


# --- compressed bodies ---


@pytest.mark.parametrize("address", ADDRESSES, ids=lambda address: f"{address.method} {address.path}")
async def test_a_compressed_body_is_refused_at_every_address(
    web: Web, http: aiohttp.ClientSession, address: Any
) -> None:
    path = address.path.replace("{", "").replace("}", "")
    headers = bearer("o-1", "operator") | {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with http.request(
        address.method, web.url + path, data=gzip.compress(b"{}"), headers=headers
    ) as response:
        problem = await response.json()
        at_a_door = address.path.startswith(DOORS)
        media_type = "application/json" if at_a_door else "application/problem+json"
        assert response.status == 415 and response.content_type == media_type
        assert "Content-Encoding" in str(problem) and response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("coding", ["deflate", "br", "zstd", "identity, gzip", "x-unknown", "GZIP"])
async def test_any_content_coding_is_refused(web: Web, http: aiohttp.ClientSession, coding: str) -> None:
    headers = {"Content-Encoding": coding}
    assert (await post(http, web, IMAGES, b"no picture", "image/jpeg", **headers))[0] == 415
    assert (await post(http, web, "/v1/nothing", b"{}", "application/json", **headers))[0] == 415


async def test_a_body_as_it_is_may_say_so(web: Web, http: aiohttp.ClientSession) -> None:
    status, _ = await post(
        http, web, IMAGES, picture_bytes(), "image/jpeg", **{"Content-Encoding": "identity"}
    )
    assert status == 201


# --- forms ---


def part(name: str, content: bytes, *more: str) -> bytes:
    heads = "".join(f"{head}\r\n" for head in (f'Content-Disposition: form-data; name="{name}"', *more))
    return f"--x\r\n{heads}\r\n".encode("latin-1") + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--x--\r\n"


FORM = "multipart/form-data; boundary=x"
PICTURE = part("image", picture_bytes())
IN_GBK = b'--x\r\nContent-Disposition: form-data; name="image"; filename="\xd5\xd5\xc6\xac.jpg"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (form(*[part("a", b"")] * 15, PICTURE), 201, ""),
        (form(*[part("a", b"")] * 16, PICTURE), 413, "parts"),
        (form(part("a", b"", *[f"X-{n}: 1" for n in range(20)]), PICTURE), 413, "heads"),
        (form(part("a", b"", "X-Long: " + "x" * 5000), PICTURE), 413, "heads"),
        (form(part("a", b"x" * 70_000), PICTURE), 413, "beside its files"),
        (form(*[part("a", b"x" * 10_000)] * 8, PICTURE), 413, "beside its files"),
        (b"a preamble of old\r\n" * 10 + form(PICTURE), 201, ""),
        (b"a preamble of old\r\n" * 4000 + form(PICTURE), 422, "broken"),
        (form(part("a", b"", "X-Folded: 1\r\n 2"), PICTURE), 422, "broken"),
        (form(part("image", picture_bytes(), 'Content-Type: image/jpeg; a="b')), 201, ""),
        (form(IN_GBK + picture_bytes() + b"\r\n"), 201, ""),
        (form(part("image", b"--y\r\n", "Content-Type: multipart/mixed; boundary=y")), 415, "not a picture"),
        (form(), 422, "no field 'image'"),
        (b"", 422, "broken"),
        (PICTURE, 422, "broken"),
    ],
)  # fmt: skip
async def test_a_form_holds_few_parts_and_little_beside_its_files(
    web: Web, http: aiohttp.ClientSession, body: bytes, status: int, says: str
) -> None:
    found, answer = await post(http, web, IMAGES, body, FORM)
    assert found == status, answer
    assert says in answer.get("detail", "")


@pytest.mark.parametrize("boundary", ['"x"', "x; charset=utf-8", "", "x" * 71, '"a\tb"', "é"])
async def test_a_form_whose_head_names_no_boundary_of_its_body_is_read_by_its_first_line(
    web: Web, http: aiohttp.ClientSession, boundary: str
) -> None:
    content_type = f"multipart/form-data; boundary={boundary}"
    assert (await post(http, web, IMAGES, form(PICTURE), content_type))[0] == 201


async def test_a_form_is_the_same_however_it_is_cut(web: Web, http: aiohttp.ClientSession) -> None:
    body = form(
        part("note", b"\r\n--\r\n--y"), part("image", picture_bytes() + b"\r\n--\r\r\n-"), part("z", b"")
    )

    async def cut(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    made = {(await post(http, web, IMAGES, cut(size), FORM))[1]["bytes"] for size in (1, 7, 64, 100_000)}
    assert len(made) == 1


# --- slow bodies ---


@given(pieces=st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, SILENT_SECONDS)), max_size=50))
def test_a_client_at_the_lowest_rate_is_waited_for(pieces: list[tuple[int, float]]) -> None:
    pace = Pace()
    for bytes_, waited in pieces:
        pace.note(max(bytes_, int(waited * LEAST_BYTES_A_SECOND) + 1), waited)
        assert pace.patience_seconds > 0
    assert pace.patience_seconds <= SILENT_SECONDS


def test_a_slow_client_gets_the_grace_and_the_time_that_its_bytes_earned() -> None:
    pace = Pace()
    while pace.patience_seconds > 0:
        pace.note(1, 5.0)
    assert GRACE_SECONDS <= pace.waited_seconds <= GRACE_SECONDS + 5.1


async def stalled(web: Web, path: str, content_type: str, begun: bytes) -> tuple[bytes, bytes]:
    """The answer's first line and body, for a request with an incomplete body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('o-1', 'operator')['Authorization']}\r\n"
    )
    writer.write(
        f"{head}Content-Type: {content_type}\r\nContent-Length: {len(begun) + 9}\r\n\r\n".encode() + begun
    )
    async with asyncio.timeout(30):
        line = await reader.readline()
        answer = await reader.readuntil(b"}")
    writer.close()
    return line, answer


async def test_a_body_that_stops_is_answered_408_wherever_it_goes(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_timeouts, "SILENT_SECONDS", 0.2)
    callback = f"/v1/callbacks/{make_callback_token(SECRET, Callback('r-1'))}"
    for path, content_type, begun in (
        (IMAGES, "image/jpeg", picture_bytes() + b"x" * 50_000),
        (IMAGES, FORM, b"--x\r\nContent-Disposition: form-data; name=image\r\n\r\nabc"),
        (TASKS, "application/json", b'{"type":'),
        ("/v1/auth/wechat", "application/json", b""),
        ("/v1/ops/pauses", "application/json", b"{"),
        (callback, "text/plain", b"do"),
    ):
        line, answer = await stalled(web, path, content_type, begun)
        assert b" 408 " in line, (path, line)
        assert b"application/problem+json" in answer and b"body_timeout" in answer
    await until(lambda: web.context.uploads.held_bytes == 0, "nothing is held for them")


# --- JSON ---


def order(**params: Any) -> bytes:
    return json.dumps({"type": "photography", "params": {"images": [URL], **params}}).encode()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (order(parameters={str(n): n for n in range(3000)}), 202, ""),
        (order(parameters={"text": "[{," * 100_000 + '\\"' * 50_000}), 202, ""),
        (order(parameters={str(n): n for n in range(MOST_VALUES)}), 422, "values"),
        (b'"' * 100_000, 400, "not JSON"),
        (b"[" + b'"","",' * 20_000 + b'""]', 422, "values"),
        (b"[" * 20_000, 400, "not JSON"),
        (b"]" * 20_000, 400, "not JSON"),
        (b"[" * (MOST_DEPTH + 1) + b"]" * (MOST_DEPTH + 1), 422, "nested"),
        (b"[" * MOST_DEPTH + b"]" * MOST_DEPTH, 422, "JSON object"),
        (b"{" + b",".join(b'"m%d":1' % n for n in range(5000)) + b"}", 422, "5,000 members"),
        (order(**{f"m{n}": 1 for n in range(5000)}), 422, "members"),
        (order(**{f"m{n}": 1 for n in range(90)}), 422, "(and 70 more mistakes than are listed)"),
        (b"[" * 20_000 + b"]" * 20_000, 422, "values"),
        (b"x" * 50_000, 400, "not JSON"),
    ],
)
async def test_an_order_holds_few_values_and_its_error_is_short(
    web: Web, http: aiohttp.ClientSession, body: bytes, status: int, says: str
) -> None:
    headers = bearer("o-1") | {"Content-Type": "application/json"}
    async with http.post(web.url + TASKS, data=body, headers=headers) as response:
        text = await response.text()
        assert response.status == status, text[:300]
        assert says in text and len(text) < 8192


def nested(depth: int) -> Any:
    return [] if depth == 1 else [nested(depth - 1)]


_TEXT = st.text(alphabet=st.sampled_from('a",:[]{}\\\u00e9\n'), max_size=30)
_JSON = st.recursive(
    st.none() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_TEXT, inner, max_size=5),
    max_leaves=200,
)


@given(value=_JSON)
def test_no_small_value_is_taken_for_a_large_one(value: Any) -> None:
    assert shape_fault(json.dumps(value)) is None
    assert shape_fault(json.dumps(value, ensure_ascii=False, indent=2)) is None


@given(filler=st.lists(_TEXT, max_size=5), depth=st.integers(1, 150))
def test_depth_is_counted_and_brackets_in_text_are_not(filler: list[str], depth: int) -> None:
    fault = shape_fault(json.dumps([filler, nested(depth)]))
    assert (fault is not None) == (depth + 1 > MOST_DEPTH)


@given(count=st.integers(MOST_VALUES - 3, MOST_VALUES + 3), text=_TEXT)
def test_values_are_counted_whatever_stands_in_them(count: int, text: str) -> None:
    fault = shape_fault(json.dumps([text] * count))
    assert (fault is not None) == (count > MOST_VALUES)


async def test_a_large_order_of_one_user_does_not_wait_for_many_of_another(
    web: Web, http: aiohttp.ClientSession
) -> None:
    turns = web.context.json_turns
    await turns.take("hog")
    body = order(parameters={"text": "x" * 5000})
    hog = [asyncio.create_task(post(http, web, TASKS, body + b" " * n, "application/json")) for n in range(3)]
    await until(lambda: turns.waiting == 3, "the large orders wait for a turn")
    assert (await post(http, web, TASKS, order(), "application/json"))[0] == 202, "a small one does not"
    turns.give_back("hog")
    assert {status for status, _ in await asyncio.gather(*hog)} == {202}
