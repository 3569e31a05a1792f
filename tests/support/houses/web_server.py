"""A real web part on a real port over a real database, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image
from prometheus_client import generate_latest

from config.settings import Settings
from supervisor.database.interface.database import Database
from supervisor.database.interface.wakeups import Wakeups
from supervisor.database.open_wakeups import feed_wakeups
from supervisor.net.listen_socket import listen_on
from supervisor.schema.migrate import migrate
from supervisor.security.tokens import make_user_token
from tests.support.databases import POSTGRESQL, SQLITE, fresh_settings, open_quickly, plain_connection
from tests.support.servers.postgres_databases import give_back
from web.app.app import build_app
from web.app.server import WebServer
from web.handling.context import Context, make_context

SECRET = "a secret of the tests, long enough for HS256"
DEADLINE_SECONDS = 90.0


class Web:
    """A running server and what a test wants to know of it."""

    def __init__(self, settings: Settings, ping_seconds: float = 15.0) -> None:
        self.settings = settings
        self.ping_seconds = ping_seconds
        self.database: Database
        self.context: Context
        self.server: WebServer
        self.wakeups: Wakeups
        self.port = settings.port
        self._is_running = False
        self._held_port: socket.socket | None = None

    async def start(self) -> None:
        self.give_up_port()
        self.database = open_quickly(self.settings)
        self.context = make_context(
            self.settings, self.database, SECRET, lambda own: generate_latest(own.registry)
        )
        self.context.ping_seconds = self.ping_seconds
        self.wakeups = feed_wakeups(self.database, self.settings)
        listening = listen_on(self.settings.host, self.port)
        self._address = listening.family, listening.getsockname()
        self.port = self._address[1][1]  # a restart comes back at the same address
        self.server = WebServer(build_app(self.context, self.wakeups), self.context, listening)
        await self.server.start()
        self._is_running = True

    async def stop(self) -> None:
        """End it, once.  Its port stays taken and refuses connections: a server of another test must not get it."""
        if not self._is_running:
            return
        self._is_running = False
        await self.server.stop()
        family, address = self._address
        self._held_port = socket.socket(family)
        self._held_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held_port.bind(address)
        self.wakeups.close()
        await asyncio.to_thread(self.database.close)

    def give_up_port(self) -> None:
        """Let others have the port of a stopped server."""
        if self._held_port is not None:
            self._held_port.close()
            self._held_port = None

    @property
    def url(self) -> str:
        return self.server.address

    def connections(self) -> int:
        """How many connections the server has."""
        server = self.server._runner.server
        return len(server.connections) if server is not None else 0

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """What a program does that knows nothing of ours: one committed statement over a plain connection."""
        with contextlib.closing(plain_connection(self.settings)) as plain:
            done = plain.execute(statement, params)
            return list(done.fetchall()) if done.description else []

    def insert_task(self, user: str, *, type_: str = "photography") -> None:
        self.sql(
            "INSERT INTO task_queue (user_openid, type, params) VALUES (?, ?, ?)",
            user,
            type_,
            '{"images":["x"]}',
        )


@contextlib.asynccontextmanager
async def running_web(
    folder: Path, kind: str = SQLITE, *, ping_seconds: float = 15.0, **settings: Any
) -> AsyncIterator[Web]:
    """A fresh database of this kind and a web part over it."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = fresh_settings(folder, kind=kind, port=0, secret=SECRET, **settings)
    if "credits" in settings:  # the other settings are no rules of the database, which is migrated already
        migrate(chosen)
    web = Web(chosen, ping_seconds)
    await web.start()
    try:
        yield web
    finally:
        await web.stop()
        web.give_up_port()
        if kind == POSTGRESQL:
            give_back(chosen.database_url)


def bearer(user: str, role: Any = "user", *, ttl_seconds: float = 600) -> dict[str, str]:
    """The header of a user's token."""
    return {"Authorization": f"Bearer {make_user_token(SECRET, user, role, ttl_seconds=ttl_seconds)}"}


@dataclass
class SseEvent:
    """One event, or a comment (`event` is then ':')."""

    event: str
    id: str | None = None
    data: Any = None


@dataclass
class SseReader:
    """Reads an event stream as the HTML standard says."""

    response: aiohttp.ClientResponse
    retry: int | None = None
    first_bytes: bytes = b""
    _buffer: bytes = field(default=b"")

    async def next(self, *, comments: bool = False) -> SseEvent | None:
        """The next event; None when the stream has ended."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                while b"\n\n" not in self._buffer:
                    chunk = await self.response.content.readany()
                    if not chunk:
                        return None
                    self.first_bytes = self.first_bytes or chunk
                    self._buffer += chunk
                block, _, self._buffer = self._buffer.partition(b"\n\n")
                event = self._parse(block.decode())
                if event is not None and (comments or event.event != ":"):
                    return event

    async def take(self, count: int) -> list[SseEvent]:
        """So many events; fails when the stream ends before."""
        found: list[SseEvent] = []
        for _ in range(count):
            event = await self.next()
            assert event is not None, f"the stream ended after {len(found)} of {count} events"
            found.append(event)
        return found

    def _parse(self, block: str) -> SseEvent | None:
        event = SseEvent("message")
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "":
                    return SseEvent(":")
                case "retry":
                    self.retry = int(value)
                    return None
                case "id":
                    event.id = value
                case "event":
                    event.event = value
                case "data":
                    event.data = json.loads(value)
        return event


@contextlib.asynccontextmanager
async def feed_of(
    session: aiohttp.ClientSession,
    web: Web,
    user: str,
    *,
    last_event_id: str | None = None,
    path: str = "/v1/works/feed",
) -> AsyncIterator[SseReader]:
    """A user's open feed."""
    headers = bearer(user) | ({"Last-Event-ID": last_event_id} if last_event_id is not None else {})
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.get(web.url + path, headers=headers, timeout=timeout) as response:
        assert response.status == 200, await response.text()
        yield SseReader(response)


async def until(condition: Callable[[], Any], what: str, *, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until a named condition holds; fails with its name."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        await asyncio.sleep(0.005)


def picture_bytes(
    format_: str = "JPEG", size: tuple[int, int] = (64, 48), color: Any = (200, 30, 30), **save: Any
) -> bytes:
    """A picture as a phone would send it."""
    out = io.BytesIO()
    mode = "RGBA" if isinstance(color, tuple) and len(color) == 4 else "RGB"
    Image.new(mode, size, color).save(out, format_, **save)
    return out.getvalue()
