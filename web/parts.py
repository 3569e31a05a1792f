"""What the handlers of one web process share, made once and handed to the application."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
from collections.abc import Callable

from aiohttp import web

from config.settings import Settings
from metrics.web_metrics import WebMetrics
from supervisor.database import Database
from supervisor.files import FileStore, open_file_store
from supervisor.fresh_order import FreshOrder
from supervisor.links import LinkSigner
from supervisor.store import credits
from supervisor.submissions import Submissions
from supervisor.tokens import Identity
from web.hub import Hub

DECODERS = 2  # a decoding picture takes up to 400 MB and a core
PING_SECONDS = 15.0
MOST_USERS_REMEMBERED = 100_000


@dataclasses.dataclass
class Parts:
    """The shared parts.  secret signs tokens; exposition: the text of /metrics, blocking."""

    settings: Settings
    database: Database
    secret: str
    files: FileStore
    links: LinkSigner
    hub: Hub
    order: FreshOrder
    submissions: Submissions
    metrics: WebMetrics
    decoders: concurrent.futures.Executor
    exposition: Callable[[], bytes]
    ping_seconds: float = PING_SECONDS
    upload_bytes_held: int = 0
    is_draining: bool = False
    _seen: set[str] = dataclasses.field(default_factory=set)

    async def meet(self, user: str) -> None:
        """Open the user's account, with its sign-up grant, the first time they are seen."""
        if user in self._seen:
            return
        await asyncio.shield(self.database.write_async(lambda tx: credits.ensure_account(tx, user)))
        if len(self._seen) >= MOST_USERS_REMEMBERED:
            self._seen.clear()
        self._seen.add(user)


def make_parts(
    settings: Settings, database: Database, secret: str, exposition: Callable[[WebMetrics], bytes]
) -> Parts:
    """Everything the handlers need.  Opens nothing yet."""
    metrics = WebMetrics()
    hub = Hub()
    metrics.feed_clients.set_function(lambda: hub.stream_count)
    order = FreshOrder(database, settings.tasks)
    return Parts(
        settings=settings,
        database=database,
        secret=secret,
        files=open_file_store(settings.storage_url),
        links=LinkSigner(secret, settings.file_link_seconds),
        hub=hub,
        order=order,
        submissions=Submissions(settings, database, order),
        metrics=metrics,
        decoders=concurrent.futures.ThreadPoolExecutor(DECODERS, thread_name_prefix="decoder"),
        exposition=lambda: exposition(metrics),
    )


PARTS = web.AppKey("PARTS", Parts)
IDENTITY = web.RequestKey("IDENTITY", Identity)
FIRST_BYTE_AT = web.RequestKey("FIRST_BYTE_AT", float)  # of a stream, by time.perf_counter


def parts_of(request: web.Request) -> Parts:
    """The shared parts."""
    return request.app[PARTS]


def user_of(request: web.Request) -> str:
    """Whose request this is; the auth middleware has made sure of it."""
    return request[IDENTITY].user
