"""One open stream: its place in its user's changes, its socket, and its queue while it is busy.

A stream is *listening* if its coroutine has written everything and waits.  Then the next batch of changes is written to
its socket at once, as the same bytes for all streams of the user, without waking the coroutine.  A busy stream
(opening, catching up, with a slow client) keeps changes in a bounded queue until its coroutine writes them.  If the
queue overflows, it is dropped, and the stream reads the missed changes from the change log, as fast as its client
reads; so a burst does not harm a client.  Only a client that reads nothing while `MOST_WAITING` events wait is
disconnected.

All of this runs on one event loop and needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from supervisor.security.token_proof import Proof

# How much a client that does not read costs, and for how long.
MOST_WAITING = 256
SEND_BUFFER_BYTES = 64 * 1024  # the kernel's share of what it has not read
MOST_UNSENT_BYTES = 64 * 1024  # ours, once the kernel takes no more; one batch may come on top
SILENT_PEER_MILLISECONDS = 60_000  # until the kernel ends a connection that confirms nothing
CUT_OFF_GRACE_SECONDS = 2.0  # tells a client that does not read from one that reads slowly


class Event:
    """One change, encoded once for all streams of its user.  committed_at: seconds since 1970."""

    __slots__ = ("committed_at", "delivered", "frame", "seq")

    def __init__(self, seq: int, frame: bytes, committed_at: float) -> None:
        self.seq, self.frame, self.committed_at = seq, frame, committed_at
        self.delivered = False


class Batch:
    """Changes of one user without a gap, as bytes that are made once."""

    __slots__ = ("chunk", "events")

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.chunk = as_chunk(self.frames)

    @property
    def frames(self) -> bytes:
        """The plain events, for HTTP/1.0 only."""
        return b"".join([event.frame for event in self.events])


def as_chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def batches_of(events: Iterable[Event]) -> Iterator[Batch]:
    """Events in order, as batches of at most MOST_UNSENT_BYTES or one event, without a gap in a batch."""
    held: list[Event] = []
    size = 0
    for event in events:
        if held and (event.seq != held[-1].seq + 1 or size + len(event.frame) > MOST_UNSENT_BYTES):
            yield Batch(held)
            held, size = [], 0
        held.append(event)
        size += len(event.frame)
    if held:
        yield Batch(held)


class Socket(Protocol):
    """The methods of an asyncio transport that a stream uses."""

    def write(self, data: bytes) -> None: ...
    def is_closing(self) -> bool: ...
    def get_write_buffer_size(self) -> int: ...
    def abort(self) -> None: ...


class Stream:
    """Filled by the hub, emptied by the stream's own coroutine.

    sent: every change up to it was written.  ends_at: the planned end, by the loop's clock.  proofs: for a revocation
    of its reader's token.
    """

    __slots__ = (
        "_cut_off",
        "_events",
        "_is_writing",
        "_socket",
        "_waiter",
        "ends_at",
        "is_behind",
        "is_chunked",
        "is_clogged",
        "is_ending",
        "number",
        "proofs",
        "sent",
    )

    def __init__(self, number: int, socket: Socket) -> None:
        self.number = number
        self.sent = -1
        self.ends_at: float | None = None
        self.proofs: tuple[Proof, ...] = ()
        self.is_chunked = True
        self.is_behind = self.is_clogged = self.is_ending = False
        self._socket = socket
        self._events: list[Event] = []
        self._waiter: asyncio.Future[None] | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        self._is_writing = False

    @property
    def is_listening(self) -> bool:
        """Whether its coroutine is idle, so that the hub may write to its socket."""
        return self._waiter is not None and not self._waiter.done()

    async def take(self) -> list[Event]:
        """Wait for queued changes and return them all; empty if the stream is behind, blocked, or must end."""
        while not (self._events or self.is_behind or self.is_clogged or self.is_ending):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events, self._events = self._events, []
        return events

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around each write: a client is judged only by whether it reads."""
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False
            if self._cut_off is not None:
                self._cut_off.cancel()
                self._cut_off = None

    def offer(self, batch: Batch) -> bool:
        """Write the batch, or queue it, or mark the stream as behind; whether it was written."""
        first, last = batch.events[0].seq, batch.events[-1].seq
        if not self.is_listening:
            self._queue(batch)
        elif first == self.sent + 1:
            self.sent = last
            return self._send(batch.chunk if self.is_chunked else batch.frames)
        elif last > self.sent:  # a gap, or a batch that was written in part: the coroutine handles it
            self._queue(batch)
            self._wake()
        return False

    def has_missed(self, seq: int) -> None:
        """Changes up to this one will not be offered: unless they were written, the log must be read."""
        if self.sent < seq:
            self._events.clear()
            self.is_behind = True
            self._wake()

    def ping(self, comment: bytes) -> None:
        """Send a sign of life on a listening stream; a busy one needs none."""
        if self.is_listening:
            self._send(as_chunk(comment) if self.is_chunked else comment)

    def catch_up(self) -> None:
        """Queue events again; the caller reads the log after this, so nothing is missed."""
        self._events.clear()
        self.is_behind = False

    def end(self) -> None:
        """Ask the stream to end politely."""
        self.is_ending = True
        self._wake()

    def hang_up(self, *, only_if_stuck: bool = False) -> None:
        """Cut the connection.  only_if_stuck: only if the client does not read."""
        if self._is_writing or not only_if_stuck:
            self._socket.abort()

    def _send(self, data: bytes) -> bool:
        if self._socket.is_closing():
            return False
        self._socket.write(data)
        if self._socket.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self.is_clogged = True
            self._wake()
        return True

    def _queue(self, batch: Batch) -> None:
        if len(self._events) + len(batch.events) > MOST_WAITING:
            self._events.clear()
            self.is_behind = True
        if self.is_behind:
            self._judge()
        else:
            self._events.extend(batch.events)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _judge(self) -> None:
        if self._is_writing and self._cut_off is None:
            loop = asyncio.get_running_loop()
            self._cut_off = loop.call_later(CUT_OFF_GRACE_SECONDS, self._socket.abort)
