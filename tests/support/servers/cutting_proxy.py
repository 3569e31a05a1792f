"""A proxy that cuts connections at named points of a request, and passes everything else on byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

BODY, REQUEST, STORED, ANSWER = "in the body", "after the request", "once it is stored", "in the answer"
POINTS = (BODY, REQUEST, STORED)


class CuttingProxy:
    """plan: where each of the next POSTs is cut, in their order; what comes after is passed on.

    is_stored: for STORED, returns when the order is.  before_cut: awaited at each of these points, before the cut.
    posts: how many POSTs have come; answers: how many requests have been answered with anything.
    """

    def __init__(self, upstream: str) -> None:
        self.lead_to(upstream)
        self.plan: list[str] = []
        self.is_stored: Callable[[], Awaitable[None]]
        self.before_cut: Callable[[], Awaitable[None]] = _nothing
        self.posts = self.answers = 0
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    def lead_to(self, upstream: str) -> None:
        """Connections that come from now on."""
        split = urlsplit(upstream)
        self._host, self._port = split.hostname, split.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self._all_ended.clear()
        try:
            await self._pass_on(reader, writer)
        finally:
            self._open.discard(writer)
            if not self._open:
                self._all_ended.set()

    async def close(self) -> None:
        """End every connection; returns when none is left."""
        for writer in set(self._open):
            writer.transport.abort()
        await self._all_ended.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer, up_reader, up_writer):
                    pass
        finally:
            for each in (up_writer, writer):  # first it is seen by the server, then by the client
                each.transport.abort()
                await asyncio.sleep(0.01)

    async def _one(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request and its answer on; False when the connection is over."""
        head = await reader.readuntil(b"\r\n\r\n")
        is_post = head.startswith(b"POST")
        self.posts += is_post
        cut = self.plan.pop(0) if is_post and self.plan else None
        found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        body = await (
            _chunked(reader)
            if b"chunked" in head.lower()
            else reader.readexactly(int(found[1]) if found else 0)
        )
        if cut == BODY:
            up_writer.write(head + body[: len(body) // 2])
            await up_writer.drain()
        else:
            up_writer.write(head + body)
            await up_writer.drain()
        if cut == STORED:
            await self.is_stored()
        if cut == ANSWER:
            writer.write(await up_reader.read(1))
        if cut is not None:
            await self.before_cut()
            return False
        is_first = True
        while piece := await _answer_or_end(up_reader, reader):
            self.answers += is_first
            is_first = False
            writer.write(piece)
            await writer.drain()
            if piece.endswith(b"0\r\n\r\n") or _is_whole(piece):
                return True
        return False


async def _nothing() -> None:
    pass


async def _answer_or_end(up_reader: asyncio.StreamReader, reader: asyncio.StreamReader) -> bytes:
    """The next bytes of the answer; nothing when the client has gone."""
    answer = asyncio.ensure_future(up_reader.read(65536))
    while True:
        await asyncio.wait([answer], timeout=0.05)
        if answer.done():
            return answer.result()
        if reader.at_eof():
            answer.cancel()
            return b""


def _is_whole(piece: bytes) -> bool:
    head, separator, body = piece.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return bool(separator and found and len(body) == int(found[1]))


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    whole = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(line, 16) + 2)
        whole += line + chunk
        if line == b"0\r\n":
            return whole


@contextlib.asynccontextmanager
async def cutting_proxy(upstream: str) -> AsyncIterator[CuttingProxy]:
    """On a free port of this host."""
    proxy = CuttingProxy(upstream)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
