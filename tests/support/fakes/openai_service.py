"""OpenAI's images API, and Ark's, which speaks it with pictures in JSON and errors of single pictures."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from aiohttp import web

from tests.support.fakes.served import FakeService
from tests.support.pictures import picture

_USAGE = {
    "total_tokens": 3,
    "input_tokens": 1,
    "output_tokens": 2,
    "input_tokens_details": {"text_tokens": 1, "image_tokens": 0},
}
_LOOK = {
    "background": "opaque",
    "output_format": "png",
    "quality": "low",
    "size": "1024x1024",
    "created_at": 1,
}


class OpenAi(FakeService):
    """error: (HTTP status, code, headers) of every answer.  data: of an answer, instead of pictures.

    stream_error: what a stream ends with, instead of its picture: a code; `cut`, an end after its drafts; `broken`, a
    lost connection after them; `hang`, no end; or `silence`, an end with nothing before it.  after: how a stream ends
    after its picture, or its error: `broken` or `hang`.  fields: of the last multipart body.
    """

    def __init__(self) -> None:
        self.error: tuple[int, str, dict[str, str]] | None = None
        self.data: list[dict[str, Any]] | None = None
        self.stream_error = self.after = ""
        self.wait_seconds = 0.0
        self.broken_off = 0
        self.fields: list[tuple[str, Any]] = []
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        router.add_post("/v1/images/generations", self._generations)
        router.add_post("/v1/images/edits", self._edits)

    async def _generations(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, await request.json(), "image_generation")

    async def _edits(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        self.fields = [
            (name, value.file.read() if isinstance(value, web.FileField) else value)
            for name, value in form.items()
        ]
        body = {name: value for name, value in form.items() if isinstance(value, str)}
        return await self._answer(request, body, "image_edit")

    async def _answer(self, request: web.Request, body: dict[str, Any], kind: str) -> web.StreamResponse:
        try:
            await asyncio.sleep(self.wait_seconds)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        if self.error is not None or not request.headers.get("Authorization", "").startswith("Bearer sk-"):
            status, code, headers = self.error or (401, "invalid_api_key", {})
            said = {"message": f"no: {code}", "type": "error_type", "param": None, "code": code}
            return web.json_response({"error": said}, status=status, headers=headers)
        if str(body.get("stream", False)).lower() == "true":
            return await self._stream(request, kind, int(body.get("partial_images", 0)))
        usual = [{"b64_json": _encoded("red")} for _ in range(int(body.get("n", 1)))]
        return web.json_response(
            {"created": 1, "data": self.data if self.data is not None else usual, "usage": _USAGE}
        )

    async def _stream(self, request: web.Request, kind: str, drafts: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for n in range(0 if self.stream_error == "silence" else drafts):
            await _send(
                response,
                f"{kind}.partial_image",
                {"b64_json": _encoded(("red", "green", "blue")[n]), "partial_image_index": n} | _LOOK,
            )
        if self.stream_error == "broken" and request.transport is not None:
            request.transport.abort()
        if self.stream_error == "hang":
            await asyncio.sleep(60)
        if self.stream_error in ("cut", "silence", "broken"):
            return response
        if self.stream_error:
            error = {"message": "no", "code": self.stream_error, "type": "e", "param": None}
            await _send(response, "error", {"error": error})
        else:
            await _send(
                response, f"{kind}.completed", {"b64_json": _encoded("blue"), "usage": _USAGE} | _LOOK
            )
        if self.after == "broken" and request.transport is not None:
            request.transport.abort()
        if self.after == "hang":
            await asyncio.sleep(60)
        return response


async def _send(response: web.StreamResponse, kind: str, data: dict[str, Any]) -> None:
    await response.write(f"event: {kind}\ndata: {json.dumps({'type': kind} | data)}\n\n".encode())


def _encoded(colour: str) -> str:
    return base64.b64encode(picture(colour)).decode()
