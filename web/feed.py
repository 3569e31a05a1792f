"""GET /v1/works/feed: a user's changes as an event stream, in order, none missing, none twice.

The coroutine takes its place in the hub first, then reads where to begin, then passes on what the hub brings and is
above what it has sent.  A hole between the two, or a burst that was too much for the queue, is read from the change
log; the log, not the queue, is what makes the stream whole.  The place is given back by the same coroutine, however
it ends.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import time

from aiohttp import web

from supervisor.tokens import Identity
from web.authentication import TICKET, unauthorized
from web.feed_event import (
    COMMENT,
    EventId,
    bye_frame,
    change_frame,
    parse_event_id,
    retry_field,
    snapshot_frame,
)
from web.hub import Closing, Event, Stream, TooManyStreams
from web.opening import Continuation, Everything, read_on, read_opening
from web.parts import FIRST_BYTE_AT, IDENTITY, Parts, parts_of
from web.problems import Problem, unavailable
from web.tailer import seconds_since_1970

log = logging.getLogger("darkroom.web")

RETRY_MILLISECONDS = (1000, 3000)  # spread, so that not everybody comes back at once after a restart
SEND_BUFFER_BYTES = 64 * 1024  # what the kernel holds of a client that does not read
SILENT_PEER_MILLISECONDS = 60_000
BYE = bye_frame()
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


async def feed(request: web.Request) -> web.StreamResponse:
    """200 and the stream.  429 when the user has too many open, 503 when the process is about to stop."""
    parts, identity = parts_of(request), request[IDENTITY]
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    try:
        with parts.hub.stream(
            identity.user, most=parts.settings.limits.streams_per_user, hang_up=transport.abort
        ) as stream:
            given = request.headers.get("Last-Event-ID", request.query.get("last_event_id"))
            opening = await parts.database.read_async(
                lambda tx: read_opening(tx, identity.user, given or None)
            )
            _check_ticket(request, given, opening)
            _bound_buffers(transport.get_extra_info("socket"))
            response = web.StreamResponse(headers=HEADERS)
            await response.prepare(request)
            request[FIRST_BYTE_AT] = time.perf_counter()
            return await _Conversation(parts, identity, stream, response).hold(opening)
    except TooManyStreams:
        most = parts.settings.limits.streams_per_user
        detail = f"You have {most} event streams open, which is the limit; close one first."
        raise Problem(429, detail, kind="too_many_streams", headers={"Retry-After": "5"}) from None
    except Closing:
        raise unavailable("This process is about to stop.", kind="draining") from None


class _Conversation:
    """One stream from its first byte to its last.  `_sent`: everything up to it has been written."""

    def __init__(
        self, parts: Parts, identity: Identity, stream: Stream, response: web.StreamResponse
    ) -> None:
        self._parts, self._identity, self._stream, self._response = parts, identity, stream, response
        self._link = parts.links.link
        self._sent: EventId

    async def hold(self, opening: Everything | Continuation) -> web.StreamResponse:
        """Talk until the client leaves or the process stops.  Errors end the stream: its head has been sent."""
        try:
            await self._write(retry_field(random.randint(*RETRY_MILLISECONDS)))
            await self._tell(opening)
            while not self._is_over():
                await self._pass_on(await self._stream.take())
            self._response.force_close()
            with self._stream.writing():
                await self._response.write_eof(
                    BYE
                )  # with the stream's end in one write: there may be thousands
        except ConnectionError:
            pass  # the client has gone, which is how streams end
        except Exception:
            log.exception("a feed broke off")
            self._response.force_close()
        return self._response

    def _is_over(self) -> bool:
        expires = self._identity.expires_at
        return self._stream.is_ending or (expires is not None and time.time() >= expires)

    async def _pass_on(self, events: list[Event]) -> None:
        """Write what the hub has brought, in one write, or what it could not keep for us."""
        fresh = [event for event in events if event.seq > self._sent.seq]
        if self._stream.is_behind or (fresh and fresh[0].seq != self._sent.seq + 1):
            self._stream.catch_up()
            await self._tell(await self._read_on())
            return
        frames = [event.frame for event in fresh]
        if self._stream.ping_is_due:
            self._stream.ping_is_due = False
            frames.append(COMMENT)
        if not frames:
            return
        if fresh:
            self._sent = EventId(self._sent.epoch, fresh[-1].seq)
        await self._write(b"".join(frames))
        if fresh:
            self._parts.metrics.feed_events.inc(len(fresh))
            for event in fresh:
                if not event.delivered:
                    event.delivered = True
                    self._measure(event.committed_at)

    async def _tell(self, opening: Everything | Continuation) -> None:
        """Write what was read from the database, and go on reading until nothing is left to read."""
        while True:
            self._sent = opening.place
            if isinstance(opening, Everything):
                await self._write(
                    snapshot_frame(opening.kind, opening.place, opening.snapshot.works, self._link)
                )
                return
            if opening.changes:
                await self._write(b"".join(change_frame(change, self._link) for change in opening.changes))
                self._parts.metrics.feed_events.inc(len(opening.changes))
                self._measure(seconds_since_1970(opening.changes[-1].created_at))
            if not opening.has_more or self._stream.is_ending:
                return
            opening = await self._read_on()

    async def _read_on(self) -> Everything | Continuation:
        user, place = self._identity.user, self._sent
        return await self._parts.database.read_async(lambda tx: read_on(tx, user, place))

    async def _write(self, data: bytes) -> None:
        with self._stream.writing():
            await self._response.write(data)

    def _measure(self, committed_at: float) -> None:
        self._parts.metrics.feed_delivery.observe(max(0.0, time.time() - committed_at))


def _check_ticket(request: web.Request, given: str | None, opening: Everything | Continuation) -> None:
    """A ticket older than a minute only goes on with the stream it has opened.

    Whoever has had that stream knows the user's epoch, which is random; nothing else needs to be remembered.
    """
    ticket = request.get(TICKET)
    if ticket is None or ticket.is_for_first_use(time.time()):
        return
    place = parse_event_id(given or "")
    if place is None or place.epoch != opening.place.epoch:
        raise unauthorized("The ticket was to be used within a minute; ask for a new one.")


def _bound_buffers(sock: socket.socket | None) -> None:
    """Let the kernel hold little for a slow client, and give up on one that is gone without a word."""
    if sock is None:
        return
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MILLISECONDS)
