"""How a process notices a commit of another process, without polling where the kernel or the server can notify it.

A wake-up is a hint: it may come without a change, and a lost one costs at most `safety_seconds`, since every listener
is woken that often anyway.  SQLite's files are watched (`sqlite_wakeups`), PostgreSQL notifies (`postgres_wakeups`).
"""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import dataclasses
import math
import os
import select
import threading
from collections.abc import AsyncIterator


@dataclasses.dataclass(frozen=True)
class Heard:
    """The content of a wake-up.  users: the users with changes; None: any user may have changes.

    is_commit: False for a wake-up that comes though nothing was heard.
    """

    users: frozenset[str] | None = None
    is_commit: bool = True


SOMETHING = Heard()
NOTHING = Heard(is_commit=False)


class Wakeups(abc.ABC):
    """Wake-ups of one database for one process.  Opened on first use; one thread or one loop waits.

    safety_seconds: how often `listen` yields without an event.  look_again_seconds: for callers of `wait`, as an event
    may come a moment before its commit is visible; a caller that finds nothing reads again after each of these.  Empty
    where events come after their commits, and only for changes that concern the listener.  heeds_commits: False while
    nobody needs them, so that they need not end a wait.
    """

    safety_seconds: float
    look_again_seconds: tuple[float, ...]
    heeds_commits = True

    def __init__(self) -> None:
        self._stop_read, self._stop_write = os.pipe()
        os.set_blocking(self._stop_write, False)

    @property
    @abc.abstractmethod
    def is_listening(self) -> bool:
        """Whether commits cause wake-ups; if not, the database is only polled now and then."""

    @abc.abstractmethod
    def hear(self, timeout_seconds: float) -> Heard | None:
        """Block until something was committed, `interrupt` was called, or the time is over, which is None."""

    def hear_visible(self, timeout_seconds: float) -> Heard | None:
        """`hear`, but it returns when the commit is visible."""
        return self.hear(timeout_seconds)

    def wait(self, timeout_seconds: float) -> bool:
        """`hear`, for callers that read all changes anyway."""
        return self.hear(timeout_seconds) is not None

    def version(self) -> int:
        """A number that changes when a commit becomes visible; only with look_again_seconds."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """End a `wait` from another thread or a signal handler."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full: the waiter has enough to wake up for
            os.write(self._stop_write, b"x")

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._stop_read)
        os.close(self._stop_write)

    async def listen(self) -> AsyncIterator[Heard]:
        """A wake-up for every batch of commits once they are visible, and one at least every safety_seconds; waits in a
        thread of its own."""
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        stopped = threading.Event()
        waiting: collections.deque[Heard] = collections.deque()  # filled by the thread, emptied by the loop

        def watch() -> None:
            while not stopped.is_set():
                waiting.append(self.hear_visible(self.safety_seconds) or NOTHING)
                loop.call_soon_threadsafe(woken.set)

        thread = threading.Thread(target=watch, name="wakeups", daemon=True)
        thread.start()
        try:
            while True:
                await woken.wait()
                woken.clear()
                yield together([waiting.popleft() for _ in range(len(waiting))])
        finally:
            stopped.set()
            self.interrupt()
            await asyncio.to_thread(thread.join)


def together(several: list[Heard]) -> Heard:
    """Several wake-ups as one."""
    is_commit = any(heard.is_commit for heard in several)
    users: set[str] = set()
    for heard in several:
        if heard.users is None:
            return Heard(is_commit=is_commit)
        users |= heard.users
    return Heard(frozenset(users), is_commit)


def readable(descriptors: tuple[int, ...], timeout_seconds: float) -> set[int]:
    """The descriptors that become readable within the time.  It uses poll, because select is limited to 1,024
    descriptors."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    # Rounded up to a millisecond only when there is time to wait: 0 must stay "do not wait".
    return {descriptor for descriptor, _ in poll.poll(math.ceil(max(0.0, timeout_seconds) * 1000))}
