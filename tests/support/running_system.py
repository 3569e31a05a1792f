"""A whole Darkroom for a bench: `darkroom up` in a folder of its own, with limits and credits raised by settings."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.processes.process_states import read_state, state_path
from supervisor.security.tokens import make_user_token

REPOSITORY = Path(__file__).parents[2]
SAMPLE = REPOSITORY / "examples" / "samples" / "portrait.png"
START_SECONDS = 120
STOP_SECONDS = 40

# Said in every report: what a bench changes of the defaults.
LIFTED = {
    "DARKROOM_CREDITS__ENABLED": "false",
    "DARKROOM_LIMITS__OPEN_TASKS_PER_USER": "0",
    "DARKROOM_LIMITS__RUNNING_TASKS_PER_USER": "0",
    "DARKROOM_LIMITS__STREAMS_PER_USER": "0",
    "DARKROOM_LOG_LEVEL": "warning",
}


@dataclass(frozen=True)
class RunningSystem:
    """url: where its web listens.  environ: what its commands need to reach it."""

    url: str
    data_dir: Path
    environ: dict[str, str]
    pid: int

    def upload_sample(self, user: str = "demo") -> str:
        """The id of the sample portrait, uploaded as this user."""
        secret = (self.data_dir / "secret").read_text().strip()
        headers = {
            "Content-Type": "image/png",
            "Authorization": f"Bearer {make_user_token(secret, user, ttl_seconds=60)}",
        }
        request = urllib.request.Request(f"{self.url}/v1/images", SAMPLE.read_bytes(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(json.load(response)["id"])

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows that a statement finds, or none; its changes are committed."""
        with contextlib.closing(sqlite3.connect(self.data_dir / "darkroom.db", timeout=15)) as connection:
            rows = connection.execute(statement).fetchall()
            connection.commit()
            return rows

    def pids(self) -> dict[str, int]:
        """{part: its process, 0 while there is none}."""
        state = read_state(state_path(self.data_dir)) or {"processes": []}
        return {each["name"]: int(each["pid"] or 0) for each in state["processes"]}


@contextlib.contextmanager
def running_system(
    folder_above: Path | None = None,
    log: Path | None = None,
    python_path: Sequence[Path] = (),
    config: Path | None = None,
    **settings: str,
) -> Iterator[RunningSystem]:
    """`darkroom up` until the block ends.  log: where its stderr goes.  settings: names without DARKROOM_.

    python_path: folders that Python looks into, besides the repository.  config: a file of settings.
    """
    with (
        tempfile.TemporaryDirectory(prefix="dr-bench-", dir=folder_above) as folder,
        log.open("wb") if log else contextlib.nullcontext() as stderr,
    ):
        environ = {key: value for key, value in os.environ.items() if not key.startswith("DARKROOM_")}
        environ |= LIFTED | {f"DARKROOM_{name}": value for name, value in settings.items()}
        environ |= {
            "DARKROOM_DATA_DIR": folder,
            "DARKROOM_PORT": "0",
            "DARKROOM_CONFIG": str(config or ""),
            "PYTHONPATH": os.pathsep.join(map(str, (*python_path, REPOSITORY))),  # for bench.probe
        }
        darkroom = Path(sys.executable).with_name("darkroom")
        process = subprocess.Popen(
            [darkroom, "up"], env=environ, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder
        )
        try:
            url = _ready_url(process)
            yield RunningSystem(url, Path(folder), environ, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def probe_settings(folder_placeholder: str = "") -> dict[str, str]:
    """Settings of a task type `probe` with a provider that records when it is called."""
    return {
        "TASKS__probe__PROVIDER": "probe",
        "PROVIDERS__probe__KIND": "python",
        "PROVIDERS__probe__OPTIONS__class": "bench.probe:ProbeProvider",
        "PROVIDERS__probe__OPTIONS__socket": folder_placeholder,
    }


def _ready_url(process: subprocess.Popen[str]) -> str:
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    stream = process.stdout

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    try:
        while line := lines.get(timeout=START_SECONDS):
            if line.startswith("ready "):
                return line.split()[1]
    except queue.Empty:
        raise RuntimeError(f"`darkroom up` was not ready within {START_SECONDS} s.") from None
    raise RuntimeError("`darkroom up` ended before it was ready.")
