"""The event loop on which every async actor of this process runs.

A worker thread starts its coroutine here and waits for the end.  It wakes once a second only to let dramatiq's
interrupts in (time limit, shutdown): the stock tenth of a second costs 15 % of a core with 400 waiting threads.

An interrupt cancels the coroutine and then waits for its cleanup.  The stock second is too short to tell an AI service
to stop; a thread that leaves earlier is counted as free while its coroutine still runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.middleware import AsyncIO, Interrupt

if TYPE_CHECKING:
    from dramatiq import Broker, Worker

Result = TypeVar("Result")

INTERRUPT_CHECK_SECONDS = 1.0
CLEANUP_SECONDS = 30.0  # after this a cancelled attempt counts as one that will not end


class CoroutineWouldNotEnd(RuntimeError):
    """A cancelled coroutine ran on for CLEANUP_SECONDS, and still does.  Drain and restart this process."""


class PatientEventLoopThread(EventLoopThread):
    """cleanup_seconds: how long a cancelled coroutine may take to end."""

    def __init__(self, logger: Any, *, cleanup_seconds: float = CLEANUP_SECONDS) -> None:
        super().__init__(logger, interrupt_check_ival=INTERRUPT_CHECK_SECONDS)
        self.name, self.daemon = "event-loop", True
        self.cleanup_seconds = cleanup_seconds

    def run_coroutine(self, coro: Awaitable[Result]) -> Result:
        """Its result, or what it raised.  Raises an Interrupt after its cleanup, else CoroutineWouldNotEnd."""
        if not self.loop.is_running():
            raise RuntimeError("The event loop is not running.")
        ended = threading.Event()

        async def watched() -> Result:
            try:
                return await coro
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(watched(), self.loop)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            while not done.wait(self.interrupt_check_ival):
                pass  # an interrupt is raised here, between two waits
            return future.result()
        except Interrupt as interrupt:
            # The future counts as done the moment it is cancelled; `ended` tells when the coroutine is.
            self.loop.call_soon_threadsafe(future.cancel)
            if not ended.wait(self.cleanup_seconds):
                raise CoroutineWouldNotEnd("A cancelled attempt does not end.") from interrupt
            raise
        finally:
            del future  # else future, exception, traceback and this frame keep each other alive


class EventLoop(AsyncIO):
    """Starts the loop with the worker and ends it with the worker."""

    def __init__(self, *, cleanup_seconds: float = CLEANUP_SECONDS) -> None:
        super().__init__()
        self.cleanup_seconds = cleanup_seconds

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        thread = PatientEventLoopThread(self.logger, cleanup_seconds=self.cleanup_seconds)
        thread.start(timeout=10.0)
        set_event_loop_thread(thread)
