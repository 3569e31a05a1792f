"""GET /openapi.json, made at the first request: its models would be a tenth of web's imports at the start."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from config.settings import Settings
from web.handling.responses import json_answer

if TYPE_CHECKING:
    from web.openapi.generator import Address


class Description:
    """The OpenAPI document of a server with these settings, made once."""

    def __init__(self, settings: Settings, addresses: Iterable[Address]) -> None:
        self._settings, self._addresses = settings, addresses
        self._lock = threading.Lock()
        self._document: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Blocks for a tenth of a second the first time; call it in a thread."""
        with self._lock:
            if self._document is None:
                from web.openapi.generator import openapi_document

                self._document = openapi_document(self._settings, self._addresses)
            return self._document


DESCRIPTION = web.AppKey("DESCRIPTION", Description)


async def show_openapi(request: web.Request) -> web.Response:
    """200 with the description."""
    document = await asyncio.to_thread(request.app[DESCRIPTION].document)
    return json_answer(document, headers={"Cache-Control": "no-cache"})
