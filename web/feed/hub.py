"""All listeners of this process: open streams and waiting requests, by user or by task.

The tailer publishes a change once; `fan_out` passes it to each stream of that user, and `stream` handles it in one
stream.  All of this runs on one event loop and needs no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence

from web.feed.fan_out import FanOut, Tally
from web.feed.feed_event import COMMENT
from web.feed.stream import Event, Socket, Stream

BYE_SECONDS = 0.9  # how long a stream may take to end, and as long again if there are many
PING_STEPS = 15  # a fifteenth of the streams is pinged at a time, so that pings don't come in one burst


class TooManyStreams(Exception):
    """The user has as many streams open as `STREAMS_PER_USER` allows."""


class Closing(Exception):
    """The process is about to stop and accepts no new listeners."""


def _count_nothing(_: Sequence[Event], __: int) -> None:
    pass


class Place:
    """A stream's place in the hub, for as long as a `with` block runs.  One for each stream, so it is kept small."""

    __slots__ = ("_hub", "_stream", "_user")

    def __init__(self, hub: Hub, user: str, stream: Stream) -> None:
        self._hub, self._user, self._stream = hub, user, stream

    def __enter__(self) -> Stream:
        self._hub.enter(self._user, self._stream)
        return self._stream

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self._user, self._stream)


class Hub:
    """All listeners of this process.  tally: called with events and the number of streams that took them at once."""

    def __init__(self, tally: Tally = _count_nothing) -> None:
        self._streams: dict[str, set[Stream]] = {}
        self.tally = tally
        self._fan_out = FanOut(lambda user: self._streams.get(user, ()), tally)
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._ends: dict[str, set[asyncio.Event]] = {}
        self._moves: dict[str, set[asyncio.Event]] = {}
        self._waiting: dict[str, set[asyncio.Event]] = {}  # the same, by user
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self._some_open = asyncio.Event()
        self._opened = 0
        self.stream_count = 0
        self.waiter_count = 0
        self.is_closing = False
        self._most_at_once = 0
        self.when_listened: Callable[[], None] = lambda: None  # called when the first listener comes

    @property
    def expected_back(self) -> int:
        """How many clients will reconnect if the process stops now, or has begun to stop."""
        return max(self.stream_count, self._most_at_once)

    def stream(self, user: str, *, most: int, socket: Socket) -> Place:
        """A place for one stream: `with` returns the stream, and frees the place at the end.  most: per user, 0 = no
        limit.

        Raises TooManyStreams, Closing.
        """
        if self.is_closing:
            raise Closing
        if most and len(self._streams.get(user, ())) >= most:
            raise TooManyStreams
        self._opened += 1
        return Place(self, user, Stream(self._opened, socket))

    def streams_of(self, user: str) -> int:
        """How many streams a user has open here."""
        return len(self._streams.get(user, ()))

    def enter(self, user: str, stream: Stream) -> None:
        """Subscribe the stream to its user's changes."""
        was_idle = self.is_idle
        self._streams.setdefault(user, set()).add(stream)
        self.stream_count += 1
        self._all_gone.clear()
        self._some_open.set()
        self._note_listener(was_idle)

    def leave(self, user: str, stream: Stream) -> None:
        """Remove an ended stream."""
        mine = self._streams[user]
        mine.remove(stream)
        if not mine:
            del self._streams[user]
        self.stream_count -= 1
        if self.stream_count == 0:
            self._all_gone.set()
            self._some_open.clear()

    @contextlib.contextmanager
    def watcher(self, user: str, *, most: int) -> Iterator[asyncio.Event]:
        """An event that is set when anything of the user's changes, or when the process is about to stop.

        most: per user, 0 = no limit.  Raises TooManyStreams, Closing.
        """
        if self.is_closing:
            raise Closing
        was_idle = self.is_idle
        mine = self._watchers.setdefault(user, set())
        if most and len(mine) >= most:
            raise TooManyStreams
        changed = asyncio.Event()
        mine.add(changed)
        self._note_listener(was_idle)
        try:
            yield changed
        finally:
            mine.discard(changed)
            if not mine and self._watchers.get(user) is mine:
                del self._watchers[user]

    def end_of(self, task_id: str, user: str) -> contextlib.AbstractContextManager[asyncio.Event]:
        """An event that is set when the user's task has, or may have, ended, or when the process is about to stop.

        Raises Closing.
        """
        return self._told(self._ends, task_id, user)

    def changes_of(self, task_id: str, user: str) -> contextlib.AbstractContextManager[asyncio.Event]:
        """As `end_of`; the event is also set at every other change of the task that its user can see."""
        return self._told(self._moves, task_id, user)

    @contextlib.contextmanager
    def _told(self, whom: dict[str, set[asyncio.Event]], task_id: str, user: str) -> Iterator[asyncio.Event]:
        if self.is_closing:
            raise Closing
        was_idle = self.is_idle
        waiting = whom.setdefault(task_id, set())
        mine = self._waiting.setdefault(user, set())
        ended = asyncio.Event()
        waiting.add(ended)
        mine.add(ended)
        self.waiter_count += 1
        self._note_listener(was_idle)
        try:
            yield ended
        finally:
            self.waiter_count -= 1
            waiting.discard(ended)
            mine.discard(ended)
            if not waiting and whom.get(task_id) is waiting:
                del whom[task_id]
            if not mine and self._waiting.get(user) is mine:
                del self._waiting[user]

    def _note_listener(self, was_idle: bool) -> None:
        if was_idle:
            self.when_listened()

    def task_changed(self, task_id: str, *, is_end: bool) -> None:
        """Wake the requests that wait for this task."""
        for changed in self._moves.get(task_id, ()):
            changed.set()
        for ended in self._ends.get(task_id, ()) if is_end else ():
            ended.set()

    def wake_waiters(self, user: str) -> None:
        """Wake every request that waits for a task of this user; each reads its task again."""
        for ended in self._waiting.get(user, ()):
            ended.set()

    @property
    def is_idle(self) -> bool:
        """Whether there is no listener."""
        return not self._streams and not self._watchers and not self._waiting

    def listens(self, user: str) -> bool:
        """Whether this user has a listener."""
        return user in self._streams or user in self._watchers or user in self._waiting

    def listeners(self) -> set[str]:
        """The users with listeners."""
        return {*self._streams, *self._watchers, *self._waiting}

    def publish(self, user: str, event: Callable[[], Event]) -> int:
        """Pass a change to all listeners of its user; how many streams.  event: makes it, called at most once."""
        for changed in self._watchers.get(user, ()):
            changed.set()
        streams = self._streams.get(user)
        if not streams:
            return 0
        self._fan_out.add(user, event())
        return len(streams)

    def missed(self, user: str, seq: int) -> None:
        """The user's changes up to this one can't be published: let all listeners read the log themselves."""
        for changed in self._watchers.get(user, ()):
            changed.set()
        self.wake_waiters(user)
        for stream in self._streams.get(user, ()):
            stream.has_missed(seq)

    async def delivered(self) -> None:
        """Return when all published changes are written, after at least one turn of the event loop."""
        await self._fan_out.delivered()

    async def some_stream(self) -> None:
        """Return when a stream is open."""
        await self._some_open.wait()

    def pinging(self, every_seconds: float) -> Callable[[], Awaitable[None]]:
        """A function for a loop: it waits for a fifteenth of the interval, pings the streams whose turn it is, and ends
        those whose time is over.

        It waits longer if no stream is open.  An error of one stream is raised after all have had their turn.
        """
        steps = itertools.cycle(range(PING_STEPS))

        async def ping_some() -> None:
            await self.some_stream()
            await asyncio.sleep(every_seconds / PING_STEPS)
            step, now, failure = next(steps), asyncio.get_running_loop().time(), None
            for stream in self.every_stream():
                try:
                    if stream.ends_at is not None and now >= stream.ends_at:
                        stream.end()
                    elif stream.number % PING_STEPS == step:
                        stream.ping(COMMENT)
                except Exception as error:  # noqa: BLE001 - raised below
                    failure = error
            if failure is not None:
                raise failure

        return ping_some

    async def close(self) -> None:
        """End all streams politely; returns when none is left."""
        if not self.is_closing:
            self.is_closing = True
            self._most_at_once = self.stream_count
            for mine in self._watchers.values():
                for changed in mine:
                    changed.set()
            for task_id in {*self._ends, *self._moves}:
                self.task_changed(task_id, is_end=True)
            for stream in self.every_stream():
                stream.end()
        for only_if_stuck in (True, False):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), BYE_SECONDS)
            for stream in self.every_stream():
                stream.hang_up(only_if_stuck=only_if_stuck)

    def every_stream(self) -> list[Stream]:
        """All open streams."""
        return [stream for mine in self._streams.values() for stream in mine]
