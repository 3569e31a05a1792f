"""Our client for Python, blocking or not, called in one way: a test of one is a test of both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from darkroom_client import AsyncDarkroom, Darkroom

BLOCKING, AWAITING = "blocking", "awaiting"
KINDS = (BLOCKING, AWAITING)


class AnyClient:
    """client: the one or the other."""

    def __init__(self, client: Darkroom | AsyncDarkroom) -> None:
        self.client = client

    async def call(self, name: str, /, *given: Any, **more: Any) -> Any:
        """What a method returns."""
        method = getattr(self.client, name)
        if isinstance(self.client, AsyncDarkroom):
            return await method(*given, **more)
        return await asyncio.to_thread(method, *given, **more)

    async def each(self, name: str, /, *given: Any, **more: Any) -> AsyncIterator[Any]:
        """What a method yields."""
        found = getattr(self.client, name)(*given, **more)
        if isinstance(self.client, AsyncDarkroom):
            async with contextlib.aclosing(found):
                async for item in found:
                    yield item
            return
        end = object()
        try:
            while (item := await asyncio.to_thread(next, found, end)) is not end:
                yield item
        finally:
            await asyncio.to_thread(found.close)


@contextlib.asynccontextmanager
async def any_client(kind: str, url: str, token: Any, **more: Any) -> AsyncIterator[AnyClient]:
    """A client that is closed at the end.  more: as the clients take it."""
    if kind == AWAITING:
        async with AsyncDarkroom(url, token, **more) as awaiting:
            yield AnyClient(awaiting)
    else:
        with Darkroom(url, token, **more) as blocking:
            yield AnyClient(blocking)
