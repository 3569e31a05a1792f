"""A receiver of webhooks on loopback: it keeps its requests and answers as a test chooses."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from tests.support.fakes.served import FakeService


@dataclasses.dataclass(frozen=True)
class Heard:
    """One request."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, key: str) -> Any:
        """The message, if the standard's own library finds it signed with this key; else it raises."""
        return Webhook(key).verify(self.body, dict(self.headers))


class WebhookReceiver(FakeService):
    """answers: the (status, headers) of the next requests; when there are none left, 204.  hangs: never answers."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.hangs = False
        super().__init__()

    def declare(self, router: web.UrlDispatcher) -> None:
        router.add_post("/hook", self._hear)

    @property
    def hook(self) -> str:
        """The address to be named by a task."""
        return self.url + "/hook"

    async def _hear(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.heard.append(Heard(headers, await request.read()))
        if self.hangs:
            await asyncio.Event().wait()  # until its caller goes away
        status, answered = self.answers.pop(0) if self.answers else (204, {})
        return web.Response(status=status, headers=answered)
