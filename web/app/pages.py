"""The pages and their files: a few files beside this one, read and compressed once when web starts.

They hold no user's data, so they need no token; they get their data from the API.  The policy lets them load only from
here and run only our own script files.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from web.app.commonjs import commonjs_twin
from web.http.encodings import takes_gzip

STATIC = Path(__file__).parent.parent / "static"
CLIENT, CLIENT_TWIN = "darkroom.js", "darkroom.cjs.js"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # cached, and revalidated at each use, so that an upgrade is seen at once
    "Vary": "Accept-Encoding",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}


class StaticFile(NamedTuple):
    """A file ready to send: plain or as gzip, each with its own ETag."""

    body: bytes
    gzipped: bytes
    content_type: str
    etag: str

    def sent(self, as_gzip: bool) -> tuple[bytes, str]:
        """(body, ETag)."""
        return (self.gzipped, f"{self.etag}-gzip") if as_gzip else (self.body, self.etag)


@functools.cache
def static_files() -> dict[str, StaticFile]:
    """{plain name: file} of `static/`, and the client's twin for mini-programs."""
    found = {
        path.name: _file(path.read_bytes(), path.suffix) for path in STATIC.iterdir() if path.suffix in _TYPES
    }
    found[CLIENT_TWIN] = _file(commonjs_twin(found[CLIENT].body.decode()).encode(), ".js")
    return found


def _file(body: bytes, suffix: str) -> StaticFile:
    # mtime: otherwise the same file would have other bytes, with the same ETag, after each start
    return StaticFile(
        body, gzip.compress(body, mtime=0), _TYPES[suffix], hashlib.sha256(body).hexdigest()[:32]
    )


async def console(request: web.Request) -> web.Response:
    """200 with the console."""
    return _answer(request, "console.html")


async def ops(request: web.Request) -> web.Response:
    """200 with the operators' page, which gets its data with an operator's token."""
    return _answer(request, "ops.html")


async def docs(request: web.Request) -> web.Response:
    """200 with the page that shows the API's description."""
    return _answer(request, "docs.html")


async def asset(request: web.Request) -> web.Response:
    """200 with a style, script or picture of the pages."""
    return _answer(request, request.match_info["name"])


def _answer(request: web.Request, name: str) -> web.Response:
    file = static_files().get(name)
    if file is None:
        raise web.HTTPNotFound
    as_gzip = takes_gzip(request.headers.getall("Accept-Encoding", []))
    body, etag = file.sent(as_gzip)
    headers = {**_HEADERS, "ETag": f'"{etag}"'}
    if any(each.value in (etag, "*") for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    encoding = {"Content-Encoding": "gzip"} if as_gzip else {}
    return web.Response(body=body, headers={**headers, **encoding, "Content-Type": file.content_type})
