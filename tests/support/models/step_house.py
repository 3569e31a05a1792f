"""A worker that makes tasks with steps in this process, by the product's own attempts and polls.

Its services count what they are asked for, and its database can end the worker's life at any of its commits: before the
commit, or after it and before its answer.  Then another worker goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from actors.attempts.attempt import run_attempt
from actors.entry.claim_handlers import WORK
from actors.files.scratch import open_scratch
from actors.providers.base import Accepted, ContentRejected, Done, Failed, Job, MadeImage
from actors.providers.base import Running as JobRuns
from actors.remote_jobs.poll_batch import poll_tasks
from actors.worker.worker import Running, Worker
from config.settings import Settings
from supervisor.objects.open_store import open_file_store
from supervisor.store.queue import dispatch as dispatching
from supervisor.store.queue import workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import images, user_actions
from tests.conftest import Clock, Store, claim_polls
from tests.support.databases import fresh_settings

USER = "o-1"
STEPS: list[dict[str, Any]] = [
    {"name": "cut_out", "provider": "local", "kept_credits": 2},
    {
        "name": "paint",
        "provider": "remote",
        "kept_credits": 3,
        "weight": 5,
        "prompt": "${params.prompt}, studio light",
    },
    {"name": "enlarge", "provider": "other", "for_each": "${steps.paint.images}"},
]
PRICE = 10  # of a picture
AGAIN_SECONDS = 400.0  # beyond every wait for another attempt, and every poll


class Killed(BaseException):
    """The worker's process ends here."""


class Asked(NamedTuple):
    """A request that arrived at a service."""

    task_id: str
    charge: int
    step: int
    pictures: tuple[int, ...]
    inputs: tuple[str, ...]
    params: Any


Fate = Callable[[Asked], Exception | None]


def settings_with(folder: Path, kind: str, **type_: Any) -> Settings:
    providers = {
        name: {"kind": "http", "may_bill_twice": False} for name in ("local", "remote", "other", "spare")
    }
    given = {"steps": STEPS, "cost_credits": PRICE, **type_}
    return fresh_settings(
        folder, kind=kind, providers=providers, tasks={"portrait": given}, credits={"signup_grant": 1000}
    )


def refuses(*pictures: tuple[int, int], error: Exception | None = None) -> Fate:
    """A service that refuses these: (step, picture)."""

    def fate(asked: Asked) -> Exception | None:
        return (error or ContentRejected("No.")) if (asked.step, asked.pictures[0]) in pictures else None

    return fate


class Local:
    """A service that answers at once.  fate: what becomes of a request."""

    paid = True
    may_bill_twice = False
    pictures_per_request = 1

    def __init__(self, asked: list[Asked], fate: Fate) -> None:
        self._asked, self._fate = asked, fate

    async def submit(self, job: Job, progress: Any) -> Done | Accepted:
        self._note(job)
        progress(50, "painting")
        return _made(job)

    def _note(self, job: Job) -> None:
        task_id, charge, _, step, _ = job.reference.split(".")
        inputs = tuple(path.read_text().split("\n")[0] for path in job.inputs)
        asked = Asked(task_id, int(charge), int(step), job.pictures, inputs, dict(job.params))
        self._asked.append(asked)
        if (error := self._fate(asked)) is not None:
            raise error

    async def close(self) -> None:
        """Nothing is open."""


class Remote(Local):
    """A service of remote jobs, each of them done when it is first polled."""

    hands_in = True

    async def submit(self, job: Job, progress: Any) -> Done | Accepted:
        self._note(job)
        return Accepted(f"job-of-{job.reference}")

    async def poll(self, remote: Accepted, job: Job) -> JobRuns | Done | Failed:
        return _made(job)

    async def cancel(self, remote: Accepted) -> bool:
        return True


def _made(job: Job) -> Done:
    """Pictures that say of which request they are."""
    made = []
    for n in job.pictures:
        path = job.folder / f"made-{n}.jpg"
        path.write_text(f"{job.reference} {n}\n")
        made.append(MadeImage(n, path, 4, 3))
    return Done(tuple(made))


class Mortal:
    """A worker's database.  dies_at: the number of the commit, from 1; 0 for never.  after: the commit is made."""

    def __init__(self, database: Any, dies_at: int, *, after: bool) -> None:
        self._database, self._dies_at, self._after = database, dies_at, after
        self.commits: list[str] = []
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def read_async(self, query: Any) -> Any:
        if self.is_dead:
            raise Killed
        return await self._database.read_async(query)

    async def write_async(self, step: Any, *, order_key: str | None = None) -> Any:
        if self.is_dead:
            raise Killed
        self.commits.append(getattr(step, "__name__", "batched"))
        if len(self.commits) != self._dies_at:
            return await self._database.write_async(step, order_key=order_key)
        self.is_dead = True
        if self._after:
            await self._database.write_async(step, order_key=order_key)
        raise Killed

    def write(self, step: Any, *, order_key: str | None = None) -> Any:
        return None if self.is_dead else self._database.write(step, order_key=order_key)


class StepHouse:
    """Make it inside a running loop.  providers: {name: whether it has remote jobs}."""

    def __init__(
        self, store: Store, clock: Clock, settings: Settings, fate: Fate = lambda asked: None
    ) -> None:
        self.store, self.clock, self.settings = store, clock, settings
        store.settings = settings
        self.asked: list[Asked] = []
        self.progress: list[int] = []
        self.services = {
            name: (Remote if name.startswith("remote") else Local)(self.asked, fate)
            for name in settings.providers
        }
        self._born = 0
        files = Path(settings.data_dir) / "files" / "uploads"
        files.mkdir(parents=True, exist_ok=True)
        (files / "photo.jpg").write_text("the photo\n")
        new = images.NewImage("photo", USER, "uploads/photo.jpg", 4, 3, 7, "00")
        store.write(lambda tx: images.add(tx, new))

    def order(self, type_: str, **params: Any) -> str:
        """A new task's id."""
        new = user_actions.NewTask(USER, type_, {"images": ["photo"], **params})
        return str(self.store.write(lambda tx: user_actions.submit(tx, self.settings, new))["task_id"])

    def change(self, **type_: Any) -> None:
        """Other settings of the type `portrait`, from now on."""
        changed = self.settings.tasks["portrait"].model_copy(update=type_)
        whole = type(changed).model_validate(changed.model_dump(exclude_unset=True))
        tasks = {**self.settings.tasks, "portrait": whole}
        self.settings = self.store.settings = self.settings.model_copy(update={"tasks": tasks})

    def retry(self, task_id: str) -> None:
        self.store.write(lambda tx: user_actions.resubmit(tx, self.settings, task_id))

    async def live(self, task_id: str, *, dies_at: int = 0, after: bool = False, until: str = "") -> Mortal:
        """Let workers make the task until its end, or until it is at a status.  dies_at: the commit of the first
        worker at which it dies.  Its database, with the names of its commits."""
        first = worker = self._worker(dies_at, after=after)
        for _ in range(200):
            row = self.store.task(task_id)
            self.progress.append(row["progress"])
            if row["status"] in ("completed", "failed", "cancelled") or row["status"] == until:
                return first.database  # type: ignore[return-value]
            if not await self._turn(worker) and not worker.database.is_dead:  # type: ignore[attr-defined]
                self.clock.advance(AGAIN_SECONDS)
                self.store.write(dispatching.ripen)
            if worker.database.is_dead:  # type: ignore[attr-defined]
                self.bury(worker.id)
                worker = self._worker(0, after=False)
        raise AssertionError(f"it does not end: {self.store.task(task_id)}")

    async def _turn(self, worker: Worker) -> bool:
        """What is due is done; whether anything was."""
        worker._renewed_at = time.monotonic()
        claimed = self.store.dispatch(worker.id)
        polls = self.store.write(lambda tx: claim_polls(tx, self.settings))
        for claim in claimed:
            with contextlib.suppress(Killed):
                await run_attempt(
                    worker, Running(claim.task_id, claim.lease, type_=claim.type, lane=claim.lane), claim
                )
        if polls and not worker.database.is_dead:  # type: ignore[attr-defined]
            runs = [(Running(claim.task_id, claim.lease, takes_slot=False), claim) for claim in polls]
            with contextlib.suppress(Killed):
                await poll_tasks(worker, runs)
            for running, _ in runs:
                if running.work is not None:
                    await asyncio.gather(running.work, return_exceptions=True)
        return bool(claimed or polls)

    def _worker(self, dies_at: int, *, after: bool) -> Worker:
        self._born += 1
        name = f"worker-{self._born}"
        self.store.write(lambda tx: workers.register(tx, name, host="here", pid=1, slots=10))
        database: Any = Mortal(self.store.database, dies_at, after=after)
        worker = Worker(self.settings, None, database, open_file_store(self.settings), WORK)  # type: ignore[arg-type]
        worker.id = name
        worker.providers = dict(self.services)
        worker.scratch = open_scratch(self.settings.data_dir, name, frozenset())
        return worker

    def bury(self, worker_id: str) -> None:
        """What the dispatcher does when it finds a worker dead."""
        careful = self.settings.providers_that_may_bill_twice
        self.store.write(
            lambda tx: tx.execute("UPDATE worker SET state = 'dead' WHERE id = :id", id=worker_id)
        )
        self.store.write(
            lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5, may_bill_twice=careful, deadlines=False)
        )
