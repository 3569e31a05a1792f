"""Parts on one database, of which one worker offers a GPU.

The AI service notes what it did, so the rows are not asked.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.settings import Settings
from supervisor.database.interface.database import Database
from supervisor.database.open_database import open_database
from supervisor.schema.migrate import migrate
from supervisor.security.tokens import make_user_token
from tests.support.houses.parts import SECRET, Part, faulty_type
from tests.support.servers.broker_server import broker_server
from tests.support.servers.postgres_databases import give_back, take_database
from tests.support.waiting import eventually

GPU_SHARE = 4  # one in so many needs the GPU
GPU_SECONDS, PLAIN_SECONDS = 0.2, 0.4
SLOTS = 6
SAID_WITHIN_SECONDS = 20.0
BETWEEN_KILLS = 15  # tasks
ENDED = "task_queue WHERE status IN ('completed','failed','cancelled')"


@contextlib.contextmanager
def gpu_house(kind: str) -> Iterator[GpuHouse]:
    """The parts on a database of this kind, until the block ends."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp")))
        url = take_database() if kind == "postgresql" else f"sqlite:///{folder}/darkroom.db"
        if kind == "postgresql":
            stack.callback(give_back, url)
        broker = stack.enter_context(broker_server())
        opened = GpuHouse(folder, url, broker.address)
        stack.callback(opened.end)
        yield opened


class GpuHouse:
    """Two dispatchers, a web, and two workers, of which the one called `gpu` offers one."""

    def __init__(self, folder: Path, database_url: str, broker_url: str) -> None:
        self.folder, self.notes = folder, folder / "gpu-notes"
        self._settings = {
            "DATABASE_URL": database_url,
            "BROKER_URL": broker_url,
            "STORAGE_URL": f"file://{folder}/files",
            "HOST": "127.0.0.1",
            "PORT": "0",
            "CREDITS__ENABLED": "false",
            "LIMITS__RUNNING_TASKS_PER_USER": "0",
            "WORKER_THREADS": str(SLOTS),
            "TASKS__flux__NEEDS__gpu": "1",
            "TASKS__flux__INPUTS__IMAGES": "[0,1]",
            "TASKS__plain__INPUTS__IMAGES": "[0,1]",
            **faulty_type("flux", self.notes, wait_seconds=str(GPU_SECONDS)),
            **faulty_type("plain", folder / "plain-notes", wait_seconds=str(PLAIN_SECONDS)),
        }
        settings = Settings(data_dir=folder / "bench", database_url=database_url)
        migrate(settings)
        self.database: Database = open_database(settings)
        self.web = Part("web", folder / "web", self._settings)
        self.dispatchers = [self._dispatcher(n) for n in range(2)]
        self.cpu = Part("worker", folder / "cpu", self._settings)
        self.gpu = self._gpu_worker()
        eventually("both workers live", lambda: self._count("worker WHERE state = 'live'") == 2)

    def _dispatcher(self, number: int) -> Part:
        return Part("dispatcher", self.folder / f"dispatcher-{number}", self._settings)

    def _gpu_worker(self) -> Part:
        return Part("worker", self.folder / "gpu", self._settings | {"WORKER_OFFERS__gpu": "1"})

    def plain_waits(self, tasks: int, *, with_gpu: bool, kills: bool = False) -> list[float]:
        """Seconds from submission to first claim of the plain tasks, once all of the order is done.

        tasks: as many are ordered at once; without those for the GPU, the others are as many as they were.
        kills: meanwhile the dispatchers are killed in turn and started anew, each after some more tasks have ended.
        """
        types = ["flux" if n % GPU_SHARE == 0 else "plain" for n in range(tasks)]
        self.order([each for each in types if with_gpu or each == "plain"])
        turn = 0
        while not self._is_done():
            if kills:
                ended = self._count(ENDED)
                self.dispatchers[turn % 2].kill()
                self.dispatchers[turn % 2] = self._dispatcher(turn % 2)
                turn += 1
                more = min(ended + BETWEEN_KILLS, self._count("task_queue"))
                eventually("more tasks have ended", lambda: self._count(ENDED) >= more)  # noqa: B023  called at once
            time.sleep(0.1)  # between two looks
        rows = self.database.read(
            lambda tx: tx.all(
                f"""SELECT {tx.seconds_between("created_at", "processing_started_at")} AS waited
                    FROM task_queue WHERE type = 'plain' AND status = 'completed'"""
            )
        )
        assert len(rows) == types.count("plain"), "all complete"
        return [float(row["waited"]) for row in rows]

    def order(self, types: list[str]) -> list[str]:
        """As a program does it that knows SQL; the tasks' ids."""
        return [self._order_one(each) for each in types]

    def _order_one(self, type_: str) -> str:
        insert = (
            "INSERT INTO task_queue (user_openid, type, params) VALUES ('o-1', :type, :params) RETURNING id"
        )
        return str(self.database.write_now(lambda tx: tx.value(insert, type=type_, params='{"images":[]}')))

    def lose_the_gpu(self) -> tuple[float, float]:
        """(seconds until /ops says that no worker takes the type, seconds from the worker's return to its task's
        end)."""
        self._settings["PROVIDERS__flux__OPTIONS__wait_seconds"] = "3600"
        self.gpu.kill()
        self.gpu = self._gpu_worker()
        (task,) = self.order(["flux"])
        eventually("it runs", lambda: self._status(task) == "processing")
        killed_at = time.monotonic()
        self.gpu.kill()
        eventually("/ops says so", lambda: "no_worker_for_type" in self.troubles())
        said = time.monotonic() - killed_at
        self._settings["PROVIDERS__flux__OPTIONS__wait_seconds"] = "0"
        back_at = time.monotonic()
        self.gpu = self._gpu_worker()
        eventually("its task is done", lambda: self._status(task) == "completed")
        assert "no_worker_for_type" not in self.troubles()
        return said, time.monotonic() - back_at

    def troubles(self) -> set[str]:
        """Codes of what /ops says is wrong."""
        token = make_user_token(SECRET, "o-oncall", ttl_seconds=60, role="operator")
        request = urllib.request.Request(
            f"{self.web.url}/v1/ops/overview", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return {each["code"] for each in json.load(answer)["troubles"]}

    def most_at_once(self) -> int:
        """How many had the GPU at the same time, by the notes of the service itself."""
        most, at_it = 0, set[str]()
        for line in self.notes.read_text().splitlines():
            task, what = line.split()[:2]
            (at_it.add if what == "call" else at_it.discard)(task)
            most = max(most, len(at_it))
        return most

    def _is_done(self) -> bool:
        return self._count(ENDED) == self._count("task_queue")

    def _status(self, task_id: str) -> Any:
        return self.database.read(
            lambda tx: tx.value("SELECT status FROM task_queue WHERE id = :id", id=task_id)
        )

    def _count(self, of: str) -> int:
        return int(self.database.read(lambda tx: tx.value(f"SELECT count(*) FROM {of}")))

    def end(self) -> None:
        """Kill all parts."""
        for part in (*self.dispatchers, self.gpu, self.cpu, self.web):
            part.kill()
        self.database.close()
