"""The parent's side of the image children: a small pool of processes that a cancel or a time-out can kill.

A child serves one request at a time and is used again after it, unless the request needs its own child.  A child that
was cancelled, timed out or broke the protocol is killed (SIGKILL) and reaped before `run` returns, so its work never
outlives the task.  Children are started when needed, at most `size` at once.  If none is free, a request waits for a
turn (`supervisor.core.fair_turns`).  A picture that needs more memory than is free waits inside its child, before it is
decoded.

The pool belongs to the event loop it is first used on, which may run in any thread; children die with that
thread's process (and, on Linux, with that thread).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from supervisor.core.errors import NoRoom
from supervisor.core.fair_turns import Turns
from supervisor.pictures.child_process import ImageChild, ImageWorkFailed, OnProgress, start_child
from supervisor.pictures.decode_budget import DecodeBudget


class ImageProcesses:
    """size: children that may run at once; they are niced and single-threaded, so about one for each core. program: the
    module that they run, built on `supervisor.pictures.child_program`. most_each: children of one user. most_pixels:
    pixels that are decoded at once in all children; 0 for no bound. stays_warm: a killed child is replaced at once, not
    when it is needed."""

    def __init__(
        self,
        size: int,
        program: str = "supervisor.pictures.child_program",
        *,
        most_each: int | None = None,
        most_pixels: int = 0,
        stays_warm: bool = False,
    ) -> None:
        if size < 1:
            raise ValueError("size must be at least 1.")
        self._turns = Turns(size, most_each)
        self._program, self._stays_warm = program, stays_warm
        self._room = DecodeBudget(most_pixels)
        self._idle: list[ImageChild] = []
        self._children: set[ImageChild] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)
        self._closed = False

    async def run(
        self,
        request: Mapping[str, Any],
        on_progress: OnProgress,
        timeout_seconds: float,
        *,
        own_child: bool = False,
        whose: str = "",
        wait_seconds: float | None = None,
        files: Sequence[BinaryIO] = (),
    ) -> list[dict[str, Any]]:
        """The images a child made: [{"n", "path", "width", "height", "thumbnail"}].

        on_progress: called on the event loop with percent 0 … 99, rising, and a stage.  timeout_seconds: from
        when a child takes the request; the wait for a turn is not counted.  own_child: a fresh child that ends
        with this request.  whose: turns are shared among these names.  wait_seconds: for a turn, None for as
        long as it takes.  files: open files that the child gets too.
        Raises ImageWorkFailed, ImageProcessDied, TimeoutError, NoRoom; the last and a cancel kill the child first."""
        async with asyncio.timeout(wait_seconds):
            await self._turns.take(whose)
        kept = False
        try:
            child = await self._child(fresh=own_child)
            reusable = False
            try:
                await self._make_ready(child, on_progress)
                async with asyncio.timeout(timeout_seconds) as deadline:
                    numbered = {**request, "id": next(self._ids), "files_sent": len(files)}
                    images = await self._ask(child, numbered, files, on_progress, deadline)
                reusable = not own_child
                return images
            except (ImageWorkFailed, NoRoom):
                reusable = not own_child
                raise
            finally:
                await self._put_back(child, reusable)
                if self._stays_warm and not reusable and not own_child and not self._closed:
                    kept = True
                    self._replace(whose)
        finally:
            if not kept:
                self._turns.give_back(whose)

    async def close(self) -> None:
        """Kill and reap all children; requests under way raise ImageProcessDied.  The pool can't be used
        again."""
        self._closed = True
        self._turns.cancel_waiting()
        await asyncio.gather(*self._replacing, return_exceptions=True)
        await asyncio.gather(*(self._end(child) for child in list(self._children)))

    # ── children ──

    async def _make_ready(self, child: ImageChild, on_progress: OnProgress) -> None:
        """What a child does once before its first request, beyond the time of that."""

    async def _ask(
        self,
        child: ImageChild,
        request: dict[str, Any],
        files: Sequence[BinaryIO],
        on_progress: OnProgress,
        deadline: asyncio.Timeout,
    ) -> list[dict[str, Any]]:
        return await child.ask(request, files, on_progress, self._room, deadline)

    async def _spawn(self) -> ImageChild:
        return await start_child(self._program)

    async def _child(self, *, fresh: bool) -> ImageChild:
        while self._idle:
            child = self._idle.pop()
            if fresh or not child.is_alive:  # an idle child would be one too many beside a fresh one
                await self._end(child)
                continue
            return child
        return await self._start()

    async def _start(self) -> ImageChild:
        if self._closed:
            raise RuntimeError("This pool of image processes is closed.")
        # shielded: a cancel between fork and here would leave an unknown child behind
        starting = asyncio.ensure_future(self._spawn())
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            child = await starting
            await child.end()
            raise
        self._children.add(child)
        return child

    async def _put_back(self, child: ImageChild, reusable: bool) -> None:
        if reusable and child.is_alive and not self._closed:
            self._idle.append(child)
        else:
            await self._end(child)

    async def _end(self, child: ImageChild) -> None:
        await child.end()
        self._children.discard(child)

    def _replace(self, whose: str) -> None:
        """Start another child in the place that is held; the next request gets both at once."""

        async def replace() -> None:
            try:
                child = await self._start()
                if self._closed:
                    await self._end(child)
                else:
                    self._idle.append(child)
            except (OSError, RuntimeError):
                pass  # the next request gets the error
            finally:
                self._turns.give_back(whose)

        task = asyncio.get_running_loop().create_task(replace())
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)
