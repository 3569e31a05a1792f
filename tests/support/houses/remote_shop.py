"""A running system with a service of remote jobs, and a test's questions about both."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.fakes.remote_service import RemoteService
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually


def remote_type(service: RemoteService, name: str, **changes: str) -> dict[str, str]:
    """Settings of a task type, and of its provider of the same name.  changes: of the type."""
    return {
        f"PROVIDERS__{name}__KIND": "python",
        f"PROVIDERS__{name}__OPTIONS__class": "bench.remote_provider:RemoteProvider",
        f"PROVIDERS__{name}__OPTIONS__url": service.url,
        f"PROVIDERS__{name}__ALLOW_PRIVATE_ADDRESSES": "true",  # so it is given the address of `up`
        f"TASKS__{name}__PROVIDER": name,
        f"TASKS__{name}__AI_TIMEOUT_SECONDS": "10",
        f"TASKS__{name}__TIME_LIMIT_SECONDS": "60",
    } | {f"TASKS__{name}__{key}": value for key, value in changes.items()}


class RemoteShop:
    """See the module."""

    def __init__(self, system: RunningSystem, service: RemoteService) -> None:
        self.system, self.service = system, service
        self.database = system.data_dir / "darkroom.db"
        self.image = system.upload_sample()

    def order(self, type_: str, count: int = 1, **params: Any) -> str:
        """A new task's id."""
        body = {"type": type_, "params": {"images": [self.image], "count": count, **params}}
        return str(self.post("/v1/tasks", body)["task_id"])

    def cancel(self, task_id: str) -> None:
        """As its user does it."""
        self.post(f"/v1/tasks/{task_id}/cancel", {})

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self.system.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=90) as answer:
            return dict(json.load(answer))

    def refusal(self, type_: str, **params: Any) -> tuple[int, str]:
        """The status and the pointer of an order that is refused."""
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.order(type_, **params)
        return refused.value.code, json.load(refused.value)["errors"][0]["pointer"]

    def report(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a report; the status of its answer."""
        request = urllib.request.Request(url, body, dict(headers), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    @contextlib.contextmanager
    def started_again(self) -> Iterator[None]:
        """`darkroom up` once more on the same data, until the block ends."""
        darkroom = Path(sys.executable).with_name("darkroom")
        up = subprocess.Popen([darkroom, "up"], env=self.system.environ, cwd=self.system.data_dir)
        try:
            yield
        finally:
            up.terminate()
            up.wait(30)

    def all(self, sql: str, *params: Any) -> list[sqlite3.Row]:
        with contextlib.closing(sqlite3.connect(self.database, timeout=15)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(sql, params).fetchall()

    def task(self, task_id: str) -> sqlite3.Row:
        return self.all("SELECT * FROM task_queue WHERE id = ?", task_id)[0]

    def evidence(self, task_id: str) -> list[str]:
        """The states of a task's requests, in order."""
        rows = self.all("SELECT state FROM remote_job WHERE task_id = ? ORDER BY id", task_id)
        return [row["state"] for row in rows]

    def asked(self, task_id: str) -> list[str]:
        """The providers that were asked for a task, in order."""
        rows = self.all("SELECT provider FROM remote_job WHERE task_id = ? ORDER BY id", task_id)
        return [row["provider"] for row in rows]

    def breakers(self) -> dict[str, str]:
        """{provider: its breaker}, of those that ever had trouble."""
        return {row["name"]: row["breaker"] for row in self.all("SELECT name, breaker FROM provider_state")}

    def booked(self, task_id: str) -> list[tuple[str, int]]:
        rows = self.all("SELECT kind, amount FROM credit_entry WHERE task_id = ? ORDER BY id", task_id)
        return [tuple(row) for row in rows]

    def error_code(self, task_id: str) -> str | None:
        error = self.task(task_id)["error"]
        return json.loads(error)["code"] if error else None

    def reaches(self, task_id: str, *statuses: str, seconds: float = 30) -> str:
        """The status, once it is one of these."""
        eventually(
            f"{task_id} is {' or '.join(statuses)}",
            lambda: self.task(task_id)["status"] in statuses,
            seconds,
        )
        return str(self.task(task_id)["status"])

    def ends(self, task_id: str, seconds: float = 30) -> str:
        return self.reaches(task_id, "completed", "failed", "cancelled", seconds=seconds)


@contextlib.contextmanager
def opened_remote_shop(*types: str, **settings: str) -> Iterator[RemoteShop]:
    """A system with these task types, each with its provider, on one service.  settings: without DARKROOM_."""
    with RemoteService() as service:
        made = {"CREDITS__ENABLED": "true", "CREDITS__SIGNUP_GRANT": "100000", "WORKER_PROCESSES": "1"}
        for name in types:
            made |= remote_type(service, name)
        with running_system(None, None, **(made | settings)) as system:
            yield RemoteShop(system, service)
