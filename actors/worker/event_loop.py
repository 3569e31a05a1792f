"""The event loop on which every async actor of this process runs.

A worker thread starts its coroutine here and waits for the end.  It wakes only once a second, to receive dramatiq's
interrupts (time limit, shutdown): the default of a tenth of a second costs 15 % of a core with 400 waiting threads.

An interrupt cancels the coroutine and then waits for its cleanup.  The default of one second is too short to stop a job
at an AI service; and a thread that returns earlier counts as free while its coroutine still runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import AsyncIO, Interrupt

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

Result = TypeVar("Result")

INTERRUPT_CHECK_SECONDS = 1.0
CLEANUP_SECONDS = 30.0  # after this time a cancelled attempt counts as one that will not end


class CoroutineWouldNotEnd(RuntimeError):
    """A cancelled coroutine ran on for CLEANUP_SECONDS, and still does.  Drain and restart this process."""


class PatientEventLoopThread(EventLoopThread):
    """cleanup_seconds: how long a cancelled coroutine may take to end."""

    def __init__(self, logger: Any, *, cleanup_seconds: float = CLEANUP_SECONDS) -> None:
        super().__init__(logger, interrupt_check_ival=INTERRUPT_CHECK_SECONDS)
        self.name, self.daemon = "event-loop", True
        self.cleanup_seconds = cleanup_seconds

    def run_coroutine(self, coro: Awaitable[Result]) -> Result:
        """Its result, or its exception.  Raises an Interrupt after its cleanup, else CoroutineWouldNotEnd."""
        if not self.loop.is_running():
            raise RuntimeError("The event loop is not running.")
        task: asyncio.Future[Result] | None = None
        done = threading.Event()

        def begin() -> None:
            nonlocal task
            task = asyncio.ensure_future(coro, loop=self.loop)
            task.add_done_callback(lambda _: done.set())

        def cancel() -> None:
            if task is not None:
                task.cancel()
            else:  # the loop takes calls in order: it was not begun and will not be
                if asyncio.iscoroutine(coro):
                    coro.close()
                done.set()

        try:  # an interrupt may come at any line of this block
            self.loop.call_soon_threadsafe(begin)
            while not done.wait(self.interrupt_check_ival):
                pass
            assert task is not None
            return task.result()
        except Interrupt as interrupt:
            self.loop.call_soon_threadsafe(cancel)
            if not done.wait(self.cleanup_seconds):
                raise CoroutineWouldNotEnd("A cancelled attempt does not end.") from interrupt
            raise
        finally:
            task = None  # else task, exception, traceback and this frame keep each other alive


class EventLoop(AsyncIO):
    """Starts the loop with the worker and ends it with the worker."""

    def __init__(self) -> None:
        super().__init__()
        self._thread: PatientEventLoopThread | None = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._thread = PatientEventLoopThread(self.logger)
        self._thread.start(timeout=10.0)
        set_event_loop_thread(self._thread)

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        if self._thread is None:
            return
        self._thread.stop()  # type: ignore[no-untyped-call]
        if get_event_loop_thread() is self._thread:
            set_event_loop_thread(None)
        self._thread = None
