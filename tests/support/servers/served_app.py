"""An aiohttp application that really listens, in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Self

from aiohttp import web

START_SECONDS = 90


class ServedApp:
    """Use it as a context.  url: where it listens, on a free port of this machine; loop: where its handlers run."""

    def __init__(self) -> None:
        self.url = ""
        self.loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._over: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def application(self) -> web.Application:
        """The served application."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """What runs as long as the application is served."""
        yield

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_SECONDS), f"no answer in {START_SECONDS} s"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._over is not None
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._serve())
        self.loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        runner = web.AppRunner(
            self.application(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with self.beside():
            self._ready.set()
            await self._over.wait()
        await runner.cleanup()
