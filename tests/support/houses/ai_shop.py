"""A running system with an AI service over HTTP, and a test's questions about both."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.request
from typing import Any

import psutil

from tests.support.fakes.fake_ai_service import FakeAiService
from tests.support.running_system import RunningSystem
from tests.support.waiting import eventually

SECRET = "sk-tell-nobody-456"


def http_type(service: FakeAiService, name: str, **changes: str) -> dict[str, str]:
    """Settings of a task type, and of its provider of the same name, on a service that answers at once.

    changes: of the provider.
    """
    provider = {
        "KIND": "http",
        "SECRETS__KEY": SECRET,
        "RESULT": '["$.image"]',
        "SUBMIT__URL": f"{service.url}/make",
        "SUBMIT__HEADERS": json.dumps({"Authorization": "Bearer ${secret.KEY}", "X-Task": "${task_id}"}),
        "SUBMIT__BODY": json.dumps({"image": "${input.0.data_uri}", "prompt": "${params.prompt}"}),
    }
    settings = {f"PROVIDERS__{name}__{key}": value for key, value in (provider | changes).items()}
    return settings | {f"TASKS__{name}__PROVIDER": name}


class Shop:
    """A running system and its service, and what a test wants to know of them."""

    def __init__(self, system: RunningSystem, service: FakeAiService) -> None:
        self.system, self.service = system, service
        self.database = system.data_dir / "darkroom.db"
        self.image = system.upload_sample()

    def order(self, type_: str, count: int = 1) -> str:
        """A new task's id."""
        body = {"type": type_, "params": {"images": [self.image], "prompt": "by the sea", "count": count}}
        request = urllib.request.Request(
            f"{self.system.url}/v1/tasks", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            return str(json.load(answer)["task_id"])

    def all(self, sql: str, *params: Any) -> list[sqlite3.Row]:
        with contextlib.closing(sqlite3.connect(self.database, timeout=15)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(sql, params).fetchall()

    def task(self, task_id: str) -> sqlite3.Row:
        return self.all("SELECT * FROM task_queue WHERE id = ?", task_id)[0]

    def asked(self, task_id: str) -> int:
        return sum(asked.headers["X-Task"] == task_id for asked in self.service.asked)

    def booked(self, task_id: str) -> list[tuple[str, int]]:
        rows = self.all("SELECT kind, amount FROM credit_entry WHERE task_id = ? ORDER BY id", task_id)
        return [tuple(row) for row in rows]

    def evidence(self, task_id: str) -> list[str]:
        return [
            row["state"]
            for row in self.all("SELECT state FROM remote_job WHERE task_id = ? ORDER BY id", task_id)
        ]

    def error_code(self, task_id: str) -> str | None:
        error = self.task(task_id)["error"]
        return json.loads(error)["code"] if error else None

    def in_mid_call(self, task_id: str) -> psutil.Process:
        """The worker process that waits for the service's answer."""
        eventually("the service is asked", lambda: self.asked(task_id) == 1)
        (row,) = self.all("SELECT pid FROM worker WHERE id = ?", self.task(task_id)["worker_id"])
        return psutil.Process(row["pid"])

    def ends(self, task_id: str, seconds: float = 90) -> str:
        eventually(
            f"{task_id} ends",
            lambda: self.task(task_id)["status"] in ("completed", "failed", "cancelled"),
            seconds,
        )
        return str(self.task(task_id)["status"])
