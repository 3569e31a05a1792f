"""Who is listening: every open stream and every waiting request of this process, by user or by task.

The tailer publishes a change once; each stream of that user keeps it in a bounded queue until its own coroutine
writes it.  A stream that falls behind loses its queue and is told so: it reads what it missed from the change log,
as fast as its client takes it, so a burst costs a client nothing.  Only a client that does not take what is being
written to it while `MOST_WAITING` events wait is cut off.

All of this runs on one event loop and needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator

MOST_WAITING = 256
CUT_OFF_GRACE_SECONDS = 2.0  # tells a client that does not read from one that reads slowly
BYE_SECONDS = 0.9  # how long a stream may take over its last words, and as long again if many do
PING_STEPS = 15  # a fifteenth of the streams is pinged at a time, so that pings don't come in one burst


class TooManyStreams(Exception):
    """The user has as many streams open as `STREAMS_PER_USER` allows."""


class Closing(Exception):
    """The process is about to stop: nobody new is listened to."""


class Event:
    """One change, encoded once for all streams of its user.  committed_at: seconds since 1970."""

    __slots__ = ("committed_at", "delivered", "frame", "seq")

    def __init__(self, seq: int, frame: bytes, committed_at: float) -> None:
        self.seq, self.frame, self.committed_at = seq, frame, committed_at
        self.delivered = False


class Stream:
    """The queue of one open stream.  Filled by the hub, emptied by the stream's own coroutine."""

    def __init__(self, number: int, hang_up: Callable[[], None]) -> None:
        self.number = number
        self._hang_up = hang_up
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        self._is_writing = False
        self.is_behind = False
        self.is_ending = False
        self.ping_is_due = False

    async def take(self) -> list[Event]:
        """All that waits, at once; returns with nothing when a ping is due, the stream is behind, or is to end."""
        while not (self._events or self.ping_is_due or self.is_behind or self.is_ending):
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        events = list(self._events)
        self._events.clear()
        return events

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around each write: a client is judged only by whether it takes what is written to it."""
        self._is_writing = True
        try:
            yield
        finally:
            self._is_writing = False
            if self._cut_off is not None:
                self._cut_off.cancel()
                self._cut_off = None

    def offer(self, event: Event) -> None:
        """Queue an event, or note that the stream has fallen behind."""
        if len(self._events) >= MOST_WAITING:
            self._events.clear()
            self.is_behind = True
        if self.is_behind:
            self._judge()
        else:
            self._events.append(event)
        self.wake()

    def catch_up(self) -> None:
        """From now on events are queued again; the caller reads the log after this, so nothing falls between."""
        self._events.clear()
        self.is_behind = False

    def wake(self) -> None:
        """Let `take` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self) -> None:
        """Ask the stream to say goodbye."""
        self.is_ending = True
        self.wake()

    def hang_up(self, *, only_if_stuck: bool = False) -> None:
        """Cut the connection.  only_if_stuck: only where the client does not take what is written to it."""
        if self._is_writing or not only_if_stuck:
            self._hang_up()

    def _judge(self) -> None:
        if self._is_writing and self._cut_off is None:
            self._cut_off = asyncio.get_running_loop().call_later(CUT_OFF_GRACE_SECONDS, self._hang_up)


class Hub:
    """All listeners of this process."""

    def __init__(self) -> None:
        self._streams: dict[str, set[Stream]] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._ends: dict[str, set[asyncio.Event]] = {}
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._opened = 0
        self.stream_count = 0
        self.waiter_count = 0
        self.is_closing = False

    @contextlib.contextmanager
    def stream(self, user: str, *, most: int, hang_up: Callable[[], None]) -> Iterator[Stream]:
        """A place for one stream, for as long as the block runs.  most: per user, 0 = no limit.

        hang_up: cuts the connection.  Raises TooManyStreams, Closing.
        """
        if self.is_closing:
            raise Closing
        mine = self._streams.setdefault(user, set())
        if most and len(mine) >= most:
            raise TooManyStreams
        self._opened += 1
        stream = Stream(self._opened, hang_up)
        mine.add(stream)
        self.stream_count += 1
        self._all_gone.clear()
        try:
            yield stream
        finally:
            mine.discard(stream)
            if not mine and self._streams.get(user) is mine:
                del self._streams[user]
            self.stream_count -= 1
            if self.stream_count == 0:
                self._all_gone.set()

    @contextlib.contextmanager
    def watcher(self, user: str, *, most: int) -> Iterator[asyncio.Event]:
        """An event that is set when anything of the user's changes, or when the process is about to stop.

        most: per user, 0 = no limit.  Raises TooManyStreams, Closing.
        """
        if self.is_closing:
            raise Closing
        mine = self._watchers.setdefault(user, set())
        if most and len(mine) >= most:
            raise TooManyStreams
        changed = asyncio.Event()
        mine.add(changed)
        try:
            yield changed
        finally:
            mine.discard(changed)
            if not mine and self._watchers.get(user) is mine:
                del self._watchers[user]

    @contextlib.contextmanager
    def end_of(self, task_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when the task has ended, or when the process is about to stop.  Raises Closing."""
        if self.is_closing:
            raise Closing
        waiting = self._ends.setdefault(task_id, set())
        ended = asyncio.Event()
        waiting.add(ended)
        self.waiter_count += 1
        try:
            yield ended
        finally:
            self.waiter_count -= 1
            waiting.discard(ended)
            if not waiting and self._ends.get(task_id) is waiting:
                del self._ends[task_id]

    def task_ended(self, task_id: str) -> None:
        """Tell whoever waits for this task's end."""
        for ended in self._ends.get(task_id, ()):
            ended.set()

    @property
    def is_idle(self) -> bool:
        """Nobody listens."""
        return not self._streams and not self._watchers and not self._ends

    def listens(self, user: str) -> bool:
        """Whether anybody wants this user's changes."""
        return user in self._streams or user in self._watchers

    def publish(self, user: str, event: Callable[[], Event]) -> int:
        """Hand a change to all who listen; how many streams.  event: makes it, called once and only if needed."""
        for changed in self._watchers.get(user, ()):
            changed.set()
        streams = self._streams.get(user)
        if not streams:
            return 0
        made = event()
        for stream in streams:
            stream.offer(made)
        return len(streams)

    async def ping(self, every_seconds: float) -> None:
        """Make pings due, for each stream once in so long, until cancelled."""
        step = 0
        while True:
            await asyncio.sleep(every_seconds / PING_STEPS)
            step = (step + 1) % PING_STEPS
            for stream in self._every_stream():
                if stream.number % PING_STEPS == step:
                    stream.ping_is_due = True
                    stream.wake()

    async def close(self) -> None:
        """Say goodbye to everybody; returns when no stream is left."""
        if not self.is_closing:
            self.is_closing = True
            for mine in self._watchers.values():
                for changed in mine:
                    changed.set()
            for task_id in self._ends:
                self.task_ended(task_id)
            for stream in self._every_stream():
                stream.end()
        for only_if_stuck in (True, False):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), BYE_SECONDS)
            for stream in self._every_stream():
                stream.hang_up(only_if_stuck=only_if_stuck)

    def _every_stream(self) -> list[Stream]:
        return [stream for mine in self._streams.values() for stream in mine]
