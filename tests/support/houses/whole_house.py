"""A whole `darkroom up` of a test that kills its parts."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.waiting import eventually

DARKROOM = Path(sys.executable).with_name("darkroom")
ROOT = Path(__file__).parents[3]
PORTRAIT = ROOT / "examples/samples/portrait.png"

ENDLESS = {
    "DARKROOM_TASKS__endless__PROVIDER": "endless",
    "DARKROOM_PROVIDERS__endless__KIND": "python",
    "DARKROOM_PROVIDERS__endless__OPTIONS__class": "tests.support.providers.instant_provider:InstantProvider",
    "DARKROOM_PROVIDERS__endless__OPTIONS__wait_seconds": "3600",
}

needs_darkroom = pytest.mark.skipif(
    not DARKROOM.exists() and not os.environ.get("CI"), reason="darkroom is not installed beside this Python"
)


class House:
    """A running `darkroom up` in a folder of its own."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")},
            "DARKROOM_CONFIG": "",
            "DARKROOM_DATA_DIR": str(folder),
            "DARKROOM_PORT": "0",
            "DARKROOM_WORKER_THREADS": "2",
            "DARKROOM_CREDITS__SIGNUP_GRANT": "1000",
            "PYTHONPATH": str(ROOT),
            **ENDLESS,
            **environ,
        }
        with (folder / "up.err").open("w") as errors:
            self.process = subprocess.Popen(
                [str(DARKROOM), "up"], env=self.environ, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline().split()
        assert first and first[0] == "ready", self.said()
        self.address = first[1]

    def said(self) -> str:
        return (self.folder / "up.err").read_text()

    def state(self) -> dict[str, dict[str, Any]]:
        processes = json.loads((self.folder / "processes.json").read_text())["processes"]
        return {process["name"]: process for process in processes}

    def all_ready(self) -> bool:
        return all(process["state"] == "ready" for process in self.state().values())

    def everybody(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def post(self, path: str, body: bytes, kind: str = "application/json") -> dict[str, Any]:
        request = urllib.request.Request(self.address + path, body, {"Content-Type": kind})
        with urllib.request.urlopen(request) as response:
            return dict(json.load(response))

    def running_task(self) -> tuple[str, str]:
        """A task at work that does not end, and its worker's id."""
        image = self.post("/v1/images", PORTRAIT.read_bytes(), "image/png")["id"]
        order = {"type": "endless", "params": {"images": [image]}}
        task_id = str(self.post("/v1/tasks", json.dumps(order).encode())["task_id"])
        row = eventually(
            "the task is at work",
            lambda: self.one(
                "SELECT worker_id FROM task_queue WHERE id = ? AND status = 'processing'", task_id
            ),
        )
        return task_id, row[0]

    def one(self, sql: str, *params: Any) -> Any:
        with sqlite3.connect(self.folder / "darkroom.db", timeout=15) as connection:
            return connection.execute(sql, params).fetchone()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
