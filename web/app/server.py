"""The listening server: binds, serves, drains."""

from __future__ import annotations

import asyncio
import logging
import socket

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from supervisor.net.listen_socket import BACKLOG
from supervisor.net.ports import address, local_host
from web.handling.context import Context
from web.http.problems import Problem
from web.http.request_ids import HEADER, new_request_id

log = logging.getLogger("darkroom.web")

KEEP_ALIVE_SECONDS = 75.0  # longer than the usual 60 of a proxy, so that the proxy closes first
LAST_REQUESTS_SECONDS = 5.0
READ_BYTES = 64 * 1024  # bytes that aiohttp's parser reads at once


class WebServer:
    """One application on one socket.  is_shared: another process holds it too, and serves clients after us."""

    def __init__(
        self, app: web.Application, context: Context, listening: socket.socket, *, is_shared: bool = False
    ) -> None:
        self._context, self._socket, self._is_shared = context, listening, is_shared
        # A handler is cancelled when its client disconnects; it shields work that must be finished.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=LAST_REQUESTS_SECONDS
        )
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """The server's base address for this host."""
        host, port = self._socket.getsockname()[:2]
        return address(local_host(host), port)

    async def start(self) -> None:
        """Serve from now on."""
        await self._runner.setup()
        manager = self._runner.server
        assert manager is not None
        loop = asyncio.get_running_loop()

        def protocol() -> RequestHandler:
            return _Connection(
                manager,
                loop=loop,
                access_log=None,  # type: ignore[arg-type]  # None is aiohttp's own word for "none"
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                # compressed bodies are refused (web.http.body_reader), so never decompressed
                auto_decompress=False,
                read_bufsize=READ_BYTES,
            )

        self._server = await loop.create_server(protocol, sock=self._socket, backlog=BACKLOG)

    async def stop(self) -> None:
        """Drain: become unready, end every feed politely, answer the last requests, close everything."""
        if self._is_shared and self._server is not None:
            self._server.close()  # clients of ended feeds reconnect at once, and must not come to us
        self._context.is_draining = True
        await self._context.hub.close()
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
        await self._context.plain_uploads.close()
        self._context.json_thread.shutdown(wait=False, cancel_futures=True)


class _Connection(RequestHandler):
    """aiohttp's connection, but bytes that are not HTTP are answered with a problem too."""

    __slots__ = ()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        request_id = new_request_id()  # what is not HTTP has no headers to take one from
        if isinstance(exc, BadHttpMessage):  # any client can send such bytes: log a line, not a traceback
            log.info("what %s sent is not HTTP", request.remote, extra={"request_id": request_id})
            detail = "This is not a request in HTTP/1.1."
        else:
            status = super().handle_error(request, status, exc, message).status
            detail = "The request failed."
        problem = Problem(status, detail).to_response(request.rel_url.raw_path, request_id)
        problem.headers[HEADER] = request_id  # no hook adds it: the request has no application
        problem.force_close()
        return problem
