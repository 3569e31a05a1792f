"""The worst load of one user, on a few connections: `python -m bench.storms NAME URL TOKEN SECONDS`.

A program of its own, so that it takes no CPU time from the measuring process. It ends by itself. Requests are made once
and sent again and again; each connection waits for its answer before it sends again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import itertools
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import aiohttp
from PIL import Image

from bench.slow_names import SLOW_NAMES

FORM = "multipart/form-data; boundary=x"
JSON = "application/json"
CONNECTIONS = 4
STALLED = 14  # so many of almost 20 MiB are more than a house of old had room for
URL = "https://example.org/a.jpg"
HANGING = "webhooks to a receiver that hangs"
SLOW = "webhooks behind a slow name server"

Storm = Callable[[str, str, float], Awaitable[None]]


def _repeated(
    path: str,
    content_type: str,
    make: Callable[[], bytes],
    *,
    compressed: bool = False,
    connections: int = CONNECTIONS,
) -> Storm:
    """The same request over and over."""

    async def storm(url: str, token: str, seconds: float) -> None:
        body = gzip.compress(make()) if compressed else make()
        request = _head(path, url, token, content_type, len(body), compressed) + body
        await _go_on(url, request, seconds, connections)

    return storm


def _from_outside(method: str, path: str, make: Callable[[], bytes] = bytes) -> Storm:
    """The same request over and over, from an address that is not this host's: the quotas count it."""

    async def storm(url: str, token: str, seconds: float) -> None:
        body = make()
        head = _head(path, url, token, JSON, len(body), False, method=method)
        request = head.replace(b"\r\n", b"\r\nX-Forwarded-For: 203.0.113.7\r\n", 1) + body
        await _go_on(url, request, seconds, CONNECTIONS)

    return storm


def _webhooks(start_receiver: Callable[[], Awaitable[Callable[[], str]]]) -> Storm:
    """Orders with a webhook, each cancelled at once: this costs nothing and leaves a message to send. start_receiver:
    returns a function that gives the next address.
    """

    async def storm(url: str, token: str, seconds: float) -> None:
        next_address = await start_receiver()
        headers = {"Authorization": f"Bearer {token}"}

        async def order_and_cancel(session: aiohttp.ClientSession) -> None:
            while True:
                with contextlib.suppress(aiohttp.ClientError, KeyError):
                    order = json.loads(_order_of_tomorrow()) | {"webhook": next_address()}
                    async with session.post("/v1/tasks", json=order) as response:
                        cancel = (await response.json())["urls"]["cancel"]
                    async with session.post(cancel) as response:
                        await response.read()

        async with asyncio.timeout(seconds), aiohttp.ClientSession(url, headers=headers) as session:
            await asyncio.gather(*(order_and_cancel(session) for _ in range(CONNECTIONS)))

    return storm


async def _receiver_that_hangs() -> Callable[[], str]:
    """It takes every connection and never answers, for as long as this program runs."""
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    return lambda: f"http://127.0.0.1:{port}/hook"


async def _names_that_are_slow() -> Callable[[], str]:
    """Each address has a name of its own, which `bench.slow_names` is slow to look up."""
    numbers = itertools.count()
    return lambda: f"https://n{next(numbers)}.{SLOW_NAMES}/hook"


async def _go_on(url: str, request: bytes, seconds: float, connections: int) -> None:
    async with asyncio.timeout(seconds):
        await asyncio.gather(*(_send_over_and_over(url, request) for _ in range(connections)))


async def _send_over_and_over(url: str, request: bytes) -> None:
    while True:
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection(*_place(url))
            try:
                while True:
                    writer.write(request)
                    await writer.drain()
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                    await reader.readexactly(int(length or b"0"))
            finally:
                writer.close()
        await asyncio.sleep(0.05)  # it was hung up on


async def _stalled_uploads(url: str, token: str, seconds: float) -> None:
    """Uploads that send almost everything, and then nothing more."""
    piece, pieces = b"x" * 65_536, 300
    head = _head("/v1/images", url, token, "image/jpeg", len(piece) * pieces + 100_000, False)

    async def stall() -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*_place(url))
            try:
                writer.write(head)
                for _ in range(pieces):
                    writer.write(piece)
                    await writer.drain()
                await asyncio.sleep(seconds)
            finally:
                writer.close()

    async with asyncio.timeout(seconds):
        await asyncio.gather(*(stall() for _ in range(STALLED)))


def _many_parts() -> bytes:
    return b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 1700 + b"--x--\r\n"


def _long_heads() -> bytes:
    heads = b"X-A: " + b"b" * 40 + b"\r\n"
    return b'--x\r\nContent-Disposition: form-data; name="a"\r\n' + heads * 1800 + b"\r\n\r\n--x--\r\n"


def _preamble() -> bytes:
    return b"\r\n" * 45_000 + _many_parts()[-2000:]


def _many_members() -> bytes:
    members = {f"m{n}": n for n in range(60_000)}
    return json.dumps({"type": "photography", "params": {"images": [URL]}, **members}).encode()


def _many_values() -> bytes:
    """As many orders as are accepted, until the limit refuses them; so they don't pile up."""
    params = {"images": [URL], "count": 9, "parameters": {str(n): n for n in range(4900)}}
    return json.dumps({"type": "photography", "params": params}).encode()


def _large_text() -> bytes:
    params = {"images": [URL], "count": 9, "parameters": {"text": "x, " * 330_000}}
    return json.dumps({"type": "photography", "params": params}).encode()


def _order_of_tomorrow() -> bytes:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="milliseconds")
    return json.dumps({"type": "photography", "params": {"images": [URL]}, "run_after": tomorrow}).encode()


def _dear_picture() -> bytes:
    """39 million pixels in some ten thousand bytes."""
    out = io.BytesIO()
    Image.new("L", (7200, 5400), 90).save(out, "PNG", compress_level=9)
    return out.getvalue()


def _large_photo() -> bytes:
    """Twelve million pixels, as a phone makes them."""
    out = io.BytesIO()
    noise = Image.effect_noise((1000, 750), 40).resize((4000, 3000))
    Image.merge("RGB", (noise, noise, noise)).save(out, "JPEG", quality=85)
    return out.getvalue()


STORMS: dict[str, Storm] = {
    "forms of 1,700 parts": _repeated("/v1/images", FORM, _many_parts),
    "forms of 1,800 heads": _repeated("/v1/images", FORM, _long_heads),
    "forms with a preamble": _repeated("/v1/images", FORM, _preamble),
    "compressed forms": _repeated("/v1/images", FORM, lambda: _many_parts() * 10, compressed=True),
    "orders of 60,000 members": _repeated("/v1/tasks", JSON, _many_members),
    "compressed orders": _repeated("/v1/tasks", JSON, _many_members, compressed=True),
    "orders of 4,900 parameters": _repeated("/v1/tasks", JSON, _many_values),
    "orders of a megabyte": _repeated("/v1/tasks", JSON, _large_text),
    "pictures of 39 MP in 50 KB": _repeated("/v1/images", "image/png", _dear_picture),
    "photos of 12 MP": _repeated("/v1/images", "image/jpeg", _large_photo),
    "14 stalled uploads": _stalled_uploads,
    "lists above the quota": _from_outside("GET", "/v1/tasks?limit=100"),
    "orders above the quota": _from_outside("POST", "/v1/tasks", _order_of_tomorrow),
    "feed tickets above the quota": _from_outside("POST", "/v1/feed-tickets"),
    HANGING: _webhooks(_receiver_that_hangs),
    SLOW: _webhooks(_names_that_are_slow),
}


def _head(
    path: str, url: str, token: str, content_type: str, length: int, compressed: bool, *, method: str = "POST"
) -> bytes:
    encoding = "Content-Encoding: gzip\r\n" if compressed else ""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n{encoding}\r\n"
    ).encode()


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


def main() -> None:
    name, url, token, seconds = sys.argv[1:]
    with contextlib.suppress(TimeoutError):
        asyncio.run(STORMS[name](url, token, float(seconds)))


if __name__ == "__main__":
    main()
