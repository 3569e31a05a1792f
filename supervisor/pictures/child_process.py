"""The parent's handle of one image child: requests over stdin and stdout, open files over a socket, and kill.

`supervisor.pictures.child_program` describes the protocol.  A child decodes users' files, so it must know no secret: it
is a separate program (with nothing of this process's memory) and gets only the few environment variables that it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from supervisor.core.errors import NoRoom
from supervisor.objects.disk_space import NO_ROOM
from supervisor.pictures.decode_budget import DecodeBudget

PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent

# The environment variables for a child: paths of programs, libraries and temporary files, and the language.
KNOWN_TO_CHILDREN = frozenset(
    ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
)
KNOWN_FAMILIES = ("LC_", "PYTHON")
# Without it each thread of a library reserves 128 MB of addresses, and a child's address space is limited.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}

PIPE_SECONDS = 2.0  # from a kill to the end of the pipes; a process with much memory may take longer to end

OnProgress = Callable[[int, str], None]
T = TypeVar("T")
C = TypeVar("C", bound="ImageChild")


class ImageProcessDied(Exception):
    """The child ended in the middle of a request: killed from outside, out of memory, or crashed in native code.

    Another attempt may succeed; a picture that does this every time is poison.  signal: the signal that ended it; 0 if
    that is unknown or it exited by itself.
    """

    def __init__(self, message: str, signal: int = 0) -> None:
        super().__init__(message)
        self.signal = signal

    @property
    def by_its_own_doing(self) -> bool:
        """Whether the picture was the cause: too much time, or a crash.  SIGKILL comes from outside, for example when a
        host has no memory left."""
        return self.signal in _ITS_OWN_DOING


_ITS_OWN_DOING = frozenset(
    (signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
)


class ImageWorkFailed(Exception):
    """The child answered with an error.  code: an `error.code` (web/openapi/schemas.py); the text is a sentence for the
    user; told: the error as it was answered."""

    def __init__(self, code: str, message: str, told: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.told = told or {"code": code, "message": message}


@dataclass(eq=False)
class ImageChild:
    """channel: for open files."""

    process: asyncio.subprocess.Process
    channel: socket.socket
    has_begun: bool = False  # with the last request, where the child says so

    @property
    def is_alive(self) -> bool:
        """False also for a process that asyncio has reaped but not reported yet."""
        if self.process.returncode is not None:
            return False
        try:
            os.kill(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True

    async def ask(
        self,
        request: dict[str, Any],
        files: Sequence[BinaryIO],
        on_progress: OnProgress,
        room: DecodeBudget,
        deadline: asyncio.Timeout,
    ) -> list[dict[str, Any]]:
        assert self.process.stdout is not None
        taken, self.has_begun = 0, False
        try:
            if files:
                socket.send_fds(self.channel, [b"f"], [file.fileno() for file in files])
            await self._tell(request)
            while line := await self.process.stdout.readline():
                answer = json.loads(line)
                if not _is_answer(answer):
                    raise ValueError("not one of the answers")
                if answer.get("id") != request["id"]:
                    raise ImageProcessDied(
                        "The image process answered another request than the one it was given."
                    )
                if "error" in answer:
                    if answer["error"]["code"] == NO_ROOM:
                        raise NoRoom(answer["error"]["message"])
                    raise ImageWorkFailed(
                        answer["error"]["code"], answer["error"]["message"], answer["error"]
                    )
                if "made" in answer:
                    made: list[dict[str, Any]] = answer["made"]
                    return made
                if "begun" in answer:
                    self.has_begun = True
                    continue
                if "pixels" in answer:
                    room.give_back(taken)
                    taken = 0
                    taken = await _without_counting(deadline, room.take(answer["pixels"]))
                    await self._tell({"id": request["id"], "decode": True})
                else:
                    on_progress(answer["progress"], answer["stage"])
        # ValueError: half a line, cut off by the child's death, or what its libraries wrote into its pipe
        except (ConnectionError, ValueError) as error:
            raise await self._death("The image process broke off in the middle of its work.") from error
        finally:
            room.give_back(taken)
        raise await self._death("The image process ended in the middle of its work.")

    async def _tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        await self.process.stdin.drain()

    async def _death(self, message: str) -> ImageProcessDied:
        """The fault, with the signal that ended the child, if it has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), 1)
        return ImageProcessDied(message, max(0, -(self.process.returncode or 0)))

    async def end(self) -> None:
        """Kill, reap, close its pipes.  A second cancel can't come between."""
        await _uninterrupted(self._kill_and_reap())

    async def _kill_and_reap(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.channel.close()
        try:
            await asyncio.wait_for(self.process.wait(), PIPE_SECONDS)
        except TimeoutError:
            # asyncio waits for the pipes, too, and a process that the child has started may hold them
            for number in (1, 2):
                if pipe := self.process._transport.get_pipe_transport(number):  # type: ignore[attr-defined]
                    pipe.close()
            await self.process.wait()
        self.process._transport.close()  # type: ignore[attr-defined]  # or its pipe stays open until the garbage collector comes


def _is_answer(told: Any) -> bool:
    """Whether it has the form of one of a child's answers (`supervisor.pictures.child_program`)."""
    match told:
        case {"error": {"code": str(), "message": str()}} | {"made": list()} | {"begun": True}:
            return True
        case {"pixels": int()} | {"progress": int(), "stage": str()}:
            return True
    return False


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


async def _without_counting(deadline: asyncio.Timeout, wait: Coroutine[Any, Any, T]) -> T:
    """What the wait gives; time that it took is not taken from the deadline."""
    loop = asyncio.get_running_loop()
    due, begun = deadline.when(), loop.time()
    deadline.reschedule(None)
    got = await wait
    if due is not None:
        deadline.reschedule(due + loop.time() - begun)
    return got


async def start_child(
    program: str,
    environ: Mapping[str, str] | None = None,
    *,
    made: Callable[..., C] = ImageChild,  # type: ignore[assignment]
    **more: Any,
) -> C:
    """A new child.  environ: its whole environment; by default the few variables of an image child.
    made: of its process and channel; more: for asyncio, as where its stderr goes."""
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the current folder may hold a foreign `config` or `web`
            "-m",
            program,
            str(os.getpid()),
            str(theirs.fileno()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment(os.environ) if environ is None else environ,
            pass_fds=(theirs.fileno(),),
            **more,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return made(process, ours)


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child: a list of harmless variables, since a secret may have any name."""
    kept = {
        name: value
        for name, value in environ.items()
        if name in KNOWN_TO_CHILDREN or name.startswith(KNOWN_FAMILIES)
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), environ.get("PYTHONPATH", "")]))
    return kept | ONE_ARENA
