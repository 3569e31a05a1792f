"""Real worker processes of `tests/support/houses/broker_app.py`, and their events."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
from dramatiq import Message

from supervisor.processes.parent_death import dying_with_us
from tests.support.servers.broker_server import BrokerServer
from tests.support.waiting import PATIENCE_SECONDS, eventually

HOME = Path(__file__).parents[3]
_number = itertools.count()


class WorkerProcess:
    """`dramatiq tests.support.houses.broker_app` with one worker.  kind: `darkroom` or `stock`."""

    def __init__(
        self,
        server: BrokerServer,
        folder: Path,
        *,
        kind: str = "darkroom",
        namespace: str = "dk",
        slots: int = 2,
    ) -> None:
        self.name = f"{kind}-{next(_number)}"
        self.namespace = namespace
        self._events = folder / f"{self.name}.events"
        self.log = folder / f"{self.name}.log"
        environ = os.environ | {
            "BROKER_TEST_KIND": kind,
            "BROKER_TEST_ADDRESS": server.address,
            "BROKER_TEST_NAMESPACE": namespace,
            "BROKER_TEST_SLOTS": str(slots),
            "BROKER_TEST_EVENTS": str(self._events),
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                dying_with_us(
                    [
                        sys.executable,
                        *["-m", "dramatiq", "-p", "1", "-t"],
                        str(slots),
                        "tests.support.houses.broker_app",
                    ]
                ),
                env=environ,
                cwd=HOME,
                stdout=log,
                stderr=log,
            )
        eventually(f"{self.name} has booted", lambda: self.events("booted"))

    def events(self, beginning: str = "") -> list[str]:
        """The lines it wrote that begin so."""
        lines = self._events.read_text().splitlines() if self._events.exists() else []
        return [line for line in lines if line.startswith(beginning)]

    def wait_for(self, event: str, *, seconds: float = PATIENCE_SECONDS) -> None:
        """Until it has written this line."""
        eventually(f"{self.name}: {event}", lambda: event in self.events(), seconds=seconds)

    def terminate(self) -> None:
        """Ask it to stop, as the supervisor does."""
        self._process.send_signal(signal.SIGTERM)

    def wait_for_exit(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit status."""
        return self._process.wait(timeout=seconds)

    def kill(self) -> None:
        """It and its child at once."""
        if self._process.poll() is None:
            family = [*psutil.Process(self._process.pid).children(recursive=True), self._process]
            for process in family:
                process.kill()
            self._process.wait()


def work(name: str, gate: Path) -> Message[Any]:
    """A message that runs until the file gate exists."""
    return Message(queue_name="tasks", actor_name="work", args=(name, str(gate)), kwargs={}, options={})


def call(actor_name: str, *args: str) -> Message[Any]:
    """A message for another actor of the application."""
    return Message(queue_name="tasks", actor_name=actor_name, args=args, kwargs={}, options={})
