"""An aiohttp application that really listens, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Self

from aiohttp import web

from tests.pictures import picture

START_SECONDS = 20


class ServedApp:
    """Use it as a context.  url: where it listens; pictures: {name: bytes} shown under /pictures/.

    asked: every request as (method, path, headers, JSON body or None), but for pictures.
    """

    def __init__(self) -> None:
        self.url = ""
        self.pictures: dict[str, bytes] = {"red.png": picture("red"), "blue.png": picture("blue")}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.app = web.Application(client_max_size=2**26, middlewares=[self._note])
        self.app.router.add_get("/pictures/{name}", self._picture)
        self.declare(self.app.router)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def declare(self, router: web.UrlDispatcher) -> None:
        """The service's own routes."""
        raise NotImplementedError

    def picture_url(self, name: str = "red.png") -> str:
        return f"{self.url}/pictures/{name}"

    def paths(self, method: str = "") -> list[str]:
        """What was asked, in order."""
        return [path for asked, path, _, _ in self.asked if not method or asked == method]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        runner = web.AppRunner(self.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _picture(self, request: web.Request) -> web.Response:
        found = self.pictures.get(request.match_info["name"])
        return web.Response(status=404) if found is None else web.Response(body=found)

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/pictures/"):
            document = await request.json() if request.content_type == "application/json" else None
            self.asked.append((request.method, request.path_qs, dict(request.headers), document))
        answer: web.StreamResponse = await handler(request)
        return answer
