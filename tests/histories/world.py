"""One history: the parts, the people, the services and the faults, all drawn from one seed."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import functools
import json
import random
import sqlite3
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from actors.worker.worker import Running
from config.settings import Settings
from supervisor.core import ids
from supervisor.core.errors import Fault
from supervisor.database.interface.database import Database, is_postgres
from supervisor.database.open_database import open_database
from supervisor.objects.open_store import open_file_store
from supervisor.store.tasks import images
from tests.histories import broker, parts
from tests.histories.blocking import Blocking
from tests.histories.clock import SqliteOfTheWorld, WorldClock
from tests.histories.door import Door
from tests.histories.faults import Troubles
from tests.histories.model import Model
from tests.histories.parts import DispatcherPart, WorkerPart
from tests.histories.people import USERS, People
from tests.histories.readers import Reader
from tests.histories.services import Adapter, LookingUpAdapter, ReportingAdapter, Service
from tests.histories.virtual_loop import FIRST_MOMENT, Process, VirtualLoop, current_process
from tests.support.databases import PlainPostgres, fresh_settings

_WHOLE_EVERY = 150  # transactions
_KEPT_STEPS = 400
EVERY_LIMIT_SECONDS = 1800.0  # in which a task ends that nothing goes wrong for
_REAL_TIME = (
    "supervisor.postgres",
    "supervisor.core.throttle",
)  # they wait for a server, and not in our time


@dataclasses.dataclass(frozen=True)
class Profile:
    """What kind of history it is."""

    seconds_between_wishes: float
    seconds_between_troubles: float
    slow: float  # share of transactions that take seconds


def settings_of(folder: Path, kind: str, draw: random.Random) -> Settings:
    """Types and providers of every kind, with limits small enough to be met."""
    twice = {"may_bill_twice": True}
    providers = {
        "cheap": {"kind": "http", **twice},
        "sync": {"kind": "http", "may_bill_twice": False},
        "remote": {"kind": "http", "may_bill_twice": False, "limits": {"concurrency": draw.choice((0, 3))}},
        "reporting": {"kind": "http", "may_bill_twice": False},
        "looked": {
            "kind": "http",
            "may_bill_twice": draw.random() < 0.3,
            "limits": {"rps": draw.choice((0, 2))},
        },
    }
    common = {
        "time_limit_seconds": 60, "ai_timeout_seconds": 20, "remote_limit_seconds": 300, "expire_seconds": 3000,
    }  # fmt: skip
    tasks: dict[str, Any] = {
        name: {**common, "provider": name, "max_running": draw.choice((0, 0, 2, 3))} for name in providers
    }
    tasks["free"] = {**common, "provider": "cheap", "cost_credits": 0}
    tasks["staged"] = {
        **common,
        "max_running": draw.choice((0, 2, 4)),
        "resume_on_retry": draw.random() < 0.8,
        "cost_credits": 3,
        "steps": [
            {
                "name": "prepare",
                "provider": draw.choice(("cheap", "sync")),
                "kept_credits": draw.choice((0, 1)),
            },
            {
                "name": "paint",
                "provider": draw.choice(("remote", "reporting", "looked")),
                "fallback": ["cheap"],
                "kept_credits": draw.choice((0, 1)),
                "weight": 5,
            },
            {
                "name": "finish",
                "provider": draw.choice(("sync", "cheap", "looked")),
                "for_each": "${steps.paint.images}",
            },
        ],
    }
    return fresh_settings(
        folder, kind=kind, tasks=tasks, providers=providers, worker_threads=3, drain_seconds=5,
        credits={"enabled": True, "signup_grant": 1_000_000},
        limits={"running_tasks_per_user": draw.choice((0, 3, 4)), "open_tasks_per_user": 30},
        retention={"task_days": draw.choice((0, 0.02)), "orphan_days": 0}, feed_retention_seconds=600,
    )  # fmt: skip


class World:
    """One history.  Use it as a context, then `live`.  ignoring: a pattern of broken promises that do not end it."""

    def __init__(self, folder: Path, kind: str, seed: int, ignoring: str = "") -> None:
        self.folder, self.kind, self.seed, self.ignoring = folder, kind, seed, ignoring
        self.draw = random.Random(f"{seed}-{kind}")
        self.is_calm = self.is_over = False
        self.loop = VirtualLoop(self.draw)
        self.loop.set_exception_handler(self._heard_exception)
        self.clock = WorldClock(self.loop)
        self.settings = settings_of(folder, kind, self.draw)
        self.is_postgres = is_postgres(self.settings.database_url)
        self.profile = Profile(
            self.draw.choice((0.7, 2.0)),
            self.draw.choice((8.0, 25.0, 90.0)),
            self.draw.choice((0.005, 0.02, 0.05)),
        )
        self.database_away_until = 0.0
        self.disturbed_at = 0.0
        self.steps: collections.deque[str] = collections.deque(maxlen=_KEPT_STEPS)
        self.transactions = 0
        self.workers: list[WorkerPart] = []
        self.dispatchers: list[DispatcherPart] = []
        self.blockings: list[Blocking] = []
        self._born = 0
        self._ended: asyncio.Future[None] = self.loop.create_future()
        self._carried: asyncio.Future[None] | None = None

    # --- making and ending ---

    def __enter__(self) -> World:
        self._open = contextlib.ExitStack()
        self._patch()
        self._connect()
        self.files = open_file_store(self.settings)
        self.web = Process("web")
        self.doors = {"web": Door(self, self.web)}
        self.doors["supervisor"] = Door(self, Process("supervisor"))
        self.services = {
            "cheap": Service(self, "cheap", remote=False, reports=False, one_by_one=False),
            "sync": Service(self, "sync", remote=False, reports=False, one_by_one=True),
            "remote": Service(self, "remote", remote=True, reports=False, one_by_one=False),
            "reporting": Service(self, "reporting", remote=True, reports=True, one_by_one=True),
            "looked": Service(self, "looked", remote=True, reports=False, one_by_one=True),
        }
        self.types = tuple(name for name in self.settings.tasks if name not in ("photography", "fitting"))
        self.people, self.broker, self.troubles = People(self), broker.Broker(self), Troubles(self)
        self.model = Model(self)
        self.readers = [Reader(self, user) for user in USERS for _ in range(2)]
        self._upload()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        asyncio.events._set_running_loop(None)
        for blocking in self.blockings:
            blocking.end()
        for task in list(self.loop.unfinished):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            with contextlib.suppress(BaseException):
                task.get_coro().close()  # type: ignore[union-attr]
        self.loop.close()
        self._plain.close()
        self.database.close()
        self.clock.close()
        self._open.close()

    def _patch(self) -> None:
        """The clock, chance, ids and the log are the world's own."""
        virtual = types.SimpleNamespace(
            **{**vars(time), "monotonic": self.loop.time, "time": lambda: self.clock.nanoseconds() / 1e9}
        )
        for name, module in list(sys.modules.items()):
            is_ours = name.startswith(("actors.", "supervisor.")) and not name.startswith(_REAL_TIME)
            if is_ours and getattr(module, "time", None) is time:
                self._open.enter_context(mock.patch.object(module, "time", virtual))
        chance = types.SimpleNamespace(urandom=self.draw.randbytes)
        moment = types.SimpleNamespace(time_ns=self.clock.nanoseconds)
        self._open.enter_context(mock.patch.multiple(ids, os=chance, time=moment))
        random.seed(self.seed)
        process = types.SimpleNamespace(
            environ={}, getpid=lambda: 1, kill=lambda pid, number: parts.end_of_process()
        )
        self._open.enter_context(mock.patch("actors.worker.worker.os", process))
        self._open.enter_context(
            mock.patch.object(Running, "__hash__", lambda running: self._number_of(running))
        )
        self._open.enter_context(mock.patch("os.fsync", lambda descriptor: None))  # power is never lost here
        broker.Sender.world = self
        self._open.enter_context(mock.patch("actors.dispatcher.dispatcher.ClaimSender", broker.Sender))
        self._open.enter_context(
            mock.patch.multiple("actors.dispatcher.dispatcher", TICK_SECONDS=1.0, TAKE_OVER_SECONDS=3.2)
        )
        self._open.enter_context(
            mock.patch(
                "supervisor.services.undelivered_claims.open_lists",
                lambda settings: self.broker.claim_lists(),
            )
        )
        before = structlog.get_config()
        self._open.callback(lambda: structlog.configure(**before))
        structlog.configure(processors=[self._log], cache_logger_on_first_use=False)

    def _number_of(self, running: Running) -> int:
        """Its hash: a set of what runs is in the same order in each run."""
        known = vars(running)
        if "number" not in known:
            known["number"] = next(self.loop.numbers)
        return int(known["number"])

    def _connect(self) -> None:
        if self.is_postgres:
            self.clock.show_to_postgres(self.settings.database_url)
            self.database: Database = open_database(self.settings)
            self._plain: Any = PlainPostgres(self.settings.database_url)
        else:
            self.database = SqliteOfTheWorld(
                self.settings.database_url.removeprefix("sqlite:///"), self.clock
            )
            self._plain = sqlite3.connect(self.folder / "darkroom.db", timeout=15, isolation_level=None)
            self._plain.execute("PRAGMA synchronous = off")
            self.clock.show_to_sqlite(self._plain)
        self.by_sql("UPDATE rule SET signup_grant = ?", self.settings.credits.signup_grant)

    def _upload(self) -> None:
        for user in USERS:
            path = self.folder / "files" / "uploads" / f"{user}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"a photo")
            new = images.NewImage(f"image-{user}", user, f"uploads/{user}.jpg", 4, 3, 7, "00")
            self.clock.tell()
            self.database.write_now(lambda tx, new=new: images.add(tx, new))

    # --- what the others use ---

    def transact(self, process: Process | None, kind: str, step: Callable[[Any], Any]) -> Any:
        """One transaction of a process, at this moment."""
        self.transactions += 1
        self.loop.pass_time(0.001)
        self.clock.tell()
        if kind == "read":
            return self.database.read(step)
        self.note(f"{process} {name_of(step)}".replace("<locals>.", ""))
        result = self.database.write_now(step)
        if not self.is_over:
            self.model.after(process)
            if self.transactions % _WHOLE_EVERY == 0:
                self.model.whole()
        return result

    def by_sql(self, sql: str, *params: Any) -> None:
        """What a program writes that knows nothing of ours."""
        self.clock.tell()
        self._plain.execute(sql, params)
        if hasattr(self, "model"):
            self.note(f"by SQL: {sql} {params}")
            self.model.after(None)

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """What a program reads."""
        return list(self._plain.execute(sql, params).fetchall())

    @staticmethod
    def json(value: Any) -> str:
        return json.dumps(value)

    def chance(self, share: float) -> bool:
        """Whether something that goes wrong so often goes wrong now."""
        return not self.is_calm and self.draw.random() < share

    def delay(self) -> float:
        """How long a commit, or its answer, takes: mostly no time, sometimes longer than every limit."""
        if self.is_calm:
            return 0.001
        lot = self.draw.random()
        if lot < 0.85:
            return 0.01 * self.draw.random()
        if lot < 1 - self.profile.slow:
            return 0.3 * self.draw.random()
        return self.draw.choice((4.0, 20.0, 90.0, 400.0)) * self.draw.random()

    async def line_delay(self) -> None:
        """How long a request to a service is on its way."""
        seconds = self.draw.choice((0.05, 0.05, 0.05, 1.0, 4.0, 18.0)) * self.draw.random()
        await asyncio.sleep(0.01 if self.is_calm else seconds)

    def blocking(self, process: Process, function: Callable[[], Any]) -> Blocking:
        """Run blocking code as a part of a process."""
        self.blockings = [each for each in self.blockings if not each.done.done() or each.is_alive]
        self.blockings.append(Blocking(self.loop, process, function))
        return self.blockings[-1]

    def adapters(self) -> dict[str, Any]:
        """The providers of one process."""
        again = self.settings.providers_that_may_bill_twice
        kinds = {"reporting": ReportingAdapter, "looked": LookingUpAdapter}
        return {
            name: kinds.get(name, Adapter)(service, may_bill_twice=name in again)
            for name, service in self.services.items()
        }

    def worker_of(self, process: Process | None) -> WorkerPart | None:
        """The worker that a process is, if it is one."""
        return next((each for each in self.workers if each.process is process and each.is_up), None)

    def start_worker(self) -> None:
        self._born += 1
        self.workers = [each for each in self.workers if not each.process.is_dead]
        self.workers.append(WorkerPart(self, f"worker-{self._born}"))

    def start_dispatcher(self) -> None:
        self._born += 1
        self.dispatchers = [each for each in self.dispatchers if not each.process.is_dead]
        self.dispatchers.append(DispatcherPart(self, f"dispatcher-{self._born}"))

    def ring(self) -> None:
        """Something is carried by the broker."""
        if self._carried is not None and not self._carried.done():
            self._carried.set_result(None)

    async def something_carried(self) -> None:
        """Until there is."""
        self._carried = self.loop.create_future()
        await self._carried

    def stop(self) -> None:
        """End the history now."""
        if not self._ended.done():
            self._ended.set_result(None)

    def note(self, sentence: str) -> None:
        """One line of the history's record."""
        self.steps.append(f"{self.loop.time() - FIRST_MOMENT:10.3f} {sentence}")

    # --- the history ---

    def live(self, seconds: float, *, rounds: int = 1_000_000, troubled_seconds: float = 900.0) -> list[str]:
        """Rounds of trouble and calm for so many real seconds; the promises that were broken.

        troubled_seconds: of the world's own time, in a round.
        """
        until = time.perf_counter() + seconds

        async def all_rounds() -> None:
            for number in range(rounds):
                if number and time.perf_counter() > until:
                    break
                await self._round(troubled_seconds)
            self.stop()

        async def history() -> None:
            living = asyncio.ensure_future(all_rounds())
            await self._ended
            if living.done() and living.exception() is not None:
                raise living.exception()  # type: ignore[misc]

        self.loop.in_world(0, lambda: None)
        self.loop.run_until_complete(history())
        return self.model.promises

    async def _round(self, troubled_seconds: float) -> None:
        self.is_calm = False
        for _ in range(2):
            self.start_dispatcher()
            self.start_worker()
        house = [
            asyncio.ensure_future(work)
            for work in (self.broker.run(), self.troubles.supervise(), self._sweep_now_and_then())
        ]
        outside = [
            asyncio.ensure_future(work)
            for work in (self.people.run(), self.troubles.run(), *(each.run() for each in self.readers))
        ]
        await asyncio.sleep(troubled_seconds)
        self.note("calm")
        self.is_calm = True
        for each in outside:
            each.cancel()
        self.troubles.end()
        await self._until_all_ends()
        self.model.at_rest()
        for each in house:
            each.cancel()
        for part in (*self.workers, *self.dispatchers):
            part.process.is_dead = True
        self.by_sql("UPDATE worker SET state = 'dead' WHERE state IN ('live','draining')")

    async def _until_all_ends(self) -> None:
        """At most as long as every limit lets things take, from when the last task became due.

        An hour that a user has named may come while it is calm, and its task has its whole time like any other.
        """
        due: set[str] = set()
        end = self.loop.time() + EVERY_LIMIT_SECONDS
        while self.loop.time() < end:
            await asyncio.sleep(5.0)
            unfinished = {each.id for each in self.model.unfinished()}
            if not unfinished <= due:
                due |= unfinished
                end = self.loop.time() + EVERY_LIMIT_SECONDS
            if not unfinished and not self._something_runs():
                await self._all_hear_of_it()
                if not self.model.unfinished():  # or one became due meanwhile
                    return

    def _something_runs(self) -> bool:
        open_jobs = self.rows(
            "SELECT 1 FROM remote_job WHERE state IN ('submitting','waiting') AND cancel_wanted = 0"
        )
        living = [part for part in self.workers if part.is_up and not part.process.is_dead]
        return bool(open_jobs) or any(part.worker.running for part in living)

    async def _all_hear_of_it(self) -> None:
        """Heartbeats report free slots, and readers of the feed reach its end."""
        await asyncio.sleep(10.0)
        for reader in self.readers:
            if self.model.knows(reader.user):
                with contextlib.suppress(Fault):
                    await reader.catch_up()

    async def _sweep_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(60.0 if self.is_calm else self.draw.uniform(10, 90))
            if not self.troubles.all_are_away:
                process = Process("sweep")
                door = Door(self, process)
                by_hand = self.draw.random() < 0.2
                self.blocking(process, lambda door=door, by_hand=by_hand: self._sweep(door, by_hand))

    def _sweep(self, door: Door, by_hand: bool) -> None:
        try:
            parts.run_sweep(self, door, by_hand)
        except Fault as fault:
            self.note(f"the sweep ended: {fault}")
        except Exception as error:  # noqa: BLE001  judged by the model
            self.model.heard_error(current_process.get() or self.web, "a sweep", error)

    # --- what is heard ---

    def _log(self, _: Any, method: str, event: dict[str, Any]) -> Any:
        said = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "exc_info"))
        error = sys.exc_info()[1] if method == "exception" else event.get("exc_info")
        self.note(f"{current_process.get()} log {event.get('event')} {said} {error or ''}".rstrip())
        if isinstance(error, BaseException) and not isinstance(error, Fault) and str(error) != "a bug":
            self.model.broken(f"{event.get('event')}: {type(error).__name__}: {error} ({said})")
        if event.get("event") == "dispatch_failed" and "database" not in str(event.get("reason")):
            self.model.broken(f"a dispatcher's round failed: {event.get('reason')}")
        raise structlog.DropEvent

    def _heard_exception(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.is_over or isinstance(error, Fault) or str(error) == "a bug":
            return
        self.model.broken(f"{context.get('message')}: {type(error).__name__}: {error}")


def name_of(step: Any) -> str:
    """What a transaction is called in the steps that are shown."""
    while isinstance(step, functools.partial):
        step = step.func
    return str(getattr(step, "__qualname__", None) or getattr(step, "__name__", step))


@contextlib.contextmanager
def world_of(folder: Path, kind: str, seed: int, ignoring: str = "") -> Iterator[World]:
    """A history of this seed on this kind of database, in an empty folder."""
    with World(folder, kind, seed, ignoring) as world:
        yield world
