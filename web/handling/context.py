"""The shared parts of one web process's handlers, made once and passed to the application."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from aiohttp import web

from config.settings import Settings
from metrics.web_metrics import WebMetrics
from supervisor.core.errors import DatabaseBusy, Fault, Revoked, UserBlocked
from supervisor.core.fair_turns import Turns
from supervisor.database.interface.database import READER_THREADS, Database, PendingResult, Transaction
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.interface.life_lock import LifeLock
from supervisor.database.open_life_lock import open_life_lock
from supervisor.objects.disk_space import is_full
from supervisor.objects.object_store import FileStore, StoreAway
from supervisor.objects.open_store import open_file_store
from supervisor.security.file_links import LinkSigner
from supervisor.security.roles import serves
from supervisor.security.secret import secret_before
from supervisor.security.token_proof import Proof, is_revoked, owner_of
from supervisor.security.tokens import Identity
from supervisor.services.queue_position_cache import WaitingOrderCache
from supervisor.services.submission_batcher import Submissions
from supervisor.store.ledger import credits
from supervisor.store.limits import blocks, revocations
from supervisor.store.limits.notices import Notice
from web.feed.hub import Hub
from web.handling.notices import Notices
from web.handling.repeated_polls import RepeatedPolls
from web.http.client_address import client_address
from web.http.detached_work import finished
from web.http.problems import Problem, problem_of
from web.uploads.plain_uploads import PlainUploads
from web.uploads.upload_quota import UploadQuota

log = logging.getLogger("darkroom.web")

T = TypeVar("T")

MOST_UPLOAD_BYTES = 256 * 1024 * 1024  # of all uploads that are being received, decoded or stored
# calls of the file store at once: in separate threads, so that a slow store delays nothing else
FILE_CALLS = 16
PING_SECONDS = 15.0
OF_LATE_SECONDS = 60.0
MOST_USERS_REMEMBERED = 100_000
# Blocked users may still read their feeds.
OPEN_TO_BLOCKED = frozenset({"/v1/works/feed", "/v1/works/changes", "/v1/feed-tickets"})


@dataclasses.dataclass
class Context:
    """The shared parts.  secret signs tokens; signatures of secret_before are valid too.

    start_secret: lets browsers on this host in.  exposition: the text of /metrics, blocking.  life: shows that this
    process lives.
    """

    settings: Settings
    database: Database
    secret: str
    files: FileStore
    links: LinkSigner
    hub: Hub
    queue_positions: WaitingOrderCache
    submissions: Submissions
    life: LifeLock
    metrics: WebMetrics
    notices: Notices
    json_thread: concurrent.futures.Executor
    json_turns: Turns
    read_turns: Turns
    plain_uploads: PlainUploads
    uploads: UploadQuota
    file_threads: concurrent.futures.Executor
    exposition: Callable[[], bytes]
    secret_before: str | None = None
    start_secret: str = dataclasses.field(default_factory=secrets.token_urlsafe, repr=False)
    has_warned: bool = False
    ping_seconds: float = PING_SECONDS
    is_draining: bool = False
    repeated_polls: RepeatedPolls = dataclasses.field(default_factory=RepeatedPolls)
    _store_failed: tuple[float, str] = (0.0, "")
    _seen: set[str] = dataclasses.field(default_factory=set)

    async def on_files(self, call: Callable[..., T], *arguments: Any) -> T:
        """A blocking call of the file store, in a thread."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self.file_threads, call, *arguments)
        except StoreAway as error:
            if not is_full(error):  # troubles of this host's disks are reported separately
                self._store_failed = (time.monotonic(), str(error))
            raise

    def store_trouble(self) -> str | None:
        """The recent failure of the file store in this process, as a sentence."""
        failed_at, sentence = self._store_failed
        return sentence if sentence and time.monotonic() - failed_at < OF_LATE_SECONDS else None

    async def read(self, request: web.Request, query: Callable[[Transaction], T]) -> T:
        """A query for the bearer of the request's token, who never gets all reader threads.  Raises Revoked and
        UserBlocked, by the same snapshot."""
        asked = _for_bearer(request, query)
        with self._noting_check(request):
            return await self.read_turns.held_through(
                lambda: self.database.read_async(asked), request[IDENTITY].user
            )

    async def check_token(self, request: web.Request) -> None:
        """Raises Revoked if the request's token was taken back, UserBlocked if its user is blocked: for answers that
        read nothing else, and before a body is received."""
        await self.read(request, lambda _: None)

    async def bar(self, request: web.Request) -> Problem | None:
        """Why the bearer of the request's token may ask for nothing here; None if nothing bars them, if they were
        checked already, and while the database can't say."""
        if IDENTITY not in request or IS_CHECKED in request:
            return None
        try:
            await self.check_token(request)
        except (Revoked, UserBlocked) as refused:
            return problem_of(refused)
        except (DatabaseError, Fault) as error:
            log.debug("a refused caller was not looked up: %s", error)
        return None

    async def write(self, request: web.Request, step: Callable[[Transaction], T]) -> T:
        """A step for the bearer of the request's token.  Raises Revoked and UserBlocked, without a change."""
        with self._noting_check(request):
            return await self.database.write_async(_for_bearer(request, step))

    @contextlib.contextmanager
    def _noting_check(self, request: web.Request) -> Iterator[None]:
        try:
            yield
        except UserBlocked:
            self.notices.note(Notice.BLOCKED, request[IDENTITY].user)
            raise
        except (DatabaseError, DatabaseBusy):
            raise
        except (Fault, ValueError):  # `_for_bearer` lets these pass after its check alone
            request[IS_CHECKED] = True
            raise
        else:
            request[IS_CHECKED] = True

    async def ensure_account(self, user: str) -> None:
        """Open the user's account, with its sign-up grant, the first time they are seen."""
        if user in self._seen:
            return
        await finished(self.database.write_async(lambda tx: credits.ensure_account(tx, user)))
        if len(self._seen) >= MOST_USERS_REMEMBERED:
            self._seen.clear()
        self._seen.add(user)


def make_context(
    settings: Settings, database: Database, secret: str, exposition: Callable[[WebMetrics], bytes]
) -> Context:
    """Everything the handlers need.  Opens nothing yet."""
    metrics = WebMetrics()
    before = secret_before(settings)
    hub = Hub(metrics.count_deliveries)
    metrics.feed_clients.set_function(lambda: hub.stream_count)
    queue_positions = WaitingOrderCache(database, settings)
    life = open_life_lock(database, settings)
    return Context(
        settings=settings,
        database=database,
        secret=secret,
        files=open_file_store(settings),
        secret_before=before,
        links=LinkSigner(secret, settings.file_link_seconds, before=before),
        hub=hub,
        queue_positions=queue_positions,
        submissions=Submissions(settings, database, queue_positions, life),
        life=life,
        metrics=metrics,
        notices=Notices(metrics),
        json_thread=concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="json"),
        json_turns=Turns(1),
        read_turns=Turns(READER_THREADS, READER_THREADS - 1),
        plain_uploads=PlainUploads(settings),
        uploads=UploadQuota(MOST_UPLOAD_BYTES),
        file_threads=concurrent.futures.ThreadPoolExecutor(FILE_CALLS, thread_name_prefix="files"),
        exposition=lambda: exposition(metrics),
    )


def _for_bearer(request: web.Request, step: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """The step with the check whether the token was revoked or the user is blocked; if so, the step is rolled back."""
    identity, resource = request[IDENTITY], request.match_info.route.resource
    may_be_blocked = resource is None or resource.canonical not in OPEN_TO_BLOCKED

    def guarded(tx: Transaction) -> T:
        # both are sent to a server with the step's first statement
        revoked = revocations.ask(tx, identity.proofs) if identity.proofs else None
        blocked = blocks.ask(tx, identity.user, *owner_of(identity.proofs)) if may_be_blocked else None
        try:
            result = step(tx)
        except (Fault, ValueError):
            _refuse(revoked, blocked, identity.proofs)
            raise
        _refuse(revoked, blocked, identity.proofs)
        return result

    return guarded


def _refuse(revoked: PendingResult | None, blocked: PendingResult | None, proofs: tuple[Proof, ...]) -> None:
    if revoked is not None and is_revoked(revoked.all(), proofs):
        raise Revoked
    if blocked is not None:
        blocks.refuse(blocked)


CONTEXT = web.AppKey("CONTEXT", Context)
IDENTITY = web.RequestKey("IDENTITY", Identity)
IS_CHECKED = web.RequestKey("IS_CHECKED", bool)  # the bearer was found neither revoked nor blocked
TASK = web.RequestKey("TASK", str)  # the subject's id, if the address does not contain it
TRACE = web.RequestKey("TRACE", str)  # the id of its task's trace; empty without tracing
FIRST_BYTE_AT = web.RequestKey("FIRST_BYTE_AT", float)  # of a stream, by time.perf_counter


def context_of(request: web.Request) -> Context:
    """The shared parts."""
    return request.app[CONTEXT]


def check_is_service(request: web.Request) -> None:
    """Raises a Problem, 403, unless the caller is a service, an operator or an admin."""
    if not serves(request[IDENTITY].role):
        raise Problem(403, "This is for services: it needs a token with role 'service'.", kind="forbidden")


def user_of(request: web.Request) -> str:
    """The caller's identity, set by the auth middleware."""
    return request[IDENTITY].user


def address_of(request: web.Request) -> str:
    """The client's address, by `client_address`."""
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport else None
    trusted = context_of(request).settings.trusted_proxies
    return client_address(peer[0] if peer else None, request.headers.getall("X-Forwarded-For", []), trusted)
