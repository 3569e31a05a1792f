"""The base of the tests' third-party services: it shows pictures and records its requests."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.support.pictures import picture
from tests.support.servers.served_app import ServedApp


class FakeService(ServedApp):
    """pictures: {name: bytes} shown under /pictures/.

    asked: every request as (method, path, headers, JSON body or None), but for pictures.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pictures: dict[str, bytes] = {"red.png": picture("red"), "blue.png": picture("blue")}
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**26, middlewares=[self._note])
        app.router.add_get("/pictures/{name}", self._picture)
        self.declare(app.router)
        return app

    def declare(self, router: web.UrlDispatcher) -> None:
        """The service's own routes."""
        raise NotImplementedError

    def picture_url(self, name: str = "red.png") -> str:
        return f"{self.url}/pictures/{name}"

    def paths(self, method: str = "") -> list[str]:
        """The requests, in order."""
        return [path for asked, path, _, _ in self.asked if not method or asked == method]

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
