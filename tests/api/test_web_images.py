"""Uploads and the links to them, over a real server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import mimetypes
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from PIL import Image

from supervisor.pictures.normalise import know_formats
from tests.support.houses.web_server import Web, bearer, picture_bytes, running_web, until
from tests.support.pictures import _png_that_claims
from web.api import stored_files

IMAGES = "/v1/images"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with running_web(tmp_path, limits={"image_bytes": 200_000}) as running:
        yield running


async def _upload(
    http: aiohttp.ClientSession, web: Web, data: Any, content_type: str | None = "image/jpeg"
) -> Any:
    headers = bearer("o-1") | ({"Content-Type": content_type} if content_type else {})
    async with http.post(web.url + IMAGES, data=data, headers=headers) as response:
        body = await response.json()
        if response.status != 201:
            assert response.content_type == "application/problem+json" and body["detail"]
            assert web.sql("SELECT count(*) FROM image") == [(0,)]
            assert _stored(web) == []
        return response.status, body


def _stored(web: Web) -> list[str]:
    folder = web.settings.data_dir / "files"
    return sorted(name for _, _, names in os.walk(folder) for name in names)


def _form(data: bytes, **field: Any) -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("note", "hello")
    form.add_field("image", data, filename="../../me.jpg", **field)
    return form


async def test_a_raw_body_and_a_form_are_the_same_upload(web: Web, http: aiohttp.ClientSession) -> None:
    for data, content_type in ((picture_bytes(), "image/jpeg"), (_form(picture_bytes()), None)):
        status, image = await _upload(http, web, data, content_type)
        assert status == 201 and (image["width"], image["height"]) == (64, 48)
        async with http.get(web.url + image["url"]) as response:
            assert response.status == 200 and response.content_type == "image/jpeg"
            assert len(await response.read()) == image["bytes"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox; frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["Content-Disposition"] == f'inline; filename="{image["id"]}.jpg"'
    assert len(_stored(web)) == 2 and not any("me.jpg" in name for name in _stored(web))


async def test_an_upload_is_stored_upright_and_without_metadata(
    web: Web, http: aiohttp.ClientSession
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SpyCam 3000"
    _, image = await _upload(http, web, picture_bytes(size=(64, 48), exif=exif))
    assert (image["width"], image["height"]) == (48, 64)
    async with http.get(web.url + image["url"]) as response:
        data = await response.read()
    assert b"SpyCam" not in data and Image.open(io.BytesIO(data)).size == (48, 64)


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"hello, I am text", "image/jpeg", 415),
        (b"hello, I am text", "text/plain", 415),
        (b"{}", "application/json", 415),
        (b"", "image/png", 415),
        (b"<svg/>", "image/svg+xml", 415),
        (picture_bytes("PNG", (300, 300))[:200], "image/png", 422),
        (_png_that_claims(50_000, 50_000), "image/png", 422),
        (b"\xff\xd8\xff" + b"x" * 200_001, "image/jpeg", 413),
        (b"x" * 2_000_000, "image/jpeg", 413),
        (b"x" * 200_001, "image/jpeg", 415),
        (b"no form at all", "multipart/form-data; boundary=x", 422),
        (b"no form at all", "multipart/form-data", 422),
        (
            b"--x\r\nContent-Disposition: form-data; name=other\r\n\r\na\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            422,
        ),
    ],
)
async def test_an_unusable_upload_is_refused_and_not_kept(
    web: Web, http: aiohttp.ClientSession, data: bytes, content_type: str, status: int
) -> None:
    assert (await _upload(http, web, data, content_type))[0] == status


async def test_a_form_is_judged_by_its_field(web: Web, http: aiohttp.ClientSession) -> None:
    assert (await _upload(http, web, _form(b"text"), None))[0] == 415
    assert (await _upload(http, web, _form(b"text", content_type="image/jpeg"), None))[0] == 415
    assert (await _upload(http, web, _form(b"\xff\xd8\xff" + b"x" * 200_001), None))[0] == 413
    endless = aiohttp.FormData()
    endless.add_field("note", "x" * 150_000)
    endless.add_field("image", picture_bytes(), filename="a.jpg")
    assert (await _upload(http, web, endless, None))[0] == 413


LABELS = [
    "image", "*/*", "jpg", "image/jpg", "image/*", "image/heic", "application/octet-stream", "binary/octet-stream",
    "multipart/form-data", "application/x-www-form-urlencoded", "text/plain", "undefined", "null", ";", None,
]  # fmt: skip


async def _send(http: aiohttp.ClientSession, web: Web, body: bytes, label: str | None) -> Any:
    """As it is: without any header of the client's own."""
    headers = bearer("o-1") | ({} if label is None else {"Content-Type": label})
    skipped = ("Content-Type", "Accept-Encoding")
    async with http.post(web.url + IMAGES, data=body, headers=headers, skip_auto_headers=skipped) as response:
        return response.status, await response.json()


def _by_hand(data: bytes, label: str | None, boundary: str = "----b") -> bytes:
    """A form with the picture as its second field."""
    type_ = "" if label is None else f"Content-Type: {label}\r\n"
    return (
        f'--{boundary}\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n{type_}\r\n'
    ).encode() + data + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip


async def test_the_bytes_say_what_an_upload_is_and_not_its_label(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """React Native, Retrofit, uni-app, wx.uploadFile and curl name types that are none, or no type at all."""
    form, right = "multipart/form-data; boundary=----b", picture_bytes()
    sent: list[tuple[bytes, str | None]] = [(right, label) for label in LABELS]
    sent += [(_by_hand(right, label), form) for label in LABELS]
    # Headers of a form that were written by hand: no boundary, another one, or none of a form at all.
    sent += [(_by_hand(right, "image/jpeg"), label) for label in LABELS]
    sent += [(_by_hand(right, "image/jpeg"), "multipart/form-data; boundary=another")]
    answers = [((await _send(http, web, body, label))[0], body[:2], label) for body, label in sent]
    assert [answer for answer in answers if answer[0] != 201] == []


@pytest.mark.parametrize("text", [b"hello, I am text", b'{"image": "x"}', b"<svg/>", b"%PDF-1.7", b"", b"B"])
async def test_a_file_that_is_no_picture_is_refused_under_any_name(
    web: Web, http: aiohttp.ClientSession, text: bytes
) -> None:
    form = "multipart/form-data; boundary=----b"
    labels = [label for label in LABELS if label != "multipart/form-data"]
    answers = [await _send(http, web, text, label) for label in labels]
    answers += [await _send(http, web, _by_hand(text, label), form) for label in LABELS]
    assert {status for status, _ in answers} == {415}
    assert all(problem["type"].endswith("not_a_picture") for _, problem in answers)
    assert _stored(web) == []


async def test_a_long_text_is_refused_before_it_has_come(web: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = f"POST {IMAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('o-1')['Authorization']}\r\n"
    writer.write(f"{head}Content-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n".encode() + b"text" * 50)
    assert b" 415 " in await asyncio.wait_for(reader.readline(), 20)
    writer.close()


async def test_a_picture_that_comes_byte_by_byte_is_known(web: Web, http: aiohttp.ClientSession) -> None:
    async def slowly(data: bytes) -> AsyncIterator[bytes]:
        for n in range(150):
            yield data[n : n + 1]
            await asyncio.sleep(0)
        yield data[150:]

    for body, label in (
        (picture_bytes(), "image"),
        (_by_hand(picture_bytes(), "jpg"), "multipart/form-data"),
    ):
        assert (await _upload(http, web, slowly(body), label))[0] == 201


async def test_a_photo_of_an_iphone_is_stored_as_a_jpeg(web: Web, http: aiohttp.ClientSession) -> None:
    know_formats()
    for label in ("image/heic", "image/heif", "application/octet-stream", "image/jpeg"):
        status, image = await _send(http, web, picture_bytes("HEIF"), label)
        assert status == 201 and (image["width"], image["height"]) == (64, 48)
        async with http.get(web.url + image["url"]) as response:
            assert response.content_type == "image/jpeg"


async def test_a_body_of_unknown_length_is_bounded_too(web: Web, http: aiohttp.ClientSession) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"\xff\xd8\xff"
        for _ in range(100):
            yield b"x" * 65_536

    assert (await _upload(http, web, endless()))[0] == 413


async def test_a_client_that_disconnects_midway_leaves_nothing_behind(web: Web) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = f"POST {IMAGES} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('o-1')['Authorization']}\r\n"
    writer.write(
        f"{head}Content-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n".encode()
        + b"\xff\xd8\xff" * 15_000
    )
    await until(lambda: web.context.uploads.held_bytes > 0, "the upload is being received")
    writer.close()
    await until(lambda: web.context.uploads.held_bytes == 0, "its memory was given back")
    assert _stored(web) == []
    del reader


async def test_a_file_is_not_kept_when_its_row_can_not_be_written(
    web: Web, http: aiohttp.ClientSession
) -> None:
    web.sql("CREATE TRIGGER no_image BEFORE INSERT ON image BEGIN SELECT RAISE(ABORT, 'no'); END")
    headers = bearer("o-1") | {"Content-Type": "image/jpeg"}
    async with http.post(web.url + IMAGES, data=picture_bytes(), headers=headers) as response:
        assert response.status == 500
        assert "RAISE" not in await response.text()
    assert _stored(web) == []


async def test_a_link_that_was_altered_or_has_expired_is_403(web: Web, http: aiohttp.ClientSession) -> None:
    _, image = await _upload(http, web, picture_bytes())
    url, _, query = image["url"].partition("?")
    expires = query.partition("&")[0].removeprefix("exp=")
    key = url.removeprefix("/files/")
    for path in [
        url,
        f"{url}?{query}x",
        f"{url}?{query.replace(expires, str(int(expires) + 1))}",
        f"{url.replace('.jpg', '.png')}?{query}",
        f"/files/other/{key}?{query}",
        web.context.links.link(key, now=1_000_000),
    ]:
        async with http.get(web.url + path) as response:
            assert response.status == 403, path
            assert response.content_type == "application/problem+json"


async def test_a_good_link_to_a_file_that_is_gone_is_404(web: Web, http: aiohttp.ClientSession) -> None:
    _, image = await _upload(http, web, picture_bytes())
    web.context.files.delete(image["url"].partition("?")[0].removeprefix("/files/"))
    async with http.get(web.url + image["url"]) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret",
        "/files/../../../../../../etc/passwd",
        "/files/%2e%2e/secret",
        "/files/..%2fsecret",
        "/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/files//etc/passwd",
        "/files/%00",
        "/files/a%00.jpg",
        "/files/..\\secret",
        "/files/",
        "/files",
    ],
)
async def test_no_path_climbs_out_even_when_it_is_signed(web: Web, path: str) -> None:
    (web.settings.data_dir / "secret").write_text("the secret")
    for query in (
        "",
        "?exp=4000000000&sig=x",
        web.context.links.link("../secret").removeprefix("/files/../secret"),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(f"GET {path}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.split(b" ")[1] in (b"400", b"403", b"404"), answer[:80]
        assert (
            b"application/problem+json" in answer and b"the secret" not in answer and b"root:" not in answer
        )


@pytest.mark.parametrize("extension", ["jpg", "png", "webp"])
async def test_a_picture_has_its_type_on_a_host_without_a_type_table(
    web: Web, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, extension: str
) -> None:
    monkeypatch.setattr(
        mimetypes, "guess_type", lambda *_, **__: (None, None)
    )  # 3.11 without /etc/mime.types
    key, format_ = f"results/t/1-1-0-thumbnail.{extension}", extension.upper().replace("JPG", "JPEG")
    web.context.files.put(key, io.BytesIO(picture_bytes(format_)))
    async with http.get(web.url + web.context.links.link(key)) as response:
        assert (response.status, response.content_type) == (200, f"image/{format_.lower()}")


async def test_a_part_of_a_picture_can_be_asked_for(web: Web, http: aiohttp.ClientSession) -> None:
    _, image = await _upload(http, web, picture_bytes())
    async with http.get(web.url + image["url"], headers={"Range": "bytes=0-1"}) as response:
        assert response.status == 206 and await response.read() == b"\xff\xd8"
    async with http.head(web.url + image["url"], headers={"Range": "bytes=0-1"}) as response:
        assert response.status == 200 and response.content_length == image["bytes"], "a HEAD has no parts"


_NO_YEAR = f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT"


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"If-Modified-Since": _NO_YEAR}, 200),
        ({"If-Unmodified-Since": _NO_YEAR}, 200),
        ({"If-Range": _NO_YEAR, "Range": "bytes=0-1"}, 206),
        ({"If-Match": '"another"'}, 200),
        ({"Range": "bytes=0-" + "9" * 5000}, 416),
        ({"Range": f"bytes={'9' * 50}-"}, 416),
        ({"Range": "bytes=9-1"}, 416),
        ({"Range": "bytes=0-1,3-4"}, 200),
        ({"Range": "items=0-1"}, 200),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value,
)
async def test_whatever_is_asked_of_a_picture_is_answered_with_it_or_with_a_problem(
    web: Web, http: aiohttp.ClientSession, given: dict[str, str], status: int
) -> None:
    _, image = await _upload(http, web, picture_bytes())
    async with http.get(web.url + image["url"], headers=given) as response:
        assert response.status == status
        assert response.content_type == ("image/jpeg" if status < 400 else "application/problem+json")
        assert "immutable" not in response.headers.get("Cache-Control", "") or status < 400
        if status == 416:
            assert response.headers["Content-Range"] == f"bytes */{image['bytes']}"


async def test_a_picture_that_the_caller_has_is_not_sent_again(web: Web, http: aiohttp.ClientSession) -> None:
    _, image = await _upload(http, web, picture_bytes())
    async with http.get(web.url + image["url"]) as response:
        tag = response.headers["ETag"]
    async with http.get(web.url + image["url"], headers={"If-None-Match": f'"other", {tag}'}) as response:
        assert response.status == 304 and response.headers["ETag"] == tag and not await response.read()
    async with http.get(web.url + image["url"], headers={"If-None-Match": "*"}) as response:
        assert response.status == 304
    async with http.get(web.url + image["url"], headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


async def test_a_reader_that_takes_nothing_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_files, "STALLED_SECONDS", 0.2)
    key = "results/large.jpg"  # more than the buffers of a connection hold
    web.context.files.put(key, io.BytesIO(bytes(16 * 1024 * 1024)))
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024)
    writer.write(f"GET {web.context.links.link(key)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    opened = web.settings.data_dir / "files" / key
    await until(lambda: _is_open(opened), "it is being sent")
    await until(lambda: not _is_open(opened), "it is given up")
    received = 0
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1024 * 1024):
            received += len(piece)
    assert received < opened.stat().st_size
    writer.close()


def _is_open(path: Path) -> bool:
    return any(each.path == str(path) for each in psutil.Process().open_files())
