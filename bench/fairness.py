"""Fairness between users and the error of the ETA: the real store and its SQL, with a simulated clock.

first: one slot; one user has 1,000 tasks waiting since 9:00, ten others submit one each at 9:05. Which runs next?
arrivals: one slot, 10,000 tasks of two users who flood the queue and forty who send one now and then. A user without
waiting tasks joins the round in progress, so at most one task of each other user may run before theirs. ETA: the same
users on four slots; the error of the estimate as a share of the real time.
"""

from __future__ import annotations

import heapq
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.settings import Credits, Limits, Settings
from supervisor.database.sqlite.sqlite_database import SqliteDatabase
from supervisor.schema.migrate import migrate
from supervisor.store.queue import dispatch, queue_snapshot, workers
from supervisor.store.tasks import claims, user_actions
from tests.support.workers import complete

ARRIVALS = 10_000
ETA_TASKS = 1_500
FLOODERS, LIGHT_USERS = 2, 40
RUN_SECONDS = 10.0
PARAMS = {"images": ["https://example.org/a.jpg"]}
TYPE = "photography"


def run() -> dict[str, object]:
    """{what: figures}."""
    return {
        "next after 1,000 tasks of o-big since 9:00 and one each of ten users since 9:05": _first(),
        f"{ARRIVALS} arrivals, one slot": _arrivals(),
        "ETA, four slots": _eta(),
    }


@dataclass
class _Said:
    """The answer to a submission. at, done_at: simulated seconds."""

    at: float
    position: int
    eta_seconds: int | None
    started_before: int = 0  # how many had started when it was submitted
    ran_before: int = 0  # how many started between that and its own start
    done_at: float = 0.0


class _Shop:
    """The store with one worker of so many slots, in simulated time."""

    def __init__(self, settings: Settings, database: SqliteDatabase, slots: int) -> None:
        self.settings, self._database, self._slots = settings, database, slots
        self._began = time.time()
        self.now = 0.0
        self.started: list[tuple[str, str]] = []  # (task id, user), in order
        self._ends: list[tuple[float, str, int]] = []
        database.write(lambda tx: workers.register(tx, "w", host="here", pid=1, slots=slots)).result()

    def go_to(self, now: float) -> None:
        """Move the database's clock."""
        self.now = now
        shift = self._began + now - time.time()

        def move(tx: dispatch.Transaction) -> None:
            tx.execute("UPDATE rule SET shift = ?", f"{shift:+.3f} seconds")
            tx.execute(f"UPDATE worker SET seen_at = {tx.now}")
            tx.execute(f"UPDATE dispatcher SET holder = 'd', ticked_at = {tx.now}, well_since = {tx.now}")

        self._database.write(move).result()

    def submit(self, user: str) -> tuple[str, _Said]:
        """A task, and the answer to its user."""

        def step(tx: dispatch.Transaction) -> dict[str, object]:
            view = user_actions.submit(tx, self.settings, user_actions.NewTask(user, TYPE, PARAMS))
            return queue_snapshot.read_order(tx, self.settings).placed(view)

        view = self._database.write(step).result()
        said = _Said(self.now, int(view["queue_position"]), view["eta_seconds"], len(self.started))  # type: ignore[call-overload]
        return str(view["task_id"]), said

    def start_what_fits(self, draw_run: random.Random) -> list[tuple[str, str]]:
        """Pick and claim; (task id, user) of those that begin now."""
        begun = []
        picked = self._database.write(lambda tx: dispatch.pick_and_claim(tx, self.settings)).result()
        for claim in map(claims.claim_of, picked.claims):
            run = draw_run.lognormvariate(0, 0.3) * RUN_SECONDS
            heapq.heappush(self._ends, (self.now + run, claim.task_id, claim.lease))
            begun.append((claim.task_id, claim.user))
        self.started += begun
        return begun

    def next_end(self) -> float | None:
        """When the next running task ends."""
        return self._ends[0][0] if self._ends else None

    def end_one(self) -> str:
        """The running task that ends first is complete; its id."""
        at, task_id, lease = heapq.heappop(self._ends)
        self.go_to(at)
        self._database.write(lambda tx: complete(tx, task_id, lease, [])).result()
        return task_id


@contextmanager
def _shop(slots: int) -> Iterator[_Shop]:
    with tempfile.TemporaryDirectory(prefix="dr-fair-") as folder:
        settings = Settings(
            data_dir=Path(folder),
            credits=Credits(enabled=False),
            limits=Limits(open_tasks_per_user=0, running_tasks_per_user=0, pending_tasks=0),
        )
        migrate(settings)
        database = SqliteDatabase(Path(folder) / "darkroom.db", synchronous="normal")
        try:
            yield _Shop(settings, database, slots)
        finally:
            database.close()


def _first() -> str:
    draw = random.Random(1)
    with _shop(1) as shop:
        for _ in range(1000):
            shop.submit("o-big")
        for _ in range(5):  # so far o-big is alone
            shop.start_what_fits(draw)
            shop.end_one()
        shop.go_to(shop.now + 300)
        for n in range(10):
            shop.submit(f"o-{n}")
        order = []
        for _ in range(13):
            order += [user for _, user in shop.start_what_fits(draw)]
            shop.end_one()
        return " ".join(order)


def _arrivals() -> str:
    """Each light user has one task at most in the queue; a flooder always has more."""
    draw = random.Random(2)
    ahead_of_light: list[int] = []
    beyond: Counter[str] = Counter()
    with _shop(1) as shop:
        said: dict[str, tuple[str, _Said, int]] = {}
        waiting: Counter[str] = Counter()
        arrived = 0
        while arrived < ARRIVALS:
            for _ in range(draw.choice((1, 1, 2))):  # a little more than is served
                light = f"o-{draw.randrange(LIGHT_USERS)}"
                is_light = draw.random() < 0.4 and not waiting[light]
                user = light if is_light else f"flooder-{draw.randrange(FLOODERS)}"
                task_id, told = shop.submit(user)
                said[task_id] = (user, told, sum(1 for count in waiting.values() if count))
                waiting[user] += 1
                arrived += 1
            for task_id, user in shop.start_what_fits(draw):
                waiting[user] -= 1
                user, told, users_waiting = said.pop(task_id)
                if user.startswith("o-"):
                    ran_before = len(shop.started) - 1 - told.started_before
                    ahead_of_light.append(ran_before)
                    beyond["more than one of each other user"] += ran_before > users_waiting + LIGHT_USERS
                    beyond["more than those who waited"] += ran_before > users_waiting
            if shop.next_end() is not None:
                shop.end_one()
        backlog = sum(waiting.values())
    return (
        f"{len(ahead_of_light)} tasks of light users, {backlog} of flooders still waiting; before a light one ran "
        f"p50 {statistics.median(ahead_of_light):.0f}, at most {max(ahead_of_light)} others; "
        f"{beyond['more than those who waited']} had more before them than users waited when they came"
    )


def _eta() -> str:
    draw = random.Random(3)
    with _shop(4) as shop:
        said: dict[str, _Said] = {}
        waiting: Counter[str] = Counter()
        had_others: set[str] = set()

        def start() -> None:
            for task_id, user in shop.start_what_fits(draw):
                waiting[user] -= 1
                said[task_id].ran_before = len(shop.started) - 1 - said[task_id].started_before

        for _ in range(ETA_TASKS):
            next_arrival = shop.now + draw.expovariate(4 / RUN_SECONDS * 1.02)
            while (end := shop.next_end()) is not None and end <= next_arrival:
                said[shop.end_one()].done_at = shop.now
                start()
            shop.go_to(next_arrival)
            user = f"o-{draw.randrange(LIGHT_USERS)}"
            task_id, told = shop.submit(user)
            said[task_id] = told
            if waiting[user]:
                had_others.add(task_id)
            waiting[user] += 1
            start()
        waited = [
            (task_id in had_others, each)
            for task_id, each in said.items()
            if each.done_at and each.eta_seconds is not None and each.position > 0
        ]
    return "; ".join(
        f"{who}: {_errors([each for others, each in waited if others is wanted])}"
        for who, wanted in (("with nothing else waiting", False), ("with others of theirs waiting", True))
    )


def _errors(waited: list[_Said]) -> str:
    errors = [
        (float(each.eta_seconds or 0) - took) / took for each in waited for took in (each.done_at - each.at,)
    ]
    off = [abs(error) for error in errors]
    overtaken = [each.ran_before - each.position for each in waited]
    return (
        f"{len(waited)} tasks, ETA off by p50 {statistics.median(off):.0%}, p90 "
        f"{statistics.quantiles(off, n=10)[8]:.0%}, on average {statistics.mean(errors):+.0%}, overtaken by p50 "
        f"{statistics.median(overtaken):.0f} who came later"
    )
