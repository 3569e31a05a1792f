"""A `darkroom up` that may be killed and started again on the same data, and its processes by their roles.

It only touches its own processes: descendants of the `up` that it started. Each is known by its pid and the time of its
start, so a pid that the kernel has given to another program is left alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil

from supervisor.processes.parent_death import dying_with_us
from tests.support.chaos.plan import Role
from tests.support.running_system import REPOSITORY

START_SECONDS = 90.0
GONE_SECONDS = 8.0  # `darkroom --help`: if `up` dies in any way, every descendant is gone by then
LOOK_SECONDS = 0.02

T = TypeVar("T")


class NotInTime(AssertionError):
    """A condition did not come true before its deadline; the text says which."""


def until(claim: str, condition: Callable[[], T], seconds: float, look_seconds: float = LOOK_SECONDS) -> T:
    """The first true answer of a condition.  Raises NotInTime."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() >= deadline:
            raise NotInTime(f"not within {seconds:g} s: {claim}")
        time.sleep(look_seconds)
    return answer


class House:
    """One data folder and, while it is started, its `darkroom up`.  settings: names without DARKROOM_."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.database = self.data_dir / "darkroom.db"
        self.log = folder / "up.log"
        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.settings = dict(settings)
        self.everybody: set[psutil.Process] = set()  # who was ever seen
        self._up: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        """What `darkroom` commands for this house run with."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
        environ |= {f"DARKROOM_{name}": value for name, value in self.settings.items()}
        return environ | {
            "DARKROOM_CONFIG": "",
            "DARKROOM_DATA_DIR": str(self.data_dir),
            "DARKROOM_PORT": str(self.port),
            "PYTHONPATH": str(REPOSITORY),  # for providers that stand in bench/ and tests/
        }

    # --- as a whole ---

    def start(self) -> None:
        """Start and wait until it is ready.  Call it from the main thread.  Raises NotInTime."""
        said = self.folder / "up.out"
        with said.open("wb") as out, self.log.open("ab") as log:
            self._up = subprocess.Popen(
                # A kill of this process must not leave a system running.
                dying_with_us([Path(sys.executable).with_name("darkroom"), "up"]),
                env=self.environ,
                cwd=self.folder,
                stdout=out,
                stderr=log,
            )
        up = self._up
        until(
            f"`darkroom up` is ready (see {self.log})",
            lambda: b"ready " in said.read_bytes() or up.poll() is not None,
            START_SECONDS,
        )
        if up.poll() is not None:
            raise NotInTime(
                f"`darkroom up` ended with status {up.returncode} instead of being ready: {self.log}"
            )
        self.descendants()

    @property
    def is_running(self) -> bool:
        return self._up is not None and self._up.poll() is None

    def terminate(self, seconds: float) -> int:
        """Ask it to stop; its exit status.  seconds: how long it may take.  Raises NotInTime."""
        assert self._up is not None
        self.descendants()
        self._up.terminate()
        try:
            return self._up.wait(seconds)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"`darkroom up` did not stop within {seconds:g} s of SIGTERM") from None

    def collapse(self) -> float:
        """Kill `up` itself; seconds until the last of its descendants was gone.  Raises NotInTime."""
        assert self._up is not None
        self.descendants()
        killed_at = time.monotonic()
        self._up.kill()
        self._up.wait()
        try:
            until("every descendant of a killed `up` is gone", lambda: not self.left_behind(), GONE_SECONDS)
        except NotInTime as late:
            left = "; ".join(_description(process) for process in self.left_behind())
            raise NotInTime(f"{late}: {left}") from None
        return time.monotonic() - killed_at

    def stand_still(self) -> list[psutil.Process]:
        """Stop `up` and every process below it; returns the stopped ones.  Parents come first, so no process is started
        again."""
        assert self._up is not None
        stopped: list[psutil.Process] = []
        up = psutil.Process(self._up.pid)
        while new := [each for each in (up, *up.children(recursive=True)) if each not in stopped]:
            for process in new:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped += new
        return stopped

    def end(self) -> None:
        """Leave no process behind, in any state."""
        if self.is_running:
            assert self._up is not None
            self._up.kill()
            self._up.wait()
        for process in self.left_behind():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def note(self, what: str) -> None:
        """Write each fault into the system's log, between the lines of the affected parts."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with self.log.open("a") as log:
            log.write(f"{now} [chaos] {what}\n")

    # --- its processes ---

    def descendants(self) -> list[psutil.Process]:
        """Every process below `up` just now."""
        if not self.is_running:
            return []
        assert self._up is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            up = psutil.Process(self._up.pid)
            found = up.children(recursive=True)
            self.everybody.update((up, *found))
            return found
        return []

    def left_behind(self) -> list[psutil.Process]:
        """The known processes that still run."""
        return [process for process in self.everybody if _lives(process)]

    def with_role(self, role: Role) -> list[psutil.Process]:
        """Living processes with a role, in a steady order."""
        if role is Role.HOUSE:
            assert self._up is not None
            return [psutil.Process(self._up.pid)] if self.is_running else []
        everybody = self.descendants()
        masters = self._named("worker-")
        workers = [p for p in everybody if _parent(p) in masters and not _is_helper(p)]
        if role is Role.MASTER:
            chosen = [p for p in everybody if p.pid in masters]
        elif role is Role.WORKER:
            chosen = workers
        elif role is Role.IMAGE_CHILD:
            chosen = [p for p in everybody if "actors.providers.warm.child_program" in _command(p)]
        elif role is Role.FORK_SERVER:
            chosen = [p for p in everybody if "programs/fork_server" in _command(p)]
        else:
            chosen = [p for p in everybody if p.pid in self._named(role.value)]
        return sorted((p for p in chosen if _lives(p)), key=lambda process: process.pid)

    def _named(self, name: str) -> set[int]:
        """Pids of the supervisor's children whose name begins so."""
        try:
            state = json.loads((self.data_dir / "processes.json").read_bytes())
        except (OSError, ValueError):
            return set()
        return {p["pid"] for p in state["processes"] if p["pid"] and p["name"].startswith(name)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.NoSuchProcess:
        return 0


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _description(process: psutil.Process) -> str:
    """The process's description, for a person who looks for the reason why it still runs."""
    try:
        with process.oneshot():
            age = time.time() - process.create_time()
            return f"{process.pid} {process.status()}, {age:.1f} s old, child of {process.ppid()}: {_command(process)}"
    except psutil.NoSuchProcess:
        return f"{process.pid}, gone since"


def _is_helper(process: psutil.Process) -> bool:
    """Whether it is Python's own helper for multiprocessing."""
    return "resource_tracker" in _command(process) or "forkserver" in _command(process)
