"""A whole Darkroom for tests and benches: `darkroom up` in a folder of its own, and what is asked of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from supervisor.processes.parent_death import dying_with_us
from supervisor.processes.process_states import read_state, state_path
from supervisor.security.tokens import make_user_token
from tests.support.repository import ROOT
from tests.support.waiting import eventually

REPOSITORY = ROOT
DARKROOM = Path(sys.executable).with_name("darkroom")
SAMPLES = ROOT / "examples" / "samples"
SAMPLE = SAMPLES / "portrait.png"
START_SECONDS = 240  # it takes two with nothing else to do, and has taken more than 120 at load 45
STOP_SECONDS = 40
FINAL = ("completed", "failed", "cancelled")

# Said in every report: what a bench changes of the defaults.
LIFTED = {
    "DARKROOM_CREDITS__ENABLED": "false",
    "DARKROOM_LIMITS__OPEN_TASKS_PER_USER": "0",
    "DARKROOM_LIMITS__RUNNING_TASKS_PER_USER": "0",
    "DARKROOM_LIMITS__STREAMS_PER_USER": "0",
    "DARKROOM_LOG_LEVEL": "warning",
}

# A worker of four slots, and a provider that moves in steps, so that there is time to look and to interfere.
PACED = {
    "WORKER_PROCESSES": "1",
    "WORKER_THREADS": "4",
    "TASKS__photography__PROVIDER": "paced",
    "TASKS__photography__SCENES": '["studio","sunset","night"]',
    "PROVIDERS__paced__KIND": "python",
    "PROVIDERS__paced__OPTIONS__class": "tests.support.providers.paced_provider:PacedProvider",
    "PROVIDERS__paced__OPTIONS__steps": "20",
    "PROVIDERS__paced__OPTIONS__step_seconds": "0.25",
}


def _is_stopped_between_writes(pid: int) -> bool:
    os.kill(pid, signal.SIGSTOP)
    eventually(f"{pid} is stopped", lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    # SQLite's WAL_WRITE_LOCK: https://www.sqlite.org/walformat.html#wal_locks
    locks = Path("/proc/locks")
    if not locks.exists() or not re.search(rf" WRITE {pid} \S+ 120 120$", locks.read_text(), re.MULTILINE):
        return True
    os.kill(pid, signal.SIGCONT)
    return False


class RunningSystem:
    """`darkroom up` on one data folder, from `start` to `stop` or `kill`, as often as a test likes.

    settings: names without DARKROOM_.  log: the file for its stderr, instead of this process's.  config: a file of
    settings.  python_path: folders that Python looks into, besides the repository.  environ: what commands need to
    reach it.  service: the AI service of its types, for the test.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str],
        *,
        log: Path | None = None,
        python_path: Sequence[Path] = (),
        config: Path | None = None,
        service: Any = None,
    ) -> None:
        self.data_dir, self.log, self.service = data_dir, log, service
        self.database = data_dir / "darkroom.db"
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        self.environ |= {
            "DARKROOM_PORT": "0",
            **{f"DARKROOM_{name}": value for name, value in settings.items()},
            "DARKROOM_DATA_DIR": str(data_dir),
            "DARKROOM_CONFIG": str(config or ""),
            "PYTHONPATH": os.pathsep.join(
                map(str, (*python_path, ROOT))
            ),  # for providers of tests and benches
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._samples: dict[str, str] = {}

    # --- as a whole ---

    def start(self) -> None:
        """Start it and wait until it is ready.  It dies with the thread that starts it."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as files:
            stdout = files.enter_context(self._told.open("wb"))
            stderr = files.enter_context(self.log.open("ab")) if self.log else None
            up = self.process = subprocess.Popen(
                dying_with_us([DARKROOM, "up"]),
                env=self.environ,
                stdout=stdout,
                stderr=stderr,
                cwd=self.data_dir,
            )
        is_over = lambda: self._line("ready ") or up.poll() is not None  # noqa: E731
        eventually("`darkroom up` is ready", is_over, START_SECONDS)
        assert up.poll() is None, (
            f"`darkroom up` ended with status {up.returncode} instead of being ready: {self.said()}"
        )

    def stop(self, seconds: float = STOP_SECONDS) -> int | None:
        """Ask it to stop; its exit status.  It is killed where that takes longer than so many seconds."""
        if self.process is None:
            return None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int | None:
        """SIGKILL to the supervisor alone."""
        if self.process is None:
            return None
        self.process.kill()
        return self.process.wait()

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def url(self) -> str:
        """Where its web listens."""
        return self._line("ready ").split()[1]

    @property
    def link(self) -> str:
        """The start link that it prints."""
        return str(eventually("the link is told", lambda: self._line("", "/start?key="))).split()[-1]

    @property
    def _told(self) -> Path:
        return self.data_dir / "up.out"

    def _line(self, start: str, has: str = "") -> str:
        lines = self._told.read_text().splitlines(keepends=True)
        return next(
            (line for line in lines if line.startswith(start) and has in line and line.endswith("\n")), ""
        )

    def said(self) -> str:
        """Its log."""
        return self.log.read_text() if self.log else "(its stderr)"

    # --- its processes and commands ---

    def parts(self) -> dict[str, dict[str, Any]]:
        """What the supervisor writes down of each of its processes."""
        state = read_state(state_path(self.data_dir)) or {"processes": []}
        return {each["name"]: each for each in state["processes"]}

    def pids(self) -> dict[str, int]:
        """{part: its process, 0 while there is none}."""
        return {name: int(each["pid"] or 0) for name, each in self.parts().items()}

    def all_ready(self) -> bool:
        parts = self.parts().values()
        return bool(parts) and all(each["state"] == "ready" for each in parts)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def worker_of(self, task_id: str) -> psutil.Process:
        """The worker process that has this task."""
        (row,) = self.all("SELECT pid FROM worker WHERE id = ?", self.task(task_id)["worker_id"])
        return psutil.Process(row["pid"])

    def in_mid_call(self, task_id: str) -> psutil.Process:
        """The worker process that waits for the answer of a FakeAiService."""
        eventually("the service is asked", lambda: self.service.asked_for(task_id) == 1)
        return self.worker_of(task_id)

    def freeze_workers(self) -> list[int]:
        """Stop the live workers by SIGSTOP, none of them within a write: with it the whole SQLite database would stand
        still.  Their pids.
        """
        pids = [pid for (pid,) in self.sql("SELECT pid FROM worker WHERE state = 'live'")]
        for pid in pids:
            eventually(f"{pid} is stopped and writes nothing", lambda: _is_stopped_between_writes(pid))  # noqa: B023
        return pids

    def darkroom(self, *argv: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
        """A command of this system, once it has ended.  more: of `subprocess.run`."""
        command = [DARKROOM, *argv]
        return subprocess.run(command, **{"env": self.environ, "capture_output": True, "text": True, **more})

    # --- by HTTP ---

    def token(self, user: str, role: Any = "user") -> str:
        secret = self.environ.get("DARKROOM_SECRET") or (self.data_dir / "secret").read_text().strip()
        return make_user_token(secret, user, role, ttl_seconds=3600)

    def ask(self, path: str, body: Any = None, *, user: str = "", method: str = "", **headers: str) -> Any:
        """The answer's JSON.  body: of a POST, a PNG's bytes or what becomes JSON.  user: the demo user without."""
        is_picture = isinstance(body, bytes)
        told = {"Content-Type": "image/png" if is_picture else "application/json", **headers}
        told |= {"Authorization": f"Bearer {self.token(user)}"} if user else {}
        data = body if is_picture or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, told, method=method or None)
        with urllib.request.urlopen(request, timeout=90) as answer:
            return json.loads(answer.read() or b"null")

    def upload_sample(self, user: str = "demo") -> str:
        """The id of the sample portrait, uploaded as this user."""
        return str(self.ask("/v1/images", SAMPLE.read_bytes(), user=user)["id"])

    def order(
        self,
        type_: str,
        count: int = 1,
        *,
        user: str = "demo",
        more: Any = None,
        headers: Any = None,
        **params: Any,
    ) -> str:
        """The id of a new task, of the sample portrait where params name no images.  more: beside params."""
        if "images" not in params:
            if user not in self._samples:
                self._samples[user] = self.upload_sample(user)
            params["images"] = [self._samples[user]]
        order = {"type": type_, "params": {"count": count, **params}, **(more or {})}
        return str(self.ask("/v1/tasks", order, user=user, **(headers or {}))["task_id"])

    def cancel(self, task_id: str, user: str = "") -> None:
        """As its user does it."""
        self.ask(f"/v1/tasks/{task_id}/cancel", {}, user=user)

    # --- what its SQLite database holds ---

    def all(self, sql: str, *params: Any) -> list[sqlite3.Row]:
        """Rows that a statement finds, or none; its changes are committed."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=15)) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(sql, params).fetchall()
            connection.commit()
            return rows

    def sql(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """The same, as tuples."""
        return [tuple(row) for row in self.all(statement, *params)]

    def one(self, statement: str, *params: Any) -> Any:
        """The first row as a tuple, or None."""
        return next(iter(self.sql(statement, *params)), None)

    def task(self, task_id: str) -> sqlite3.Row:
        return self.all("SELECT * FROM task_queue WHERE id = ?", task_id)[0]

    def booked(self, task_id: str) -> list[tuple[str, int]]:
        """(kind, amount) of its entries in the ledger, in order."""
        return self.sql("SELECT kind, amount FROM credit_entry WHERE task_id = ? ORDER BY id", task_id)

    def evidence(self, task_id: str) -> list[str]:
        """The states of a task's requests, in order."""
        rows = self.all("SELECT state FROM remote_job WHERE task_id = ? ORDER BY id", task_id)
        return [row["state"] for row in rows]

    def error_code(self, task_id: str) -> str | None:
        error = self.task(task_id)["error"]
        return json.loads(error)["code"] if error else None

    def reaches(self, task_id: str, *statuses: str, seconds: float = 90) -> str:
        """The status, once it is one of these."""
        is_there = lambda: self.task(task_id)["status"] in statuses  # noqa: E731
        eventually(f"{task_id} is {' or '.join(statuses)}", is_there, seconds)
        return str(self.task(task_id)["status"])

    def ends(self, task_id: str, seconds: float = 90) -> str:
        return self.reaches(task_id, *FINAL, seconds=seconds)


@contextlib.contextmanager
def running_system(
    folder_above: Path | None = None,
    log: Path | None = None,
    python_path: Sequence[Path] = (),
    config: Path | None = None,
    *,
    service: Any = None,
    lifted: bool = True,
    **settings: str,
) -> Iterator[RunningSystem]:
    """A RunningSystem in a temporary folder until the block ends.  lifted: over the settings LIFTED."""
    with tempfile.TemporaryDirectory(prefix="dr-", dir=folder_above) as folder:
        ours = {name.removeprefix("DARKROOM_"): value for name, value in LIFTED.items()} if lifted else {}
        system = RunningSystem(
            Path(folder), ours | settings, log=log, python_path=python_path, config=config, service=service
        )
        try:
            system.start()
            yield system
        finally:
            system.stop()


def probe_settings(folder_placeholder: str = "") -> dict[str, str]:
    """Settings of a task type `probe` with a provider that records when it is called."""
    return {
        "TASKS__probe__PROVIDER": "probe",
        "PROVIDERS__probe__KIND": "python",
        "PROVIDERS__probe__OPTIONS__class": "bench.probe:ProbeProvider",
        "PROVIDERS__probe__OPTIONS__socket": folder_placeholder,
    }
