"""The children with a model, in their worker: loaded once, kept, watched, replaced.

They are a pool like that of the image children, with the same code (`supervisor.pictures.process_pool`): a child does
one job at a time, a cancel or a time-out kills it, and its death costs one job. In addition:

- a child is loaded before its first job; this counts against `load_seconds`, not against the job's time;
- a child without a job for `idle_seconds` ends in good order, and so does one above `memory_mib` after a job; one that
grows to twice `memory_mib` within a job is killed. Addresses are not limited: CUDA and similar libraries reserve many
times the memory that they use;
- a child's printed text is logged, with the id of its task.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from actors.providers.warm.messages import SPEAKS_FOR
from actors.providers.warm.model import ModelSettings
from supervisor.pictures.child_process import (
    ImageChild,
    ImageProcessDied,
    ImageWorkFailed,
    OnProgress,
    start_child,
)
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.processes.marked_processes import kill_marked

log = structlog.get_logger(__name__)

PROGRAM = "actors.providers.warm.child_program"
LOADING_PERCENT, LOADING = 2, "loading the model"
MARK = "MODEL_PROCESS"  # a variable of its environment
LEAVE_SECONDS = 10.0  # for a model's `close`
LOOK_OUT_SECONDS = 0.02  # from one look to the next at one that leaves
LOOK_SECONDS = 0.25  # from one look at a child's memory to the next
WITHIN_A_CALL = 2  # times memory_mib
LONGEST_MESSAGE = 16 * 1024 * 1024  # of a child: `Done.data` is the largest part of it
LONGEST_LINE, MOST_LINES = 2000, 1000  # of what it prints, the second for each job
_PAGE = os.sysconf("SC_PAGE_SIZE")


class NotLoaded(Exception):
    """The model could not be loaded; the text says why.  No order is at fault."""


class DiedWhileIdle(ImageProcessDied):
    """The child ended before it began the request: another child can take the request."""


@dataclasses.dataclass(frozen=True)
class Loading:
    """The first request to a child. class_name: `module:Class`."""

    class_name: str
    name: str
    settings: ModelSettings
    seconds: float

    def request(self) -> dict[str, Any]:
        """As a message."""
        settings = dataclasses.asdict(self.settings)
        return {"id": 0, "task": "load", "class": self.class_name, "name": self.name, "settings": settings}


class WarmChild(ImageChild):
    """A child that can be loaded, and whose printed text is logged."""

    provider = ""  # the child's owner, for the log
    mark = ""  # in its environment and in those of all that it starts
    task_id = ""  # of its present job
    is_loaded = False
    too_large = ""  # set when it was killed for its memory
    voice: asyncio.Task[None] | None = None
    retirement: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """Log its printed text from now on."""
        self.voice = asyncio.get_running_loop().create_task(self._log_what_it_prints())

    async def _log_what_it_prints(self) -> None:
        assert self.process.stderr is not None
        rest, of_task, lines = b"", "", 0
        mark = SPEAKS_FOR.encode()
        while chunk := await self.process.stderr.read(65536):
            *whole, rest = (rest + chunk).split(b"\n")
            rest = rest[-LONGEST_LINE:]  # a bar of progress is one line that grows
            for line in whole:
                if line.startswith(mark):
                    of_task, lines = line.removeprefix(mark).decode(errors="replace"), 0
                    continue
                lines += 1
                text = line.rpartition(b"\r")[2][:LONGEST_LINE].decode(errors="replace").rstrip()
                if text and lines <= MOST_LINES:
                    log.info("model_says", provider=self.provider, task=of_task or None, line=text)
                elif lines == MOST_LINES + 1:
                    log.warning("model_says_too_much", provider=self.provider, task=of_task or None)

    def resident_bytes(self) -> int:
        """Its resident memory; 0 where that is unknown, as outside Linux."""
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0

    async def leave(self) -> None:
        """End in good order: its stdin ends, it closes its model."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                while self.is_alive:  # noqa: ASYNC110  `wait` would wait for those that it has started, too
                    await asyncio.sleep(LOOK_OUT_SECONDS)
        await self.end()

    async def end_those_that_it_started(self) -> None:
        """Kill them; it must have ended, or it could start others."""
        await asyncio.to_thread(kill_marked, MARK, self.mark)

    async def _kill_and_reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.end_those_that_it_started()
        await super()._kill_and_reap()

    async def end(self) -> None:
        """Kill it and all that it has started, reap, close its pipes, and log its last words."""
        if self.retirement is not None:
            self.retirement.cancel()
        await super().end()
        if self.voice is not None:
            await asyncio.wait(
                {self.voice}, timeout=1
            )  # the other end may be held by a process without our mark
            self.voice.cancel()


class WarmProcesses(ImageProcesses):
    """environ: the children's whole environment. memory_mib, idle_seconds: 0 for no bound."""

    def __init__(
        self,
        size: int,
        loading: Loading,
        environ: Mapping[str, str],
        *,
        idle_seconds: float = 0.0,
        memory_mib: int = 0,
    ) -> None:
        super().__init__(size, PROGRAM)
        self._loading, self._environ = loading, environ
        self._idle_seconds, self._most_bytes = idle_seconds, memory_mib * 1024 * 1024
        self._leaving: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let idle children close their models, and kill the others."""
        self._closed = True
        while self._idle:
            self._let_go(self._idle.pop())
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await super().close()

    async def _spawn(self) -> ImageChild:
        mark = uuid.uuid4().hex
        child = await start_child(
            PROGRAM,
            {**self._environ, MARK: mark},
            made=WarmChild,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_MESSAGE,
        )
        child.provider, child.mark = self._loading.name, mark
        child.listen()
        return child

    async def _make_ready(self, child: ImageChild, on_progress: OnProgress) -> None:
        assert isinstance(child, WarmChild)
        if child.retirement is not None:
            child.retirement.cancel()
        if child.is_loaded:
            return
        on_progress(LOADING_PERCENT, LOADING)
        started = asyncio.get_running_loop().time()
        watching = asyncio.create_task(self._watch(child))
        try:
            async with asyncio.timeout(self._loading.seconds) as deadline:
                await child.ask(self._loading.request(), [], on_progress, self._room, deadline)
        except TimeoutError:
            raise NotLoaded(f"it was not loaded within {self._loading.seconds:g} s (load_seconds).") from None
        except ImageWorkFailed as failure:
            raise NotLoaded(failure.message) from None
        except ImageProcessDied as death:
            raise NotLoaded(f"its process ended while it was loaded (signal {death.signal}).") from None
        finally:
            watching.cancel()
        child.is_loaded = True
        seconds = asyncio.get_running_loop().time() - started
        log.info(
            "model_loaded", provider=self._loading.name, seconds=round(seconds, 3), pid=child.process.pid
        )

    async def _ask(
        self,
        child: ImageChild,
        request: dict[str, Any],
        files: Sequence[BinaryIO],
        on_progress: OnProgress,
        deadline: asyncio.Timeout,
    ) -> list[dict[str, Any]]:
        assert isinstance(child, WarmChild)
        child.task_id = request["job"]["task_id"]
        watching = asyncio.create_task(self._watch(child))
        try:
            return await child.ask(request, files, on_progress, self._room, deadline)
        except ImageProcessDied as death:
            if not child.has_begun and not child.too_large:
                raise DiedWhileIdle(str(death), death.signal) from death
            raise ImageProcessDied(child.too_large or str(death), death.signal) from death
        finally:
            watching.cancel()

    async def _watch(self, child: WarmChild) -> None:
        """Look at its memory, and at its life: a process that it has forked may hold its pipe, which then does not end
        with it."""
        most = WITHIN_A_CALL * self._most_bytes
        while child.process.returncode is None:
            await asyncio.sleep(LOOK_SECONDS)
            if most and child.resident_bytes() > most:
                child.too_large = (
                    f"The model took more than {most // 1024 // 1024} MiB, twice its memory_mib."
                )
                # While the model loads, the log's context names the task.
                named = {"task": child.task_id} if child.task_id else {}
                log.warning("model_killed", provider=child.provider, reason=child.too_large, **named)
                with contextlib.suppress(ProcessLookupError):
                    child.process.kill()
        await child.end_those_that_it_started()

    async def _put_back(self, child: ImageChild, reusable: bool) -> None:
        assert isinstance(child, WarmChild)
        child.task_id = ""
        if reusable and self._most_bytes and (size := child.resident_bytes()) > self._most_bytes:
            mib = size // 1024 // 1024
            log.info(
                "model_replaced",
                provider=child.provider,
                mib=mib,
                memory_mib=self._most_bytes // 1024 // 1024,
            )
            await self._depart(child)  # first: another child beside it would need the memory that it holds
            return
        await super()._put_back(child, reusable)
        if child in self._idle and self._idle_seconds:
            loop = asyncio.get_running_loop()
            child.retirement = loop.call_later(self._idle_seconds, self._retire, child)

    def _retire(self, child: WarmChild) -> None:
        if child in self._idle:
            self._idle.remove(child)
            log.info("model_unloaded", provider=child.provider, idle_seconds=self._idle_seconds)
            self._let_go(child)

    def _let_go(self, child: ImageChild) -> None:
        self._leaving.add(task := asyncio.get_running_loop().create_task(self._depart(child)))
        task.add_done_callback(self._leaving.discard)

    async def _depart(self, child: ImageChild) -> None:
        assert isinstance(child, WarmChild)
        await child.leave()
        self._children.discard(child)
