"""A Gradio app with the observed behaviour of version 6.31: an order joins its queue, and its stream reports the rest,
once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.support.fakes.served import FakeService


class GradioApp(FakeService):
    """output: of the next event, instead of a picture.  error: what it fails with, None where it does not say why.

    dies: `before` or `after` its result the stream breaks off.  knows: whether it knows sessions; one that was started
    anew does not.  data: of the last order.
    """

    def __init__(self) -> None:
        self.output: list[Any] | None = None
        self.error: str | None = None
        self.fails = False
        self.dies = ""
        self.knows = True
        self.data: list[Any] = []
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        router.add_get("/config", self._config)
        router.add_get("/gradio_api/info", self._info)
        router.add_post("/gradio_api/queue/join", self._join)
        router.add_get("/gradio_api/queue/data", self._tell)
        router.add_get("/gradio_api/file={name}", self._picture)

    async def _config(self, _: web.Request) -> web.Response:
        endpoints = [{"id": 4, "api_name": "invert"}, {"id": 5, "api_name": False}]
        return web.json_response(
            {"version": "6.31.0", "api_prefix": "/gradio_api", "dependencies": endpoints}
        )

    async def _info(self, _: web.Request) -> web.Response:
        parameters = [
            {"parameter_name": "image", "component": "Image", "parameter_default": None},
            {"parameter_name": "steps", "component": "Number", "parameter_default": 20},
        ]
        endpoint = {"parameters": parameters, "returns": [{"component": "Image"}]}
        return web.json_response({"named_endpoints": {"/invert": endpoint}})

    async def _join(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["fn_index"] == 4 and body["session_hash"]
        self.data = body["data"]
        return web.json_response({"event_id": "e-1"})

    async def _tell(self, request: web.Request) -> web.StreamResponse:
        if not self.knows:
            return web.json_response({"detail": "Session not found."}, status=404)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        file = {
            "path": "red.png",
            "url": f"{self.url}/gradio_api/file=red.png",
            "meta": {"_type": "gradio.FileData"},
        }
        output = {"data": [file] if self.output is None else self.output}
        end = {"output": {"error": self.error} if self.fails else output, "success": not self.fails}
        messages: list[dict[str, Any]] = [
            {"msg": "estimation", "rank": 2},
            {"msg": "process_starts"},
            {"msg": "progress", "progress_data": [{"index": 5, "length": 10, "unit": "steps"}]},
            {"msg": "process_completed", **end},
        ]
        for message in messages[:-1] if self.dies == "before" else messages:
            await response.write(f"data: {json.dumps(message | {'event_id': 'e-1'})}\n\n".encode())
        if self.dies:
            await asyncio.sleep(0.05)  # what was written is on its way
            assert request.transport is not None
            request.transport.abort()
        return response
