"""The pages and their files: a few files beside this one, read and compressed once when web starts.

They hold no user's data, so they need no token; they get their data from the API.  The policy lets them load only from
here and run only our own script files.

A page names its style and its script by their content (`console.<hash>.js`): such a file never changes, so a browser
asks for it once.  The script of a page is one file (`web.app.page_scripts`).  Under their plain names the same files
are revalidated at each use, and scripts are single modules.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import brotli
from aiohttp import web

from web.app.commonjs import commonjs_twin
from web.app.page_scripts import joined
from web.http.encodings import chosen_encoding

STATIC = Path(__file__).parent.parent / "static"
CLIENT, CLIENT_TWIN = "darkroom.js", "darkroom.cjs.js"
SHARED_STYLE = "shared.css"  # of the page that `web.app.share_page` writes

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Vary": "Accept-Encoding",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
}


REVALIDATED = "no-cache"  # cached, and revalidated at each use, so that an upgrade is seen at once
FOR_EVER = "public, max-age=31536000, immutable"
_BROTLI_QUALITY = 10  # 11 takes three times as long at each start, for a fiftieth of the bytes

_PART = re.compile(
    r'(<(?:link rel="(?:stylesheet|icon)"|script|img)[^<>]*? (?:href|src)="/static/)([\w-]+)(\.\w+)"'
)
_HASHED = re.compile(r"([\w-]+)\.[0-9a-f]{16}(\.\w+)")


class StaticFile(NamedTuple):
    """A file ready to send: plain and compressed, each with its own ETag."""

    body: bytes
    gzipped: bytes
    brotli: bytes
    content_type: str
    etag: str
    cache: str = REVALIDATED

    def sent(self, encoding: str) -> tuple[bytes, str]:
        """(body, ETag)."""
        bodies = {"br": self.brotli, "gzip": self.gzipped}
        return (bodies[encoding], f"{self.etag}-{encoding}") if encoding else (self.body, self.etag)


@functools.cache
def static_files() -> dict[str, StaticFile]:
    """{plain name: file} of `static/`, with the files that pages name by their content, and the client's twin for
    mini-programs."""
    bodies = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.suffix in _TYPES}
    modules = {name: body.decode() for name, body in bodies.items() if name.endswith(".js")}
    found: dict[str, StaticFile] = {}
    for name in (each for each in bodies if each.endswith(".html")):
        bodies[name] = _PART.sub(
            lambda part: _named(part, bodies, modules, found), bodies[name].decode()
        ).encode()
    _add_hashed(SHARED_STYLE, bodies[SHARED_STYLE], found)
    found |= {name: _file(body, name) for name, body in bodies.items()}
    found[CLIENT_TWIN] = _file(commonjs_twin(modules[CLIENT]).encode(), CLIENT_TWIN)
    return found


@functools.cache
def hashed_names() -> dict[str, str]:
    """{plain name of a part of the pages: the name by its content under which it is kept for good}."""
    found = ((name, _HASHED.fullmatch(name)) for name in static_files())
    return {"".join(parts.groups()): name for name, parts in found if parts}


def _named(
    part: re.Match[str], bodies: dict[str, bytes], modules: dict[str, str], found: dict[str, StaticFile]
) -> str:
    """The name of a page's part, made from its content; the file is added to `found`."""
    before, stem, suffix = part.groups()
    body = joined(stem + suffix, modules).encode() if suffix == ".js" else bodies[stem + suffix]
    return f'{before}{_add_hashed(stem + suffix, body, found)}"'


def _add_hashed(name: str, body: bytes, found: dict[str, StaticFile]) -> str:
    """Add a file to `found` under a name that is made from its content; that name."""
    stem, _, suffix = name.rpartition(".")
    hashed = f"{stem}.{hashlib.sha256(body).hexdigest()[:16]}.{suffix}"
    if hashed not in found:
        found[hashed] = _file(body, hashed)._replace(cache=FOR_EVER)
    return hashed


def _file(body: bytes, name: str) -> StaticFile:
    return StaticFile(
        body,
        gzip.compress(body, mtime=0),  # otherwise the same file would have other bytes after each start
        brotli.compress(body, quality=_BROTLI_QUALITY),
        _TYPES[Path(name).suffix],
        hashlib.sha256(body).hexdigest()[:32],
    )


def _of_another_version(name: str) -> StaticFile | None:
    """The file for a name of another version of the program, or None.

    During an upgrade, a page of one version may ask a process of the other version for its script.  It gets this
    version's script: a page without any script would be worse.
    """
    asked = _HASHED.fullmatch(name)
    ours = hashed_names().get("".join(asked.groups())) if asked else None
    return static_files()[ours]._replace(cache="no-store") if ours else None


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
    file = static_files().get(name) or _of_another_version(name)
    if file is None:
        raise web.HTTPNotFound
    encoding = chosen_encoding(request.headers.getall("Accept-Encoding", []), ("br", "gzip"))
    body, etag = file.sent(encoding)
    headers = {**_HEADERS, "ETag": f'"{etag}"', "Cache-Control": file.cache}
    if any(each.value in (etag, "*") for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    encoded = {"Content-Encoding": encoding} if encoding else {}
    return web.Response(body=body, headers={**headers, **encoded, "Content-Type": file.content_type})
