"""An AI service over HTTP for tests: it really listens, counts its requests, and answers as the test sets it up."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.support.providers.instant_provider import ONE_PIXEL
from tests.support.servers.served_app import ServedApp

SECRET = "sk-tell-nobody-456"


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request as it arrived.  fields: of a multipart body, [(name, value, file name, type)]."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    document: Any = None
    fields: tuple[tuple[str, Any, str | None, str | None], ...] = ()


@dataclasses.dataclass(frozen=True)
class Reply:
    """What is answered, after so many seconds.  cut: the connection ends 'before' the answer or 'within' it.

    when: the answer is held until this is set.
    """

    status: int = 200
    document: Any = None
    body: bytes | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    after_seconds: float = 0.0
    when: threading.Event | None = None
    cut: str = ""


def picture_reply(data: bytes = ONE_PIXEL, **more: Any) -> Reply:
    """A picture in base64 at `$.image`."""
    return Reply(document={"image": base64.b64encode(data).decode()}, **more)


def http_type(service: FakeAiService, name: str, **changes: str) -> dict[str, str]:
    """Settings of a task type, and of its provider of the same name, on a service that answers at once.

    changes: of the provider.
    """
    provider = {
        "KIND": "http",
        "SECRETS__KEY": SECRET,
        "RESULT": '["$.image"]',
        "SUBMIT__URL": f"{service.url}/make",
        "SUBMIT__HEADERS": json.dumps({"Authorization": "Bearer ${secret.KEY}", "X-Task": "${task_id}"}),
        "SUBMIT__BODY": json.dumps({"image": "${input.0.data_uri}", "prompt": "${params.prompt}"}),
    }
    settings = {f"PROVIDERS__{name}__{key}": value for key, value in (provider | changes).items()}
    return settings | {f"TASKS__{name}__PROVIDER": name}


class FakeAiService(ServedApp):
    """reply: decides on each request; pictures: {name: bytes} served under /pictures/.  Use it as a context."""

    def __init__(self, reply: Callable[[Asked], Reply] | None = None) -> None:
        super().__init__()
        self.reply = reply or (lambda asked: picture_reply())
        self.pictures: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.answered = 0
        self.broken_off = 0  # requests whose caller went away before the answer

    def asked_for(self, task_id: str) -> int:
        """How often it was asked for a task, by the header of http_type."""
        return sum(asked.headers["X-Task"] == task_id for asked in self.asked)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/pictures/{name}", self._picture)
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    async def _picture(self, request: web.Request) -> web.Response:
        found = self.pictures.get(request.match_info["name"])
        return web.Response(status=404) if found is None else web.Response(body=found)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = await _read(request)
        self.asked.append(asked)
        reply = self.reply(asked)
        try:
            await asyncio.sleep(reply.after_seconds)
            while reply.when is not None and not reply.when.is_set():  # noqa: ASYNC110  set by another thread
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.broken_off += 1
            raise
        if reply.cut:
            return await _cut(request, reply)
        body = reply.body if reply.body is not None else json.dumps(reply.document).encode()
        self.answered += 1
        return web.Response(status=reply.status, body=body, headers=reply.headers)


async def _cut(request: web.Request, reply: Reply) -> web.StreamResponse:
    assert request.transport is not None
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    if reply.cut == "within":
        await response.prepare(request)
        await response.write(b'{"image": "')
    request.transport.abort()
    return response


async def _read(request: web.Request) -> Asked:
    document, fields = None, []
    if request.content_type == "application/json":
        document = await request.json()
    elif request.content_type == "multipart/form-data":
        for name, value in (await request.post()).items():
            is_file = isinstance(value, web.FileField)
            fields.append(
                (name, value.file.read(), value.filename, value.content_type)
                if is_file
                else (name, value, None, None)
            )
    return Asked(
        request.method, request.path, request.query_string, dict(request.headers), document, tuple(fields)
    )
