"""One run from the first start to the last stop: it applies the plan's faults while producers and recorders are
busy."""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jwt
import psutil

from bench import moved_clock
from bench.chaos.latency import Hit
from bench.chaos.producers import Producer, share_out
from bench.chaos.recorder import Recorder
from tests.support.chaos.chaos_house import ChaosHouse
from tests.support.chaos.chaos_settings import LEASE_SECONDS, Wish, settings_of
from tests.support.chaos.orders import USERS, Order, orders
from tests.support.chaos.plan import Absence, Act, ClockStep, Fault, Role, absences, clock_steps, plan
from tests.support.waiting import eventually

PRODUCERS = 6
BYSTANDERS = frozenset({Role.WEB, Role.SCHEDULER, Role.IMAGE_CHILD})  # no rescue needs them
CENSUS_SECONDS = 0.5  # between two looks at who is there
AFTERMATH_SECONDS = 5.0  # how long a killed part is felt, as a bystander's figures go
PRODUCERS_SECONDS = 90.0  # all of these: after the chaos, each a deadline and not a wait
FINAL_SECONDS = 300.0
FINAL_AFTER_POISON_SECONDS = 1200.0  # who died beside it MAX_ATTEMPTS times runs one at a time
HEARD_SECONDS = 60.0
WHOLE_SECONDS = 60.0
STOP_SECONDS = 60.0


@dataclasses.dataclass
class Seen:
    """What one run has shown; the database and the recorders say the rest."""

    orders: tuple[Order, ...] = ()
    done: Counter[str] = dataclasses.field(default_factory=Counter)
    missed: Counter[str] = dataclasses.field(default_factory=Counter)
    hits: list[Hit] = dataclasses.field(default_factory=list)
    collapse_seconds: list[float] = dataclasses.field(default_factory=list)
    restart_seconds: list[float] = dataclasses.field(default_factory=list)
    recorders: list[Recorder] = dataclasses.field(default_factory=list)
    tried_again: int = 0
    final_after_seconds: float = 0.0
    stop_seconds: float = 0.0
    faults: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def house_of(wish: Wish, *, keep: bool) -> Iterator[ChaosHouse]:
    """A house in a folder of its own, which stays there when the run raises.  keep: it stays in any case."""
    folder = Path(tempfile.mkdtemp(prefix=f"dk-chaos-{wish.seed}-"))
    house = ChaosHouse(folder, settings_of(wish))
    try:
        yield house
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        house.end()


def conduct(house: ChaosHouse, wish: Wish) -> Seen:
    """One run; returns its faults and results.  The house is stopped when this returns."""
    seen = Seen(orders=orders(wish.seed, wish.tasks, wish.seconds, wish.poison))
    house.start()
    secret = (house.data_dir / "secret").read_text().strip()
    # Without a time of issue: that would lie ahead once the clock is put back.
    never = int(time.time()) + 10 * 86_400
    tokens = {user: jwt.encode({"sub": user, "exp": never}, secret, "HS256") for user in USERS}
    images = {user: house.upload_sample(user) for user in USERS}
    seen.recorders = [Recorder(user, tokens[user], house.port) for user in USERS]
    for recorder in seen.recorders:
        recorder.start()
    eventually(
        "every recorder listens", lambda: all(each.first_seq is not None for each in seen.recorders), 30
    )
    began = time.monotonic()
    producers = [
        Producer(
            share,
            database=house.database,
            address=house.url,
            tokens=tokens,
            images=images,
            began=began,
        )
        for share in share_out(seen.orders, PRODUCERS)
    ]
    for producer in producers:
        producer.start()
    try:
        _chaos(house, wish, seen)
        _aftermath(house, wish, seen, producers)
    finally:
        for producer in producers:
            producer.giving_up.set()
        for each in seen.recorders:
            each.stop()
    for producer in producers:
        seen.tried_again += producer.tried_again
        seen.faults += producer.faults
    for recorder in seen.recorders:
        seen.faults += recorder.faults
        if recorder.first_seq != 0:
            seen.faults.append(f"{recorder.user} began to listen at seq {recorder.first_seq}")
    return seen


def _chaos(house: ChaosHouse, wish: Wish, seen: Seen) -> None:
    """Do what the plan says.  The plan's clock stands still while a killed house is started again."""
    faults = plan(wish.seed, wish.seconds)
    wounds = _Wounds(house, faults, seen)
    clock_zero = time.monotonic()
    events: list[Fault | Absence | ClockStep] = [*faults]
    if wish.absences:
        events += absences(wish.seed, wish.seconds)
    if wish.clock is not None:
        events += clock_steps(wish.seed, wish.seconds)
    for fault in sorted(events, key=lambda event: event.at):
        while (left := clock_zero + fault.at - time.monotonic()) > 0:
            wounds.heal_what_is_due()
            house.descendants()
            time.sleep(min(left, CENSUS_SECONDS, wounds.seconds_to_next()))
        stopped_at = time.monotonic()
        if isinstance(fault, ClockStep):
            assert wish.clock is not None
            house.note(str(fault))
            moved_clock.step(wish.clock, fault.ahead_seconds)
            seen.done["step clock"] += 1
        elif isinstance(fault, Absence):
            wounds.absence(fault)
            clock_zero += time.monotonic() - stopped_at
        elif fault.role is Role.HOUSE and fault.act is Act.KILL:
            wounds.collapse(fault)
            clock_zero += time.monotonic() - stopped_at
        else:
            wounds.inflict(fault)
    while wounds.seconds_to_next() < float("inf"):
        time.sleep(min(CENSUS_SECONDS, wounds.seconds_to_next()))
        wounds.heal_what_is_due()


class _Wounds:
    """Does faults and undoes the freezes among them when their time has come."""

    def __init__(self, house: ChaosHouse, faults: tuple[Fault, ...], seen: Seen) -> None:
        self._house, self._faults, self._seen = house, faults, seen
        self._frozen: list[tuple[float, int, psutil.Process]] = []
        self._number = itertools.count()

    def seconds_to_next(self) -> float:
        """Seconds until the next process is to be thawed; infinity when none is frozen."""
        return max(0.0, self._frozen[0][0] - time.monotonic()) if self._frozen else float("inf")

    def heal_what_is_due(self) -> None:
        while self._frozen and self._frozen[0][0] <= time.monotonic():
            _, _, process = heapq.heappop(self._frozen)
            self._house.note(f"thaw process {process.pid}")
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def inflict(self, fault: Fault) -> None:
        """Apply a fault to a process that has the role now; without one the fault is missed."""
        label = f"{fault.act} {fault.role}"
        candidates = self._house.with_role(fault.role)
        if not candidates:
            self._seen.missed[label] += 1
            return
        process = candidates[fault.which % len(candidates)]
        tasks = self._at_work(fault, process)
        try:
            at = time.time()
            if fault.act is Act.FREEZE:
                process.suspend()
                thaw_at = time.monotonic() + fault.seconds
                heapq.heappush(self._frozen, (thaw_at, next(self._number), process))
            elif fault.act is Act.KILL:
                process.kill()
            else:
                process.terminate()
        except psutil.NoSuchProcess:
            self._seen.missed[label] += 1
            return
        self._seen.done[label] += 1
        self._house.note(f"{fault} (process {process.pid}, {len(tasks)} tasks in hand)")
        kind = {Act.KILL: "worker killed", Act.FREEZE: "worker frozen"}.get(fault.act)
        if tasks and kind and (fault.act is Act.KILL or fault.seconds > LEASE_SECONDS):
            self._seen.hits.append(Hit(kind, at, tasks, self._is_alone(fault)))

    def collapse(self, fault: Fault) -> None:
        """Kill `up`, check that no process survives it, start it again."""
        tasks = tuple(row[0] for row in self._ask("SELECT id FROM task_queue WHERE status = 'processing'"))
        at = time.time()
        self._house.note(f"{fault} ({len(tasks)} tasks in hand)")
        self._seen.collapse_seconds.append(self._house.collapse())
        self._frozen.clear()
        self._seen.done[f"{fault.act} {fault.role}"] += 1
        self._seen.hits.append(Hit("up killed and started again", at, tasks, alone=True))
        started_at = time.monotonic()
        self._house.start()
        self._seen.restart_seconds.append(time.monotonic() - started_at)

    def absence(self, absence: Absence) -> None:
        """All processes are away for a while, as when a lid is closed or a host is down; then all continue or start
        again."""
        self._house.note(str(absence))
        if absence.are_killed:
            self._seen.collapse_seconds.append(self._house.collapse())
            self._frozen.clear()
            time.sleep(absence.seconds)
            started_at = time.monotonic()
            self._house.start()
            self._seen.restart_seconds.append(time.monotonic() - started_at)
        else:
            stopped = self._house.stand_still()
            time.sleep(absence.seconds)
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
        self._seen.done[f"{'kill' if absence.are_killed else 'freeze'} everybody"] += 1

    def _at_work(self, fault: Fault, process: psutil.Process) -> tuple[str, ...]:
        """Tasks in the hands of this worker, or of this master's."""
        if fault.role not in (Role.WORKER, Role.MASTER):
            return ()
        if fault.role is Role.MASTER and fault.act is Act.FREEZE:
            return ()  # its worker works on
        with contextlib.suppress(psutil.NoSuchProcess):
            pids = [process.pid, *(child.pid for child in process.children())]
            marks = ",".join("?" * len(pids))
            sql = f"""SELECT task_queue.id FROM task_queue JOIN worker ON worker.id = worker_id
                WHERE status = 'processing' AND worker.state = 'live' AND worker.pid IN ({marks})"""
            return tuple(row[0] for row in self._ask(sql, *pids))
        return ()

    def _ask(self, sql: str, *params: object) -> list[tuple[str]]:
        with contextlib.closing(sqlite3.connect(self._house.database, timeout=15)) as connection:
            return connection.execute(sql, params).fetchall()

    def _is_alone(self, fault: Fault) -> bool:
        """Whether no process that a rescue needs is hit shortly before or after."""
        return not any(
            other.at <= fault.at + 1.5 and fault.at <= other.at + other.seconds + AFTERMATH_SECONDS
            for other in self._faults
            if other is not fault and other.role not in BYSTANDERS
        )


def _aftermath(house: ChaosHouse, wish: Wish, seen: Seen, producers: list[Producer]) -> None:
    """All is quiet: everything must come to its end by itself, each within a deadline."""
    quiet_at = time.monotonic()
    try:
        eventually(
            "the producers are done", lambda: not any(p.is_alive() for p in producers), PRODUCERS_SECONDS
        )
        with contextlib.closing(sqlite3.connect(house.database, timeout=15)) as connection:

            def open_tasks() -> int:
                sql = (
                    "SELECT count(*) FROM task_queue WHERE status IN ('pending','processing','ai_processing')"
                )
                return int(connection.execute(sql).fetchone()[0])

            most = FINAL_AFTER_POISON_SECONDS if wish.poison else FINAL_SECONDS
            eventually("all tasks are over", lambda: open_tasks() == 0, most)
            seen.final_after_seconds = time.monotonic() - quiet_at
            ends = dict(connection.execute("SELECT user_openid, seq FROM account").fetchall())
        eventually(
            "every recorder has heard the end",
            lambda: all(each.last_seq >= ends[each.user] for each in seen.recorders),
            HEARD_SECONDS,
        )
        eventually("every process is ready again", house.all_ready, WHOLE_SECONDS)
    except AssertionError as late:
        seen.faults.append(str(late))
    stop_at = time.monotonic()
    try:
        status = house.stop(STOP_SECONDS)
        if status != 0:
            seen.faults.append(f"`darkroom up` ended with status {status}")
        eventually("no process is left", lambda: not house.left_behind(), 1.0)
    except AssertionError as late:
        names = [f"{process.pid} {' '.join(process.cmdline()[:4])}" for process in house.left_behind()]
        seen.faults.append(f"{late}: {names}")
    seen.stop_seconds = time.monotonic() - stop_at
