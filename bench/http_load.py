"""Closed-loop HTTP load: a number of connections, each with one request in progress, cheap for the client.

The client shares the host with the server it measures, so it does no more than a protocol must: one prepared request,
and of each answer the status and the length.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """The result. statuses: {status: answers}; seconds: of the measured time; milliseconds: of each answer."""

    statuses: dict[int, int] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the server, and of its database's, while it was loaded

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds


class _Connection(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, sends again."""

    def __init__(self, request: bytes, load: Load, over: asyncio.Event) -> None:
        self._request, self._load, self._over = request, load, over
        self._transport: asyncio.Transport
        self._received = b""
        self._sent_at = 0.0
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or not _is_whole(head, body):
            return
        self._received = b""
        status = int(head[9:12])
        self._load.statuses[status] = self._load.statuses.get(status, 0) + 1
        self._load.milliseconds.append((time.perf_counter() - self._sent_at) * 1000)
        if self._over.is_set():
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)


async def run_load(
    url: str, path: str, body: bytes, *, connections: int, seconds: float, headers: str = ""
) -> Load:
    """POST the same body over and over for so long.  headers: further lines, each with its end."""
    host = urlsplit(url).netloc
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n"
    ).encode() + body
    load, over = Load(), asyncio.Event()
    loop = asyncio.get_running_loop()
    name, port = host.rsplit(":", 1)
    begun = time.perf_counter()
    opened = [
        (await loop.create_connection(lambda: _Connection(request, load, over), name, int(port)))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    over.set()
    for each in opened:
        await each.ended.wait()
    load.seconds = time.perf_counter() - begun
    return load


def _is_whole(head: bytes, body: bytes) -> bool:
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
