"""The pages' own files: compressed once, with ETags, and uncompressed on request."""

from __future__ import annotations

import gzip

import aiohttp
import pytest

from tests.support.houses.web_server import Web
from web.app.pages import STATIC, static_files
from web.http.encodings import takes_gzip

FILES = ["/", "/ops", "/docs", "/static/darkroom.js", "/static/darkroom.cjs.js", "/static/icon.svg"]


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ([], False),
        ([""], False),
        (["gzip, deflate, br, zstd"], True),
        (["br", "GZIP"], True),
        (["x-gzip"], True),
        (["*"], True),
        (["deflate"], False),
        (["gzip;q=0, *"], False),
        (["gzip ; q=0.5"], True),
        (["*;q=0"], False),
        (["gzip;q=0.000"], False),
        (["gzip;q=x"], False),
        (["identity;q=1, *;q=0, gzip;q=0.1"], True),
        (["notgzip, gzipped"], False),
    ],
)
def test_an_encoding_is_used_only_where_it_is_asked_for(fields: list[str], takes: bool) -> None:
    assert takes_gzip(fields) is takes


@pytest.mark.parametrize("path", FILES)
async def test_a_file_is_the_same_compressed_and_whole_each_under_its_own_etag(
    web: Web, http: aiohttp.ClientSession, path: str
) -> None:
    whole, plain = await _asked(http, web.url + path)
    packed, small = await _asked(http, web.url + path, **{"Accept-Encoding": "gzip, br"})
    assert gzip.decompress(small) == plain and len(small) < len(plain)
    assert "Content-Encoding" not in whole.headers and packed.headers["Content-Encoding"] == "gzip"
    assert whole.headers["ETag"] != packed.headers["ETag"], "a cache must not take one for the other"
    for answer, body in ((whole, plain), (packed, small)):
        assert answer.headers["Vary"] == "Accept-Encoding" and answer.headers["Cache-Control"] == "no-cache"
        assert int(answer.headers["Content-Length"]) == len(body)
        assert answer.headers["Content-Type"] == whole.headers["Content-Type"]


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
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


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
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
        assert len(file.gzipped) < len(file.body) and gzip.decompress(file.gzipped) == file.body, name


async def _asked(
    http: aiohttp.ClientSession, url: str, **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """The answer and its bytes as they came."""
    asked = {"Accept-Encoding": "identity", **headers}
    async with http.get(url, headers=asked, auto_decompress=False) as answer:
        return answer, await answer.read()
