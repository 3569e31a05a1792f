"""The parent's side of the image children: a small pool of processes that a cancel or a time-out can kill.

A child serves one request at a time and is used again after it, unless the request asked for a child of its
own.  A child that was cancelled, timed out or broke the protocol is killed (SIGKILL) and reaped before `run`
returns, so nothing it does can outlive its task.  Children are started when needed, at most `size` at once;
who finds none free waits in line.

The pool belongs to the event loop it is first used on, which may run in any thread; children die with that
thread's process (and, on Linux, with that thread).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).resolve().parent.parent
MARKS_OF_SECRETS = ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY", "DATABASE_URL", "BROKER_URL", "STORAGE_URL")

OnProgress = Callable[[int, str], None]


class ImageProcessDied(Exception):
    """The child ended in the middle of a request: killed from outside, out of memory, or crashed in native
    code. Another attempt may succeed; a picture that does this every time is poisonous."""


class ImageWorkFailed(Exception):
    """The child answered with an error.  code: an `error.code` of CONTRACT.md; the text is a sentence for the
    user."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class ImageProcesses:
    """size: how many children may run at once; they are niced and single-threaded, so about one for each
    core."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError("size must be at least 1.")
        self._free_places = size
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: list[_Child] = []
        self._children: set[_Child] = set()
        self._ids = itertools.count(1)
        self._closed = False

    async def run(
        self,
        request: Mapping[str, Any],
        on_progress: OnProgress,
        timeout_seconds: float,
        *,
        own_child: bool = False,
    ) -> list[dict[str, Any]]:
        """The images a child made: [{"n", "path", "width", "height"}].
        on_progress: called on the event loop with percent 0 … 99, rising, and a stage.  timeout_seconds: from
        when a child takes the request; waiting in line is not counted.  own_child: a fresh child that ends
        with this request. Raises ImageWorkFailed, ImageProcessDied, TimeoutError; the last and a cancel kill
        the child first."""
        await self._take_place()
        try:
            child = await self._child(fresh=own_child)
            reusable = False
            try:
                async with asyncio.timeout(timeout_seconds):
                    images = await child.ask({**request, "id": next(self._ids)}, on_progress)
                reusable = not own_child
                return images
            except ImageWorkFailed:
                reusable = not own_child
                raise
            finally:
                await self._put_back(child, reusable)
        finally:
            self._give_place()

    async def prewarm(self) -> None:
        """Start one child ahead of the first request."""
        if not self._children:
            self._idle.append(await self._start())

    async def close(self) -> None:
        """Kill and reap all children; requests under way raise ImageProcessDied.  The pool can't be used
        again."""
        self._closed = True
        for waiter in self._waiting:
            waiter.cancel()
        await asyncio.gather(*(self._end(child) for child in list(self._children)))

    # ── places, first come first served ──

    async def _take_place(self) -> None:
        if self._free_places and not self._waiting:
            self._free_places -= 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled():
                self._give_place()  # it was given to us in the same moment
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(waiter)
            raise

    def _give_place(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free_places += 1

    # ── children ──

    async def _child(self, *, fresh: bool) -> _Child:
        while self._idle:
            child = self._idle.pop()
            if fresh or not child.is_alive:  # an idle child would be one too many beside a fresh one
                await self._end(child)
                continue
            return child
        return await self._start()

    async def _start(self) -> _Child:
        if self._closed:
            raise RuntimeError("This pool of image processes is closed.")
        # shielded: a cancel between fork and here would leave a child that nobody knows
        starting = asyncio.ensure_future(_start_child())
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            child = await starting
            await child.end()
            raise
        self._children.add(child)
        return child

    async def _put_back(self, child: _Child, reusable: bool) -> None:
        if reusable and child.is_alive and not self._closed:
            self._idle.append(child)
        else:
            await self._end(child)

    async def _end(self, child: _Child) -> None:
        await child.end()
        self._children.discard(child)


@dataclass(eq=False)
class _Child:
    process: asyncio.subprocess.Process

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, request: dict[str, Any], on_progress: OnProgress) -> list[dict[str, Any]]:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            await self.process.stdin.drain()
            while line := await self.process.stdout.readline():
                answer = json.loads(line)
                if answer.get("id") != request["id"]:
                    raise ImageProcessDied(
                        "The image process answered another request than the one it was given."
                    )
                if "error" in answer:
                    raise ImageWorkFailed(answer["error"]["code"], answer["error"]["message"])
                if "images" in answer:
                    images: list[dict[str, Any]] = answer["images"]
                    return images
                on_progress(answer["progress"], answer["stage"])
        except (ConnectionError, ValueError) as error:  # ValueError: half a line, cut off by its death
            raise ImageProcessDied("The image process broke off in the middle of its work.") from error
        raise ImageProcessDied("The image process ended in the middle of its work.")

    async def end(self) -> None:
        """Kill, reap, close its pipes.  A second cancel can't come between."""
        await _uninterrupted(self._kill_and_reap())

    async def _kill_and_reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self.process.wait()
        self.process._transport.close()  # type: ignore[attr-defined]  # or its pipe stays open until the garbage collector comes


async def _uninterrupted(work: Any) -> None:
    """Await `work` to its end; a cancel that arrives meanwhile is raised afterwards."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


async def _start_child() -> _Child:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the current folder may hold a `config` or `web` of somebody else's
        "-m",
        "actors.image_child",
        str(os.getpid()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(os.environ),
    )
    return _Child(process)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What a child may know: it decodes pictures from strangers, so no secrets."""
    kept = {
        name: value for name, value in environ.items() if not any(mark in name for mark in MARKS_OF_SECRETS)
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), environ.get("PYTHONPATH", "")]))
    return kept
