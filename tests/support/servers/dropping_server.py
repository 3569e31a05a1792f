"""A real server that reads each request to its end and closes the connection without an answer."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator

from tests.support.servers.plain_server import plain_server


class DroppingServer:
    """asked: the first line of every request that came.  resets: end with RST instead of FIN."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.resets = False

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head.splitlines()[0])
        length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        if self.resets:
            connection: socket.socket = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()


@contextlib.asynccontextmanager
async def dropping_server() -> AsyncIterator[DroppingServer]:
    """On a free port of this host."""
    server = DroppingServer()
    async with plain_server(server.answer) as server.url:
        yield server
