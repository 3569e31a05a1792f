"""A running system whose processes are known by their roles, and that leaves none behind.

It only touches its own processes: descendants of the `up` that it started. Each is known by its pid and the time of its
start, so a pid that the kernel has given to another program is left alone.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import psutil

from tests.support.chaos.plan import Role
from tests.support.running_system import STOP_SECONDS, RunningSystem
from tests.support.waiting import eventually

GONE_SECONDS = 8.0  # `darkroom --help`: if `up` dies in any way, every descendant is gone by then


class ChaosHouse(RunningSystem):
    """A RunningSystem in `folder/data` that comes back at the same address.  everybody: the processes ever seen."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.port = _free_port()
        super().__init__(folder / "data", {**settings, "PORT": str(self.port)}, log=folder / "up.log")
        self.folder = folder
        self.everybody: set[psutil.Process] = set()

    # --- as a whole ---

    def start(self) -> None:
        super().start()
        self.descendants()

    def stop(self, seconds: float = STOP_SECONDS) -> int | None:
        self.descendants()
        return super().stop(seconds)

    def collapse(self) -> float:
        """Kill `up` itself; seconds until the last of its descendants was gone."""
        self.descendants()
        killed_at = time.monotonic()
        self.kill()
        try:
            eventually(
                "every descendant of a killed `up` is gone", lambda: not self.left_behind(), GONE_SECONDS
            )
        except AssertionError as late:
            left = "; ".join(_description(process) for process in self.left_behind())
            raise AssertionError(f"{late}: {left}") from None
        return time.monotonic() - killed_at

    def stand_still(self) -> list[psutil.Process]:
        """Stop `up` and every process below it; returns the stopped ones.  Parents come first, so no process is started
        again."""
        stopped: list[psutil.Process] = []
        up = psutil.Process(self.pid)
        while new := [each for each in (up, *up.children(recursive=True)) if each not in stopped]:
            for process in new:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            stopped += new
        return stopped

    def end(self) -> None:
        """Leave no process behind, in any state."""
        self.kill()
        for process in self.left_behind():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def note(self, what: str) -> None:
        """Write each fault into the system's log, between the lines of the affected parts."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert self.log is not None
        with self.log.open("a") as log:
            log.write(f"{now} [chaos] {what}\n")

    # --- its processes ---

    def descendants(self) -> list[psutil.Process]:
        """Every process below `up` just now."""
        if not self.is_running:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            up = psutil.Process(self.pid)
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
            return [psutil.Process(self.pid)] if self.is_running else []
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
        return {pid for part, pid in self.pids().items() if pid and part.startswith(name)}


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
