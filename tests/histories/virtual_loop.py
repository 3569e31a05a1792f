"""An event loop with a clock of its own; its callbacks belong to processes that may be frozen or dead.

One callback runs at a time. The next process is drawn at random; within a process callbacks keep their order, as
asyncio promises. When no process can run, the clock moves to the next timer.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine
from typing import Any

FIRST_MOMENT = 1000.0


class StandsStill(Exception):
    """No process has work, now or later, and a process still waits."""


class Process:
    """What stands still or dies as a whole."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.frozen_until = 0.0
        self.context = contextvars.copy_context()
        self.context.run(current_process.set, self)

    def __repr__(self) -> str:
        return self.name


class NumberedTask(asyncio.Task[Any]):
    """A task with the same place in a set in each run: sets of ordinary tasks are in the order of addresses."""

    def __init__(self, number: int, *args: Any, **more: Any) -> None:
        self._number = number
        super().__init__(*args, **more)

    def __hash__(self) -> int:
        return self._number


current_process: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class VirtualLoop(asyncio.BaseEventLoop):
    """draw: chooses the process that runs next."""

    def __init__(self, draw: random.Random) -> None:
        super().__init__()
        self._draw = draw
        self._now = FIRST_MOMENT
        self._queues: dict[Process | None, collections.deque[asyncio.Handle]] = {}
        self.steps = 0
        self.numbers = itertools.count()
        self.unfinished: set[asyncio.Task[Any]] = set()  # those of the dead too: nothing of theirs may run
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        """A step took this long, and no process could run meanwhile."""
        self._now = round(self._now + seconds, 6)

    def start(self, process: Process, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a part of a process."""
        return self.create_task(work, context=process.context.copy())

    def in_world(self, seconds: float, call: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """A callback outside every process."""
        return self.call_later(seconds, call, *args, context=contextvars.Context())

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """A thread's work, done at one of the next moments."""
        done = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001  whoever awaits it hears of it
                done.set_exception(error)
            else:
                done.set_result(result)

        self.call_later(self._draw.choice((0.0, 0.001, 0.02)), work)
        return done

    def _make_task(self, loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = NumberedTask(next(self.numbers), work, loop=loop, **more)
        self.unfinished.add(task)
        task.add_done_callback(self.unfinished.discard)
        return task

    def _run_once(self) -> None:  # asyncio's own hook; the rest of its loop stays as it is
        self._take_ready()
        handle = self._next()
        while handle is None:
            self._move_clock()
            self._take_ready()
            handle = self._next()
        self.steps += 1
        handle._run()

    def _take_ready(self) -> None:
        while self._scheduled and (self._scheduled[0]._cancelled or self._scheduled[0]._when <= self._now):
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                self._ready.append(timer)
        while self._ready:
            handle = self._ready.popleft()
            if not handle._cancelled:
                process = handle._context.get(current_process)
                self._queues.setdefault(process, collections.deque()).append(handle)

    def _next(self) -> asyncio.Handle | None:
        able = []
        for process, queue in list(self._queues.items()):
            if not queue or (process is not None and process.is_dead):
                del self._queues[process]
            elif process is None or process.frozen_until <= self._now:
                able.append(process)
        while able:
            process = self._draw.choice(able)
            queue = self._queues[process]
            while queue:
                handle = queue.popleft()
                if not handle._cancelled:
                    return handle
            able.remove(process)
        return None

    def _move_clock(self) -> None:
        moments = [process.frozen_until for process, queue in self._queues.items() if process and queue]
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        if self._scheduled:
            moments.append(self._scheduled[0]._when)
        if not moments:
            raise StandsStill
        self._now = max(self._now, min(moments))

    def _process_events(self, event_list: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
