"""A proxy between a front end and a real web part, with the faults that networks and proxies have."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp import web

FEED = "/v1/works/feed"
CHANGES = "/v1/works/changes"
_HOP_BY_HOP = {
    "connection",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "date",
    "server",
    "host",
}

Frames = Callable[[bytes], list[bytes]]


class FaultyProxy:
    """Its faults can be changed at any time and hold for later bytes. is_down: it does not listen. speaks: while it is
    not set, it does not answer.  buffers: streams are collected instead of
    passed on.  cut_every: a stream is cut after so
    many bytes.  on_frame: what goes on of a stream's frame.  loses_answer_of: a request to such a path is passed on
    and its answer is lost, once.  answers: {path: what is answered instead}.  gates: {path: until
    when a stream is not asked for, or another answer not passed on}.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.is_down = False
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.gates: dict[str, asyncio.Event] = {}
        self.buffers = False
        self.cut_every = 0
        self.on_frame: Frames = lambda frame: [frame]
        self.loses_answer_of = ""
        self.answers: dict[str, web.Response] = {}
        self.requests: list[web.Request] = []
        self._streams: list[web.Request] = []
        self._session: aiohttp.ClientSession

    def asked(self, path: str) -> list[web.Request]:
        """The requests to a path, so far."""
        return [request for request in self.requests if request.path == path]

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    def cut(self) -> None:
        """Break every open stream, without a word."""
        for request in list(self._streams):
            _abort(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.is_down:
            _abort(request)
            raise ConnectionResetError
        await self.speaks.wait()
        if request.path in self.answers:
            return _again(self.answers[request.path])
        if request.path == FEED:
            await self._gate(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            request.method, self.upstream + request.raw_path, data=await request.read(), headers=headers
        ) as answer:
            if request.path == self.loses_answer_of:
                await answer.read()
                self.loses_answer_of = ""
                _abort(request)
                raise ConnectionResetError
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            if request.path != FEED or answer.status != 200:
                body = await answer.read()
                await self._gate(request)
                return web.Response(status=answer.status, headers=kept, body=body)
            return await self._stream(request, answer, kept)

    async def _gate(self, request: web.Request) -> None:
        if request.path in self.gates:
            await self.gates[request.path].wait()

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers=headers)
        self._streams.append(request)
        sent, rest = 0, b""
        try:
            if not self.buffers:
                await response.prepare(request)
            async for chunk in answer.content.iter_any():
                rest += chunk
                *frames, rest = rest.split(b"\n\n")
                for frame in frames:
                    for piece in self.on_frame(frame + b"\n\n"):
                        if self.buffers:
                            continue
                        if self.cut_every and sent + len(piece) > self.cut_every:
                            await response.write(piece[: self.cut_every - sent])
                            _abort(request)
                            raise ConnectionResetError
                        await response.write(piece)
                        sent += len(piece)
            if not response.prepared:
                await response.prepare(request)
            await response.write_eof()
        finally:
            self._streams.remove(request)
        return response

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FaultyProxy]:
        app = web.Application(client_max_size=1 << 25)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as self._session:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                self.cut()
                await runner.cleanup()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _again(answer: web.Response) -> web.Response:
    """A response can be sent once."""
    return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))
