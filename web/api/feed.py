"""GET /v1/works/feed: a user's changes as an event stream, in order, none missing, none twice.

The coroutine first takes its place in the hub, then reads the start from the database, and then waits while the hub
writes newer changes to its socket.  It is woken only in special cases: a gap in the changes, an overflow of the queue,
a slow client, the end.  Missing changes are read from the change log; so the log, not the queue, makes the stream
complete.  The same coroutine gives the place back at any end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import time

from aiohttp import HttpVersion11, web

from supervisor.core.errors import Fault
from supervisor.database.interface.errors import DatabaseError
from supervisor.security.tokens import Identity
from supervisor.store.limits.notices import Notice
from web.access.authentication import TICKET, unauthorized
from web.feed.feed_event import EventId, bye_frame, change_frame, parse_event_id, retry_field, snapshot_frame
from web.feed.hub import Closing, TooManyStreams
from web.feed.reconnection import ROTATE_SECONDS, SOON_MILLISECONDS, life_of, retry_window, rotation
from web.feed.resume import Continuation, Everything, is_whole, read_on, read_opening
from web.feed.stream import SEND_BUFFER_BYTES, SILENT_PEER_MILLISECONDS, Event, Stream
from web.handling.context import FIRST_BYTE_AT, IDENTITY, Context, context_of
from web.http.problems import Problem, unavailable, unprocessable

log = logging.getLogger("darkroom.web")

BYE = bye_frame()
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


async def feed(request: web.Request) -> web.StreamResponse:
    """200 and the stream.  422 for a bad `rotate`, 429 when the user has too many open, 503 when about to stop."""
    context, identity = context_of(request), request[IDENTITY]
    lifetime = _lifetime(request, identity)
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    most = context.settings.limits.streams_per_user
    try:
        with context.hub.stream(identity.user, most=most, socket=transport) as stream:
            context.notices.opened_feed(identity.user)
            stream.proofs = identity.proofs
            if lifetime is not None:
                stream.ends_at = asyncio.get_running_loop().time() + lifetime
            _bound_buffers(transport.get_extra_info("socket"))
            conversation = _Conversation(context, identity.user, stream, request)
            await conversation.read_opening()
            return await conversation.hold()
    except TooManyStreams:
        context.notices.note(Notice.STREAMS, identity.user)
        detail = f"You have {most} event streams open, which is the limit; close one first."
        raise Problem(429, detail, kind="too_many_streams", headers={"Retry-After": "5"}) from None
    except Closing:
        raise unavailable("This process is about to stop.", kind="draining") from None


class _Conversation:
    """One stream from its first byte to its last.  `stream.sent`: everything up to it has been written."""

    __slots__ = ("_context", "_epoch", "_opening", "_request", "_response", "_stream", "_user")

    def __init__(self, context: Context, user: str, stream: Stream, request: web.Request) -> None:
        self._context, self._user, self._stream, self._request = context, user, stream, request
        self._response = web.StreamResponse(headers=HEADERS)
        self._opening: Everything | Continuation | None = None
        self._epoch = ""

    async def read_opening(self) -> None:
        """Read the start.  Raises a Problem for an expired ticket."""
        request, user = self._request, self._user
        given = request.headers.get("Last-Event-ID", request.query.get("last_event_id"))
        self._opening = await self._context.read(request, lambda tx: read_opening(tx, user, given or None))
        _check_ticket(request, given, self._opening)

    async def hold(self) -> web.StreamResponse:
        """Serve until the client leaves or the process stops.  Errors end the stream, since its head may have been
        sent."""
        stream = self._stream
        try:
            await self._begin()
            while not stream.is_ending:
                await self._pass_on(await stream.take())
            await self._say_goodbye()
        except ConnectionError:
            pass  # the client has disconnected, the usual end of a stream
        except (Fault, DatabaseError) as error:
            log.warning("a feed ended, since the change log can't be read: %s", error)
            self._response.force_close()
        except Exception:
            log.exception("a feed broke off")
            self._response.force_close()
        return self._response

    async def _begin(self) -> None:
        """Write the head and the first bytes.  The data for them is dropped: it may be a hundred documents."""
        request = self._request
        self._stream.is_chunked = request.version >= HttpVersion11
        if self._stream.is_chunked:
            self._response.enable_chunked_encoding()
        await self._response.prepare(request)
        request[FIRST_BYTE_AT] = time.perf_counter()
        opening, self._opening = self._opening, None
        assert opening is not None
        await self._write(self._retry_field())
        await self._tell(opening)

    async def _pass_on(self, events: list[Event]) -> None:
        """Write the waiting changes in one write, or read the changes that the queue could not hold."""
        stream = self._stream
        if stream.is_clogged:
            stream.is_clogged = False
            with stream.writing():
                await self._request.writer.drain()
        fresh = [event for event in events if event.seq > stream.sent]
        seqs, until = [event.seq for event in fresh], stream.sent + len(fresh)
        if stream.is_behind or not is_whole(seqs, after=stream.sent, until=until):
            stream.catch_up()
            await self._tell(await self._read_on())
        elif fresh:
            stream.sent = fresh[-1].seq
            await self._write(b"".join([event.frame for event in fresh]))
            self._context.hub.tally(fresh, 1)

    async def _tell(self, opening: Everything | Continuation) -> None:
        """Write changes from the database until there are no more."""
        stream, link = self._stream, self._context.links.link
        while True:
            self._epoch, stream.sent = opening.place.epoch, opening.place.seq
            if isinstance(opening, Everything):
                await self._write(snapshot_frame(opening.kind, opening.place, opening.snapshot.works, link))
                return
            if opening.changes:
                await self._write(b"".join(change_frame(change, link) for change in opening.changes))
                metrics = self._context.metrics
                metrics.feed_events.inc(len(opening.changes))
            if not opening.has_more or stream.is_ending:
                return
            opening = await self._read_on()

    async def _read_on(self) -> Everything | Continuation:
        user, place = self._user, EventId(self._epoch, self._stream.sent)
        return await self._context.read(self._request, lambda tx: read_on(tx, user, place))

    async def _say_goodbye(self) -> None:
        """`bye` and the stream's end in one write: there may be thousands."""
        self._response.force_close()
        if self._context.hub.is_closing:
            # The window for the clients that leave now, not for those of the start.
            last = self._retry_field() + BYE
        else:
            last = retry_field(random.randint(*SOON_MILLISECONDS)) + BYE
        with self._stream.writing():
            await self._response.write_eof(last)

    def _retry_field(self) -> bytes:
        return retry_field(random.randint(*retry_window(self._context.hub.expected_back)))

    async def _write(self, data: bytes) -> None:
        with self._stream.writing():
            await self._response.write(data)


def _lifetime(request: web.Request, identity: Identity) -> float | None:
    """Seconds until the end of the stream: the end of its token, or the client's wish (`?rotate=`)."""
    ends = []
    if identity.expires_at is not None:
        ends.append(identity.expires_at - time.time())
    if "rotate" in request.query:
        seconds = rotation(request.query["rotate"])
        if seconds is None:
            raise unprocessable(
                "/rotate",
                f"rotate must be a whole number of seconds from {ROTATE_SECONDS[0]} to {ROTATE_SECONDS[-1]}.",
            )
        ends.append(life_of(seconds, chance=random.random()))
    return min(ends, default=None)


def _check_ticket(request: web.Request, given: str | None, opening: Everything | Continuation) -> None:
    """A ticket older than a minute can only continue the stream that it has opened.

    A client that had that stream knows the user's epoch, which is random; so nothing needs to be stored.
    """
    ticket = request.get(TICKET)
    if ticket is None or ticket.is_for_first_use(time.time()):
        return
    place = parse_event_id(given or "")
    if place is None or place.epoch != opening.place.epoch:
        raise unauthorized("The ticket was to be used within a minute; ask for a new one.")


def _bound_buffers(sock: socket.socket | None) -> None:
    """Let the kernel buffer little for a slow client, and drop one that vanished without closing."""
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MILLISECONDS)
