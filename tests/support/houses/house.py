"""A whole running `darkroom up`, as a person starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "examples" / "samples"
DARKROOM = Path(sys.executable).with_name("darkroom")

PACED = {  # a provider that moves in steps, so that there is time to look and to interfere
    "DARKROOM_TASKS__photography__PROVIDER": "paced",
    # the form offers the declared types
    "DARKROOM_TASKS__photography__SCENES": '["studio","sunset","night"]',
    "DARKROOM_PROVIDERS__paced__KIND": "python",
    "DARKROOM_PROVIDERS__paced__OPTIONS__class": "tests.support.providers.paced_provider:PacedProvider",
    "DARKROOM_PROVIDERS__paced__OPTIONS__steps": "20",
    "DARKROOM_PROVIDERS__paced__OPTIONS__step_seconds": "0.25",
}


class House:
    """Runs from its making to `end`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
        self.environ |= {
            "DARKROOM_CONFIG": "",
            "DARKROOM_DATA_DIR": str(folder),
            "DARKROOM_PORT": "0",
            "DARKROOM_WORKER_PROCESSES": "1",
            "DARKROOM_WORKER_THREADS": "4",
            "PYTHONPATH": str(ROOT),
            **settings,
        }
        with (folder / "up.err").open("w") as errors:
            self.process = subprocess.Popen(
                [str(DARKROOM), "up"], env=self.environ, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline().split()
        assert first and first[0] == "ready", (folder / "up.err").read_text()
        self.address = first[1]
        lets_demo_in = self.environ.get("DARKROOM_DEMO_USER") != "false" and "127.0.0.1" in self.address
        self.link = self.process.stdout.readline().rpartition(" ")[2].strip() if lets_demo_in else ""

    def web_pid(self) -> int:
        processes = json.loads((self.folder / "processes.json").read_text())["processes"]
        return int(next(process["pid"] for process in processes if process["name"] == "web") or 0)

    def one(self, sql: str, *params: Any) -> Any:
        """The first row of a query."""
        with contextlib.closing(sqlite3.connect(self.folder / "darkroom.db", timeout=15)) as connection:
            return connection.execute(sql, params).fetchone()

    def token(self, user: str, role: str = "user") -> str:
        """A user's token, by the command line."""
        command = [str(DARKROOM), "token", user, "--role", role]
        return subprocess.run(
            command, env=self.environ, capture_output=True, text=True, check=True
        ).stdout.strip()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
