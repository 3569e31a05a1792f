"""Blocking code in a thread of its own that takes turns with the event loop: only one of the two runs at a time.

So the dispatcher's loop and the sweep run unchanged, and still only one thing happens at a time.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from tests.histories.virtual_loop import Process, VirtualLoop

_threads = threading.local()


class Killed(BaseException):
    """The thread's process is dead."""


class Blocking:
    """A function that blocks, run as a part of a process."""

    def __init__(self, loop: VirtualLoop, process: Process, function: Callable[[], Any]) -> None:
        self._loop, self._process, self._function = loop, process, function
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._is_over = False
        self.done: asyncio.Future[Any] = loop.create_future()
        self._thread = threading.Thread(target=self._run, name=process.name, daemon=True)
        self._thread.start()
        loop.call_soon(self._resume, context=process.context)

    def wait_for(self, future: concurrent.futures.Future[Any]) -> None:
        """Called in the thread: let others go on until this is done."""
        if self._process.is_dead:
            raise Killed
        if not future.done():
            future.add_done_callback(
                lambda _: self._loop.call_soon(self._resume, context=self._process.context)
            )
            self._pass_on()

    def sleep(self, seconds: float) -> None:
        """Called in the thread."""
        woken: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop.in_world(max(0.0, seconds), woken.set_result, None)
        self.wait_for(woken)

    def end(self) -> None:
        """Called when the history is over: let the thread of a dead process come to its end."""
        if not self._is_over:
            self._process.is_dead = True
            self._resume()
        self._thread.join(timeout=10)

    @property
    def is_alive(self) -> bool:
        """Whether its thread still waits."""
        return not self._is_over

    def _resume(self) -> None:
        if not self._is_over:
            self._go.release()
            self._back.acquire()

    def _pass_on(self) -> None:
        self._back.release()
        self._go.acquire()
        if self._process.is_dead:
            raise Killed

    def _run(self) -> None:
        _threads.current = self
        self._go.acquire()
        try:
            if not self._process.is_dead:
                result = self._process.context.copy().run(self._function)
                self.done.set_result(result)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001  told to whoever waits
            with contextlib.suppress(asyncio.InvalidStateError):
                self.done.set_exception(error)
        finally:
            self._is_over = True
            self._back.release()


def current() -> Blocking | None:
    """The blocking function that runs in the calling thread; None in the loop's own."""
    return getattr(_threads, "current", None)


class Awaited(concurrent.futures.Future):  # type: ignore[type-arg]
    """A future whose `result` lets other processes run."""

    def result(self, timeout: float | None = None) -> Any:
        thread = current()
        if thread is not None:
            thread.wait_for(self)
        assert self.done(), "the event loop may not block"
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        thread = current()
        if thread is not None:
            thread.wait_for(self)
        assert self.done(), "the event loop may not block"
        return super().exception(0)
