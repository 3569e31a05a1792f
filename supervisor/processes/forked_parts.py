"""`darkroom up`'s end of its fork server (`supervisor.processes.fork_server`)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from supervisor.processes.child import Child
from supervisor.processes.fork_server import LONGEST_ORDER, READY, Order
from supervisor.processes.parent_death import dying_with_us

START_SECONDS = 15.0  # for its imports, on a busy host
MOST_FAILURES = 3  # one after the other
END_SECONDS = 1.0
ANSWER_SECONDS = 2.0  # for one fork, during which `darkroom up` does nothing else

log = structlog.get_logger("supervisor")


class NotForked(Exception):
    """No fork server answers: start the part as a separate program."""


class ForkServer:
    """A started fork server.  Only from the main thread.

    argv: of its program; the number of the socket is added.  If it ends, another is started.  Until that one is ready,
    and where none can be started, parts are started as separate programs, which costs only memory and time.
    """

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str], cwd: Path) -> None:
        self._argv, self._environ, self._cwd = tuple(argv), dict(environ), cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._start()

    def _start(self) -> None:
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._is_ready = False
        self._until = time.monotonic() + START_SECONDS
        with its:
            try:
                self._process = subprocess.Popen(
                    dying_with_us([*self._argv, str(its.fileno())]),
                    env=self._environ,
                    cwd=self._cwd,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(its.fileno(),),
                )
            except OSError as error:
                self._give_up(error.strerror or "it could not be started")

    def successor(self, argv: Sequence[str]) -> ForkServer:
        """A fork server with another command line, for a new program."""
        return ForkServer(argv, self._environ, self._cwd)

    def note_end(self) -> None:
        """Record that its process was reaped."""
        self._give_up("the process that forks them has ended")

    @property
    def pid(self) -> int | None:
        """Also the id of its process group; None when it has ended."""
        return self._process.pid if self._process else None

    def is_settled(self, wait: bool = False) -> bool:
        """Whether it is known if the fork server works.  wait: until that is known, at most START_SECONDS."""
        if self._process is not None and not self._is_ready:
            self._hear_of_readiness(max(0.0, self._until - time.monotonic()) if wait else 0.0)
        return self._is_ready or self._process is None or self._failures > 0

    def start(
        self,
        name: str,
        spawn_id: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        cwd: Path,
        descriptors: Sequence[int] = (),
    ) -> Child:
        """As `child.start_child`, but forked.  Raises NotForked."""
        self.is_settled()
        order = Order(tuple(argv), dict(environ), str(cwd), tuple(descriptors)).encoded()
        if not self._is_ready or len(order) > LONGEST_ORDER:
            raise NotForked
        go, knows = os.pipe()
        try:
            socket.send_fds(self._socket, [order], [go, *descriptors])
            answer = self._answer(ANSWER_SECONDS)
            child = Child(name, spawn_id, int(answer))
            os.write(knows, b"\0")
            return child
        except (OSError, ValueError) as error:
            self._give_up(str(error) or "it gave no answer")
            raise NotForked from None
        finally:
            os.close(go)
            os.close(knows)

    def close(self) -> None:
        """End it; its parts go on."""
        process, self._process = self._process, None
        self._is_ready = False
        self._socket.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            process.returncode = 0  # the code that reaps all children reaps it later

    def _hear_of_readiness(self, seconds: float) -> None:
        try:
            self._is_ready = self._answer(seconds) == READY
        except BlockingIOError:
            if time.monotonic() < self._until:
                return
        except OSError:
            pass
        if not self._is_ready:
            self._give_up("the process that forks them was not ready in time")

    def _answer(self, seconds: float) -> bytes:
        """The fork server's next answer.  Raises BlockingIOError if none comes in this time."""
        waits = select.poll()
        waits.register(self._socket, select.POLLIN)
        if not waits.poll(seconds * 1000):
            raise BlockingIOError("it gave no answer")
        return self._socket.recv(64)

    def _give_up(self, why: str) -> None:
        """End this process, and start another one, unless several have not become ready."""
        log.warning("parts_are_not_forked", reason=why, effect="each holds all of its memory alone")
        self._failures = 0 if self._is_ready else self._failures + 1
        self.close()
        if self._failures < MOST_FAILURES:
            self._start()
