"""The parent process of a worker, which is dramatiq's, sleeps until its worker ends or says something."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from supervisor.processes.launcher import PROGRAMS
from tests.support.repository import ROOT
from tests.support.waiting import eventually

ACTORS = """
import os, sys, time
import dramatiq
from dramatiq.brokers.stub import StubBroker

class Said(dramatiq.Middleware):
    def after_worker_boot(self, broker, worker):
        if "leaves" in os.environ["HOW"]:
            sys.stdout.flush()
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        print("it begins", flush=True)

    def after_worker_shutdown(self, broker, worker):
        print("its last words", flush=True)

dramatiq.set_broker(StubBroker(middleware=[Said()]))
"""


class Parent:
    """The started program, its one worker, and what both have said so far."""

    def __init__(self, folder: Path, how: str = "") -> None:
        (folder / "actors_of_test.py").write_text(ACTORS)
        self._said = folder / "said"
        argv = [
            sys.executable,
            str(PROGRAMS / "dramatiq"),
            "actors_of_test",
            "--processes",
            "1",
            "--threads",
            "1",
        ]
        environ = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "HOW": how}
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*argv, "--skip-logging"], env=environ, cwd=folder, stderr=said, start_new_session=True
            )
        eventually("the worker begins", lambda: "it begins" in self.said())
        eventually("both threads wait", lambda: len(self._threads(self.process.pid)) == 2)
        self.worker = psutil.Process(self.process.pid).children()[0]

    def said(self) -> str:
        return self._said.read_text()

    def waits(self, pid: int) -> int:
        """How often its threads have waited so far."""
        return sum(_number(each / "status", "voluntary_ctxt_switches:") for each in self._threads(pid))

    @staticmethod
    def _threads(pid: int) -> list[Path]:
        return list(Path(f"/proc/{pid}/task").iterdir())


def _number(file: Path, name: str) -> int:
    (line,) = (line for line in file.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


@pytest.fixture
def how() -> str:
    return ""


@pytest.fixture
def parent(tmp_path: Path, how: str) -> Iterator[Parent]:
    started = Parent(tmp_path, how)
    yield started
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait()


pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells the end of a process")


def _until_more_waits(parent: Parent, count: int) -> None:
    """dramatiq's worker wakes once a second: so many seconds pass, however busy the machine is."""
    so_far = parent.waits(parent.worker.pid)
    eventually("the worker has woken", lambda: parent.waits(parent.worker.pid) >= so_far + count, 60)


def test_an_idle_parent_does_not_wake(parent: Parent) -> None:
    _until_more_waits(parent, 2)
    before = parent.waits(parent.process.pid)
    _until_more_waits(parent, 4)
    assert parent.waits(parent.process.pid) - before <= 1, "dramatiq's own wakes twice a second"


def test_what_the_worker_says_is_passed_on_to_its_end(parent: Parent) -> None:
    parent.process.send_signal(signal.SIGTERM)
    assert parent.process.wait(60) == 0
    assert parent.said().split("\n") == ["it begins", "its last words", ""]


@pytest.mark.parametrize("how", ["", "leaves a process behind"])
def test_a_parent_ends_with_its_worker(parent: Parent, how: str) -> None:
    """Also if another process holds the pipe into which the worker spoke."""
    parent.worker.kill()
    assert parent.process.wait(60) != 0
