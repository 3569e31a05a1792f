"""Thousands of event-stream clients in one process that cost as little as sockets can.

The clients share the host with the measured server, so they parse nothing: they count `event: change` in the arriving
bytes and note the time. A connection that ends is an error.
"""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

OPEN_SECONDS = 120.0
_TOGETHER = 200  # connections that are being opened at a time
_BYTES_A_READ = 65_536
_CHANGE = b"event: change"
_INIT = b"event: init"
_BYE = b"event: bye\ndata: {}\n\n"


def allow_many_sockets() -> None:
    """Ask for as many descriptors as the host allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Crowd:
    """Open streams.  Closes them all when the block ends."""

    def __init__(self, url: str, headers: Sequence[str]) -> None:
        """headers: of each stream, one or more whole lines."""
        address = urlsplit(url)
        assert address.hostname and address.port
        self._address = (address.hostname, address.port)
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._tails: dict[int, bytes] = {}
        for start in range(0, len(headers), _TOGETHER):
            self._open(headers[start : start + _TOGETHER])

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets.values():
            each.close()
        self._epoll.close()

    def wait_for_changes(self, since_ns: int, expected: int, seconds: float = 60) -> list[float]:
        """Milliseconds from `since_ns` (monotonic) to the arrival of each of so many changes, over all streams."""
        arrived: list[float] = []
        deadline = time.monotonic() + seconds
        while len(arrived) < expected:
            try:
                ready = self._read(deadline)
            except TimeoutError:
                raise TimeoutError(f"Only {len(arrived)} of {expected} changes came in time.") from None
            for number, chunk in ready:
                now = time.monotonic_ns()
                if not chunk:
                    raise RuntimeError("The server ended a stream.")
                text = self._tails[number] + chunk
                found = text.count(_CHANGE)
                self._tails[number] = text[-(len(_CHANGE) - 1) :]
                arrived.extend([(now - since_ns) / 1e6] * found)
        if len(arrived) > expected:
            raise RuntimeError(f"{len(arrived)} changes came instead of {expected}.")
        return arrived

    def wait_for_goodbyes(self, seconds: float = 30) -> tuple[int, float]:
        """The number of streams that received `bye` before their end, and the time of the last end (monotonic
        seconds)."""
        deadline, goodbyes = time.monotonic() + seconds, 0
        while self._sockets:
            for number, chunk in self._read(deadline):
                self._tails[number] += chunk
                if not chunk:
                    goodbyes += _BYE in self._tails[number]
                    self._epoll.unregister(number)
                    self._sockets.pop(number).close()
        return goodbyes, time.monotonic()

    def _open(self, headers: Sequence[str]) -> None:
        opening = {}
        host = f"{self._address[0]}:{self._address[1]}"
        for header in headers:
            client = socket.create_connection(self._address, timeout=OPEN_SECONDS)
            client.sendall(f"GET /v1/works/feed HTTP/1.1\r\nHost: {host}\r\n{header}\r\n\r\n".encode())
            client.setblocking(False)
            opening[client.fileno()] = b""
            self._sockets[client.fileno()] = client
            self._tails[client.fileno()] = b""
            self._epoll.register(client, select.EPOLLIN)
        deadline = time.monotonic() + OPEN_SECONDS
        while opening:
            for number, chunk in self._read(deadline):
                if number not in opening:
                    continue  # a comment to one that is open
                if not chunk:
                    raise RuntimeError("The server ended a stream.")
                text = opening[number] + chunk
                if _INIT in text and text.endswith((b"\n\n", b"\n\n\r\n")):
                    del opening[number]
                else:
                    opening[number] = text
                if not text.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"A stream was answered {text[:200]!r}.")

    def _read(self, deadline: float) -> list[tuple[int, bytes]]:
        ready = self._epoll.poll(max(0.0, deadline - time.monotonic()), len(self._sockets))
        if not ready:
            raise TimeoutError("The server did not send the expected events in time.")
        found = []
        for number, _ in ready:
            chunk = self._sockets[number].recv(_BYTES_A_READ)
            found.append((number, chunk))
        return found
