"""The plain servers that the feed is measured beside: `python -m bench.feed_servers bare|sse-starlette FOLDER`.

Both hold event streams and do nothing else: no database, no tokens, no resume, no bound on what waits for a client
that does not read.  `POST /publish {user: document}` makes one event for each user and sends it to that user's
streams.  `bare` is aiohttp's StreamResponse and one coroutine that writes to all of them, one after the other: nothing
that goes through aiohttp's own writer takes fewer steps.  `sse-starlette` has a queue for each stream, as its
documentation shows it, under uvicorn.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

OPENING = b'retry: 1000\n\nevent: init\ndata: {"docs":[]}\n\n'
BACKLOG = 1024
KEEP_ALIVE_SECONDS = 600  # of the connection that publishes, while thousands of streams are being opened


def frame_of(seq: int, document: dict[str, Any]) -> bytes:
    """One change as it goes over the wire; as many bytes as ours."""
    return b"id: 0123456789ab-%d\nevent: change\ndata: %s\n\n" % (seq, orjson.dumps(document))


def bare_app() -> web.Application:
    """Streams by user; a publication writes to each of them directly."""
    streams: dict[str, set[web.StreamResponse]] = {}
    seq = 0

    async def feed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(OPENING)
        mine = streams.setdefault(request.headers["X-User"], set())
        mine.add(response)
        try:
            await asyncio.Event().wait()
        finally:
            mine.discard(response)
        return response

    async def publish(request: web.Request) -> web.Response:
        nonlocal seq
        seq += 1
        for user, document in orjson.loads(await request.read()).items():
            frame = frame_of(seq, document)
            for response in streams.get(user, ()):
                await response.write(frame)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/v1/works/feed", feed)
    app.router.add_post("/publish", publish)
    return app


async def serve_bare(folder: Path) -> None:
    """Until terminated."""
    runner = web.AppRunner(
        bare_app(),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=1,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG)
    await site.start()
    (folder / "url").write_text(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    await asyncio.Event().wait()


async def serve_sse_starlette(folder: Path) -> None:
    """Until terminated."""
    import uvicorn
    from sse_starlette import EventSourceResponse, ServerSentEvent
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    queues: dict[str, set[asyncio.Queue[ServerSentEvent]]] = {}
    seq = 0

    async def feed(request: Request) -> EventSourceResponse:
        waiting: asyncio.Queue[ServerSentEvent] = asyncio.Queue(256)
        mine = queues.setdefault(request.headers["X-User"], set())

        async def events() -> AsyncIterator[ServerSentEvent]:
            mine.add(waiting)
            try:
                yield ServerSentEvent(event="init", data='{"docs":[]}', retry=1000, sep="\n")
                while True:
                    yield await waiting.get()
            finally:
                mine.discard(waiting)

        return EventSourceResponse(events(), sep="\n")

    async def publish(request: Request) -> Response:
        nonlocal seq
        seq += 1
        for user, document in orjson.loads(await request.body()).items():
            data = orjson.dumps(document).decode()
            event = ServerSentEvent(event="change", id=f"0123456789ab-{seq}", data=data, sep="\n")
            for waiting in queues.get(user, ()):
                waiting.put_nowait(event)
        return Response(status_code=204)

    app = Starlette(routes=[Route("/v1/works/feed", feed), Route("/publish", publish, methods=["POST"])])
    listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    (folder / "url").write_text(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            backlog=BACKLOG,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
        )
    )
    await server.serve([listening])


def main() -> None:
    """Serve until terminated."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind, folder = sys.argv[1], Path(sys.argv[2])
    serve = {"bare": serve_bare, "sse-starlette": serve_sse_starlette}[kind]
    asyncio.run(serve(folder))


if __name__ == "__main__":
    main()
