"""The pages' own files: compressed once, with ETags, and uncompressed on request."""

from __future__ import annotations

import gzip
import re
from urllib.parse import urljoin

import aiohttp
import brotli
import pytest

from tests.support.houses.web_server import Web
from web.app.pages import STATIC, static_files
from web.http.encodings import chosen_encoding

FILES = ["/", "/ops", "/docs", "/static/darkroom.js", "/static/darkroom.cjs.js", "/static/icon.svg"]
UNPACKED = {"gzip": gzip.decompress, "br": brotli.decompress}
PAGE_BYTES = 60_000  # a page with all its parts, compressed


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ([], ""),
        ([""], ""),
        (["gzip, deflate, br, zstd"], "br"),
        (["gzip", "br"], "br"),
        (["br;q=0, GZIP"], "gzip"),
        (["x-gzip"], "gzip"),
        (["*"], "br"),
        (["deflate"], ""),
        (["gzip;q=0, *"], "br"),
        (["br;q=0, *"], "gzip"),
        (["gzip ; q=0.5"], "gzip"),
        (["*;q=0"], ""),
        (["gzip;q=0.000"], ""),
        (["gzip;q=x"], ""),
        (["identity;q=1, *;q=0, gzip;q=0.1"], "gzip"),
        (["notgzip, gzipped, brotli"], ""),
    ],
)
def test_an_encoding_is_used_only_where_it_is_asked_for(fields: list[str], chosen: str) -> None:
    assert chosen_encoding(fields, ("br", "gzip")) == chosen


@pytest.mark.parametrize("encoding", ["gzip", "br"])
@pytest.mark.parametrize("path", FILES)
async def test_a_file_is_the_same_compressed_and_whole_each_under_its_own_etag(
    web: Web, http: aiohttp.ClientSession, path: str, encoding: str
) -> None:
    whole, plain = await _asked(http, web.url + path)
    packed, small = await _asked(http, web.url + path, **{"Accept-Encoding": encoding})
    assert UNPACKED[encoding](small) == plain and len(small) < len(plain)
    assert "Content-Encoding" not in whole.headers and packed.headers["Content-Encoding"] == encoding
    assert whole.headers["ETag"] != packed.headers["ETag"], "a cache must not take one for the other"
    for answer, body in ((whole, plain), (packed, small)):
        assert answer.headers["Vary"] == "Accept-Encoding" and answer.headers["Cache-Control"] == "no-cache"
        assert int(answer.headers["Content-Length"]) == len(body)
        assert answer.headers["Content-Type"] == whole.headers["Content-Type"]


async def _parts_of(http: aiohttp.ClientSession, page: str) -> dict[str, aiohttp.ClientResponse]:
    """{address: answer} of all that a page names and a browser loads with it."""
    _, html = await _asked(http, page)
    named = re.findall(r'<(?:link|script|img)[^<>]*? (?:href|src)="([^"]+)"', html.decode())
    return {name: (await _asked(http, urljoin(page, name)))[0] for name in named}


@pytest.mark.parametrize("path", ["/", "/ops", "/docs"])
async def test_the_parts_of_a_page_are_named_by_their_content_and_kept_for_ever(
    web: Web, http: aiohttp.ClientSession, path: str
) -> None:
    parts = await _parts_of(http, web.url + path)
    assert len(parts) >= 3
    for name, answer in parts.items():
        assert re.fullmatch(r"/static/\w+\.[0-9a-f]{16}\.(js|css|svg)", name)
        assert (answer.status, answer.headers["Cache-Control"]) == (
            200,
            "public, max-age=31536000, immutable",
        )
    scripts = [name for name in parts if name.endswith(".js")]
    assert len(scripts) == 1, "one round trip"
    _, script = await _asked(http, web.url + scripts[0])
    assert not re.search(r"^(import|export)\b", script.decode(), re.MULTILINE), "it loads nothing more"


@pytest.mark.parametrize("path", ["/", "/ops", "/docs"])
@pytest.mark.parametrize("encoding", ["gzip", "br"])
async def test_a_page_with_all_its_parts_is_light(
    web: Web, http: aiohttp.ClientSession, path: str, encoding: str
) -> None:
    addresses = [path, *await _parts_of(http, web.url + path)]
    sizes = {
        each: len((await _asked(http, web.url + each, **{"Accept-Encoding": encoding}))[1])
        for each in addresses
    }
    print(f"{sum(sizes.values()):,} bytes as {encoding}: {sizes}")
    assert sum(sizes.values()) <= PAGE_BYTES


async def test_the_part_of_another_version_is_answered_with_ours_and_not_kept(
    web: Web, http: aiohttp.ClientSession
) -> None:
    """While an upgrade goes through several web processes, one may have sent the page and another is asked."""
    answer, body = await _asked(http, f"{web.url}/static/console.0123456789abcdef.js")
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store") and b"m_darkroom" in body
    for name in ("nobody.0123456789abcdef.js", "console.0123.js", "console.0123456789abcdef.html"):
        answer, _ = await _asked(http, f"{web.url}/static/{name}")
        assert answer.status == 404


@pytest.mark.parametrize("encoding", ["identity", "gzip", "br"])
async def test_a_file_that_is_known_is_304_with_what_a_cache_must_know(
    web: Web, http: aiohttp.ClientSession, encoding: str
) -> None:
    url, asked = f"{web.url}/static/darkroom.js", {"Accept-Encoding": encoding}
    first, _ = await _asked(http, url, **asked)
    for known in (first.headers["ETag"], f"W/{first.headers['ETag']}", f'"x", {first.headers["ETag"]}', "*"):
        again, body = await _asked(http, url, **asked, **{"If-None-Match": known})
        assert (again.status, body) == (304, b"") and again.headers["ETag"] == first.headers["ETag"]
        assert again.headers["Vary"] == "Accept-Encoding" and again.headers["Cache-Control"] == "no-cache"
    other, _ = await _asked(http, url, **asked, **{"If-None-Match": '"of-an-older-version"'})
    assert other.status == 200


@pytest.mark.parametrize("encoding", ["identity", "gzip", "br"])
async def test_a_head_says_what_a_get_would_bring_and_a_range_gets_the_whole(
    web: Web, http: aiohttp.ClientSession, encoding: str
) -> None:
    url, asked = f"{web.url}/static/console.css", {"Accept-Encoding": encoding}
    got, body = await _asked(http, url, **asked)
    async with http.head(url, headers=asked) as head:
        assert (head.status, await head.read()) == (200, b"")
        for name in ("ETag", "Content-Length", "Content-Type", "Vary"):
            assert head.headers[name] == got.headers[name], name
        assert head.headers.get("Content-Encoding") == got.headers.get("Content-Encoding")
    part, whole = await _asked(http, url, **asked, Range="bytes=0-9")
    assert (part.status, whole) == (200, body), "a server may leave a range unheeded, and says so by its 200"


def test_every_text_among_the_files_is_sent_smaller() -> None:
    files = static_files()
    assert {path.name for path in STATIC.iterdir() if path.suffix != ".py"} <= set(files)
    for name, file in files.items():
        assert len(file.brotli) < len(file.gzipped) < len(file.body), name
        assert gzip.decompress(file.gzipped) == brotli.decompress(file.brotli) == file.body, name


async def _asked(
    http: aiohttp.ClientSession, url: str, **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """The answer and its bytes as they came."""
    asked = {"Accept-Encoding": "identity", **headers}
    async with http.get(url, headers=asked, auto_decompress=False) as answer:
        return answer, await answer.read()
