"""A proxy whose connections end after so many bytes of what the server sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit


class CutStreams:
    """bytes_of: how many bytes the nth connection brings before it is cut; None: all.  connections: so far."""

    def __init__(self, upstream: str, bytes_of: Callable[[int], int | None]) -> None:
        split = urlsplit(upstream)
        self._host, self._port = split.hostname, split.port
        self._bytes_of = bytes_of
        self._open: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = self._bytes_of(self.connections)
        self.connections += 1
        mine = asyncio.current_task()
        assert mine is not None
        self._open.add(mine)
        up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        asking = asyncio.create_task(self._ask(reader, up_writer))
        try:
            while (left is None or left > 0) and (
                piece := await up_reader.read(65536 if left is None else left)
            ):
                writer.write(piece)
                await writer.drain()
                left = None if left is None else left - len(piece)
        except ConnectionError:
            pass
        finally:
            self._open.discard(mine)
            asking.cancel()
            writer.close()  # what was written arrives, and then the end
            up_writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                up_writer.write(piece)
                await up_writer.drain()
        up_writer.transport.abort()

    async def close(self) -> None:
        """End every connection."""
        for each in set(self._open):
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


@contextlib.asynccontextmanager
async def cut_streams(upstream: str, bytes_of: Callable[[int], int | None]) -> AsyncIterator[CutStreams]:
    """On a free port of this host."""
    proxy = CutStreams(upstream, bytes_of)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
