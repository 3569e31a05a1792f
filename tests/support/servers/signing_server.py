"""A real server that compares each address with the text that was signed, byte for byte, as object stores do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.servers.plain_server import plain_server


class SigningServer:
    """files: {path and query as they were signed: the body behind them}.  moved: {the same: a Location}.

    asked: every path and query that came.  An address that is neither a file nor moved is answered 403.
    """

    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split(" ", 2)[1]
        self.asked.append(target)
        body = self.files.get(target, b"")
        status = "200 OK" if target in self.files else "403 Forbidden"
        more = ""
        if target in self.moved:
            status, more = "302 Found", f"Location: {self.moved[target]}\r\n"
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n".encode()
        )
        writer.write(body)
        await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def signing_server() -> AsyncIterator[SigningServer]:
    """On a free port of this host."""
    server = SigningServer()
    async with plain_server(server.answer) as server.url:
        yield server
