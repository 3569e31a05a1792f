"""The next random request, as bytes. Pure: the random generator and the server's answers are passed in."""

from __future__ import annotations

import copy
import functools
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

from tests.fuzz.mutation import broken_bytes, broken_json, broken_picture, broken_text
from tests.support.nasty_strings import NASTY

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "get", "G\0T", "")
QUERIES = (
    "limit", "cursor", "status", "type", "user", "after", "since", "wait", "ticket", "rotate", "exp", "sig", "key",
    "last_event_id", "stuck", "q", "types", "id", "",
)  # fmt: skip
HEADERS = (
    "Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Disposition", "Content-Encoding",
    "Content-Language", "Content-Length", "Content-Range", "Content-Type", "Cookie", "Date", "Expect", "Forwarded",
    "From", "Host", "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range",
    "If-Unmodified-Since", "Last-Event-ID", "Max-Forwards", "Origin", "Prefer", "Priority", "Range", "Referer",
    "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-WebSocket-Key", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
    "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-HTTP-Method-Override",
    "X-Request-Id", "X-User", "traceparent", "tracestate", "webhook-id",
)  # fmt: skip
HEADER_VALUES = (
    "bytes=0-0", "bytes=-1", "bytes=9-1", "bytes=0-0,2-3", f"bytes={'9' * 30}-", "wait=1", "wait=1, wait=0",
    "respond-async", f"wait={'9' * 400}", '"a key"', "*", 'W/"x"', "gzip", "gzip, br", "identity", "100-continue",
    "chunked", "gzip, chunked", "websocket", "close", "keep-alive, upgrade", "127.0.0.1", "203.0.113.9, x", "null",
    "http://127.0.0.1", "https://evil.example", "cross-site", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "0", "-1",
    "Sun, 06 Nov 1994 08:49:37 GMT", f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
    "a=b; darkroom-8000=x; =", "Bearer", "Basic eDp4", "text/event-stream",
)  # fmt: skip
MEDIA = (
    "application/json", "application/json; charset=utf-16", "application/json; charset=nope", "text/json",
    "text/plain", "image/jpeg", "image/png", "image/svg+xml", "image/*", "application/octet-stream",
    "multipart/form-data", "multipart/form-data; boundary=", 'multipart/form-data; boundary="a b"',
    "multipart/mixed; boundary=x",
    "a/b;;=", "/",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x; boundary=y", "\xff/\xff", "",
)  # fmt: skip
ORDER: dict[str, Any] = {
    "type": "photography",
    "params": {
        "images": ["https://example.org/a.jpg"],
        "prompt": "by the sea",
        "sceneId": "studio",
        "count": 1,
        "parameters": {"style": ["plain", {"deep": "er"}]},
    },
    "priority": -1,
    "run_after": "2099-01-31T09:00:00.000Z",
    "webhook": "https://example.org/hook",
}
BODIES: dict[str, Any] = {
    "/v1/tasks": ORDER,
    "/v1/ops/pauses": {"kind": "type", "name": "fitting", "reason": "a reason"},
    "/v1/auth/wechat": {"code": "a code"},
}
MOST_KNOWN = 60
OF_LENGTH = {"Content-Length", "Transfer-Encoding", "Upgrade", "Expect"}


@dataclass
class Known:
    """What the server has told and what it takes.  routes: (method, pattern); tokens: values of Authorization."""

    routes: list[tuple[str, str]]
    tokens: list[str]
    host: str
    words: list[str] = field(default_factory=lambda: ["01KB7Q4W1XKQ7Y9V6J3T5M2N8P"])
    addresses: list[str] = field(default_factory=lambda: ["/files/uploads/aa/x.jpg?exp=1&sig=x"])

    def learn(self, body: bytes) -> None:
        """Keep the ids, cursors, tickets and addresses of an answer."""
        try:
            self._learn(json.loads(body))
        except (ValueError, RecursionError):
            return
        del self.words[:-MOST_KNOWN], self.addresses[:-MOST_KNOWN]

    def _learn(self, value: Any) -> None:
        if isinstance(value, str):
            if value.startswith("/"):
                self.addresses.append(value[:2000])
            elif 8 <= len(value) <= 400 and " " not in value:
                self.words.append(value)
        for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            self._learn(member)


@dataclass(frozen=True)
class Sent:
    """A request. pieces: bytes, each sent in one write. breaks_off: after them the client disconnects. ends: after them
    the client half-closes the connection. is_whole: the server must answer; else it may wait for more.
    """

    pieces: tuple[bytes, ...]
    breaks_off: bool
    ends: bool
    is_whole: bool

    @property
    def bytes(self) -> bytes:
        return b"".join(self.pieces)


def next_request(random: Random, known: Known) -> Sent:
    """One request; most are well-formed but for a thing or two."""
    method, pattern = random.choice(known.routes)
    if random.random() < 0.04:
        method = random.choice(METHODS)
    headers = {"Host": known.host, "Authorization": random.choice(known.tokens)}
    body = (
        _body(random, known, pattern, headers)
        if method in ("POST", "PUT", "PATCH") or random.random() < 0.03
        else b""
    )
    _odd_headers(random, known, headers)
    body = _framed(random, headers, body)
    first = f"{method} {_target(random, known, pattern)} HTTP/1.{random.choice('11111110')}"
    lines = [first, *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    sent = (
        "\r\n".join(lines).encode("utf-8" if random.random() < 0.8 else "latin-1", "replace")
        + b"\r\n\r\n"
        + body
    )
    is_whole = not OF_LENGTH & headers.keys() or headers.get("Content-Length") == len(body)
    if random.random() < 0.06:
        sent, is_whole = broken_bytes(random, sent), False
    breaks_off = random.random() < 0.04
    if breaks_off:
        sent = sent[: random.randrange(len(sent) + 1)]
    return Sent(tuple(_cut(random, sent)), breaks_off, random.random() < 0.03, is_whole)


def _cut(random: Random, sent: bytes) -> list[bytes]:
    if random.random() < 0.8:
        return [sent]
    places = sorted(random.randrange(len(sent) + 1) for _ in range(random.randint(1, 4)))
    return [sent[a:b] for a, b in zip([0, *places], [*places, len(sent)], strict=True)]


def _target(random: Random, known: Known, pattern: str) -> str:
    if "{" in pattern and random.random() < 0.2:
        address = random.choice(known.addresses)
        return _line(address if random.random() < 0.5 else broken_text(random, address))
    filled = "".join(
        _word(random, known) if n % 2 else part for n, part in enumerate(pattern.replace("}", "{").split("{"))
    )
    queries = [
        f"{_escaped(random, random.choice(QUERIES))}={_word(random, known)}"
        for _ in range(random.choice((0, 0, 1, 1, 2, 30)))
    ]
    return _line(filled + ("?" + "&".join(queries) if queries else ""))


def _word(random: Random, known: Known) -> str:
    text = random.choice(known.words) if random.random() < 0.5 else random.choice(NASTY)
    return _escaped(random, broken_text(random, text) if random.random() < 0.3 else text)


def _escaped(random: Random, text: str) -> str:
    return text if random.random() < 0.2 else quote(text.encode("utf-8", "surrogatepass"), safe="")


def _line(text: str) -> str:
    """What can stand in a request's first line without ending it; 6,000 characters at most."""
    return "".join("%0A" if each in " \r\n" else each for each in text)[:6000] or "/"


def _odd_headers(random: Random, known: Known, headers: dict[str, Any]) -> None:
    for _ in range(random.choice((0, 0, 0, 1, 1, 2))):
        value = random.choice((*HEADER_VALUES, *NASTY, random.choice(known.words)))
        headers[random.choice(HEADERS)] = "".join(each for each in value if each not in "\r\n")[:3000]
    if random.random() < 0.02:
        headers[random.choice(list(headers))] = None
    if random.random() < 0.03:
        headers |= {f"X-{n}": "x" * random.choice((0, 100)) for n in range(random.choice((50, 200)))}


def _body(random: Random, known: Known, pattern: str, headers: dict[str, Any]) -> bytes:
    if pattern == "/v1/images" or random.random() < 0.05:
        return _upload(random, headers)
    headers["Content-Type"] = "application/json" if random.random() < 0.9 else random.choice(MEDIA)
    value = copy.deepcopy(BODIES.get(pattern, {"a": "b"}))
    if pattern == "/v1/tasks" and random.random() < 0.5:
        value["params"]["images"] = [random.choice(known.words)]
    for _ in range(random.choice((0, 1, 1, 1, 2, 5))):
        value = broken_json(random, value)
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    body = text.encode(random.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-32")), "surrogatepass")
    return broken_bytes(random, body) if random.random() < 0.1 else body


def _upload(random: Random, headers: dict[str, Any]) -> bytes:
    picture = broken_picture(random)
    if random.random() < 0.5:
        headers["Content-Type"] = random.choice(
            ("image/jpeg", "image/png", "image/webp", random.choice(MEDIA))
        )
        return picture
    boundary = random.choice(("x", "----WebKitFormBoundary7MA4YWxkTrZu0gW", "a'()+_,-./:=?", "x" * 70))
    headers["Content-Type"] = (
        f'multipart/form-data; boundary="{boundary}"' if random.random() < 0.9 else random.choice(MEDIA)
    )
    parts = [
        _part(random, picture if n == 0 else random.randbytes(random.choice((0, 9, 900))))
        for n in range(random.choice((1, 1, 1, 2, 20)))
    ]
    random.shuffle(parts)
    edge = b"--" + boundary.encode()
    form = b"".join(edge + b"\r\n" + part + b"\r\n" for part in parts) + edge + b"--\r\n"
    return broken_bytes(random, form) if random.random() < 0.3 else form


def _part(random: Random, content: bytes) -> bytes:
    name = random.choice(("image", "image", "image", "other", random.choice(NASTY)))
    heads = [
        f'Content-Disposition: form-data; name="{name}"; filename="{random.choice(("a.jpg", *NASTY))[:900]}"'
    ]
    if random.random() < 0.6:
        heads.append("Content-Type: " + random.choice(MEDIA))
    if random.random() < 0.2:
        heads.append(
            random.choice(
                (
                    "Content-Transfer-Encoding: base64",
                    "Content-Encoding: gzip",
                    "X: " + "y" * 3000,
                    ":",
                    "no colon",
                )
            )
        )
    text = "\r\n".join(heads).replace("\0", random.choice(("\0", "")))
    return text.encode("utf-8", "surrogatepass") + b"\r\n\r\n" + content


COMPRESSED: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("gzip", functools.partial(gzip.compress, mtime=0)), ("deflate", zlib.compress),
    ("gzip", bytes), ("br", bytes), ("identity", bytes), ("", bytes),
)  # fmt: skip


def _framed(random: Random, headers: dict[str, Any], body: bytes) -> bytes:
    """The body as its headers say it comes, or not quite."""
    if random.random() < 0.04:
        headers["Content-Encoding"], compress = random.choice(COMPRESSED)
        body = compress(body)
    if not body and random.random() < 0.9:
        return b""
    if random.random() < 0.15:
        headers["Transfer-Encoding"] = "chunked"
        sizes = [random.choice((1, 7, 1000, 65536)) for _ in range(50)]
        made, at = b"", 0
        for size in sizes:
            if at >= len(body):
                break
            piece = body[at : at + size]
            at += size
            made += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        made += b"0\r\n\r\n"
        return broken_bytes(random, made) if random.random() < 0.2 else made
    if "Content-Length" not in headers or random.random() < 0.5:
        headers["Content-Length"] = len(body) + (
            random.choice((-1, 1, 1000)) if random.random() < 0.03 else 0
        )
    return body
