"""A real database with tasks in every state, and its /metrics."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from metrics.exposition import Exposition
from metrics.web_metrics import WebMetrics
from supervisor.database.interface.database import Transaction
from supervisor.schema.migrate import migrate
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import claims, remote_wait, user_actions
from tests.conftest import Clock, Store, claim_now
from tests.support.databases import fresh_settings, open_quickly
from tests.support.workers import complete

WORKER = "01JAAAAAAAAAAAAAAAAAAAAAAA"

Labels = frozenset[tuple[str, str]]


class Told:
    """The samples of one scrape."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode()
        self.samples: dict[tuple[str, Labels], float] = {}
        self.helped: dict[str, str] = {}
        self.types: dict[str, str] = {}
        for line in self.text.splitlines():
            if line.startswith("# HELP "):
                _, _, name, help_ = line.split(" ", 3)
                assert name not in self.helped, f"{name} is told twice"
                self.helped[name] = help_
            elif line.startswith("# TYPE "):
                _, _, name, type_ = line.split(" ")
                self.types[name] = type_
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in self.samples, f"{key} is told twice"
                self.samples[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one series; fails when there is none."""
        return self.samples[name, frozenset(labels.items())]

    def label_sets(self, name: str) -> set[Labels]:
        return {labels for told, labels in self.samples if told == name}

    def nonzero(self, name: str) -> dict[Labels, float]:
        return {labels: value for (told, labels), value in self.samples.items() if told == name and value}


class Shop(Store):
    """A SQLite store and what happens in it.  Time passes by `wait`."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        chosen = fresh_settings(folder, **settings)
        migrate(chosen)  # some of the settings are rules of the database
        super().__init__(chosen, open_quickly(chosen))
        self.wait = Clock(chosen).advance
        self.leases: dict[str, int] = {}
        self._users = 0

    def sql(self, statement: str, *params: Any) -> None:
        self.write(lambda tx: tx.execute(statement, *params))

    def scrape(self, exposition: Exposition | None = None) -> Told:
        """The metrics of a web process that has just started."""
        fresh = exposition or Exposition(self.settings, self.database)
        return Told(fresh.render([WebMetrics().registry]))

    def worker(self, worker_id: str = WORKER, slots: int = 4) -> str:
        self.write(lambda tx: workers.register(tx, worker_id, host="h", pid=1, slots=slots))
        return worker_id

    def pending_task(self, type_: str = "photography", **more: Any) -> str:
        self._users += 1
        images = ["https://pictures.example/1.jpg", "https://pictures.example/2.jpg"]
        new = user_actions.NewTask(
            f"o-{self._users}", type_, {"images": images[: 2 if type_ == "fitting" else 1]}, **more
        )
        return str(self.write(lambda tx: user_actions.submit(tx, self.settings, new))["task_id"])

    def claimed_task(
        self,
        type_: str = "photography",
        *,
        worker: str = WORKER,
        deadline_seconds: float = 630,
        is_begun: bool = True,
    ) -> str:
        task_id = self.pending_task(type_)
        self.claim(task_id, worker, deadline_seconds, is_begun=is_begun)
        return task_id

    def claim(
        self, task_id: str, worker: str = WORKER, deadline_seconds: float = 630, *, is_begun: bool = True
    ) -> None:
        def step(tx: Transaction) -> None:
            claim = claim_now(tx, task_id, worker, deadline_seconds)
            self.leases[task_id] = claim.lease
            if is_begun:
                claims.mark_begun(tx, [claims.Begun(task_id, claim.lease, 0.0, deadline_seconds)])

        self.write(step)

    def handed_off_task(self, *, remote_limit_seconds: float = 3600) -> str:
        task_id = self.claimed_task()
        self.write(
            lambda tx: remote_wait.hand_off(
                tx,
                task_id,
                self.leases[task_id],
                poll_in_seconds=5,
                remote_limit_seconds=remote_limit_seconds,
            )
        )
        return task_id

    def picked_task(self) -> str:
        """A task that a round of the dispatcher has claimed, which counts its wait, and that has begun."""
        task_id = self.pending_task()
        (claim,) = self.dispatch()
        self.leases[task_id] = claim.lease
        self.write(lambda tx: claims.mark_begun(tx, [claims.Begun(task_id, claim.lease, 0.0, 630)]))
        return task_id

    def completed_task(self, task_id: str = "") -> str:
        task_id = task_id or self.claimed_task()
        made = [{"key": "results/1.png", "width": 1, "height": 1}]
        self.write(lambda tx: complete(tx, task_id, self.leases[task_id], made))
        return task_id

    def failed_task(self, task_id: str = "") -> str:
        task_id = task_id or self.claimed_task()
        self.write(lambda tx: claims.fail(tx, task_id, self.leases[task_id], "no_person_found", "Nobody."))
        return task_id

    def rescue(self) -> dict[str, int]:
        """Rescue everything; {reason: tasks taken}."""
        taken: dict[str, int] = {}
        while done := self.write(lambda tx: stuck_tasks.rescue(tx, chance=random.random)):
            for each in done:
                taken[each.reason.value] = taken.get(each.reason.value, 0) + 1
        return taken


@contextlib.contextmanager
def open_shop(folder: Path, **settings: Any) -> Iterator[Shop]:
    shop = Shop(folder, **settings)
    try:
        yield shop
    finally:
        shop.database.close()
