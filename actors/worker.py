"""A worker process: its id, what runs in it, its heartbeat, its drain.

The id is a ULID made for this spawn.  Everything that runs is registered here *before* it is claimed, so that the
heartbeat can tell a claim of ours that is on its way from a row that names us and runs nowhere.

Who decides what: the database says who holds a task.  This process believes it; a running attempt whose lease is
no longer held is cancelled, and a process that could not renew in time stops by itself before others take over.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from actors.busy_slots import BusySlots
from actors.calls_seen import CallsSeen
from actors.event_loop import CLEANUP_SECONDS
from actors.image_processes import open_image_processes
from actors.scratch import close_scratch, found_in, open_scratch
from config.settings import Settings
from supervisor.database import Database, Transaction, open_database
from supervisor.faults import DatabaseBusy, Fault, LeaseLost, OutcomeUnknown
from supervisor.files import FileStore, open_file_store
from supervisor.ids import new_ulid
from supervisor.refusals import Refusals
from supervisor.schema.migrate import check_version
from supervisor.store import claims, handoffs, workers
from supervisor.supervised import is_supervised

if TYPE_CHECKING:
    from actors.broker import DarkroomBroker
    from actors.paid_requests import PaidRequest
    from actors.providers.base import Provider

log = structlog.get_logger(__name__)

T = TypeVar("T")

STORING_SECONDS = 5.0  # for an answer that comes at the last moment; `up` waits a little longer
WATCH_SECONDS = 1.0
BUSY_AGAIN_SECONDS = 0.5
SPAWN_ID = "WORKER_SPAWN_ULID"  # the supervisor gives each spawn its id, so that it can mark its death


class Why(enum.Enum):
    """Why a running attempt was cancelled."""

    LEASE_LOST = "lease lost"
    DRAIN = "drain"


class Running:
    """One attempt, or poll, in this process, from before its claim to its end."""

    def __init__(self, task_id: str, *, takes_slot: bool = True) -> None:
        self.task_id = task_id
        self.takes_slot = takes_slot  # a poll runs beside the slots
        self.lease: int | None = None  # None until the claim is known to have succeeded
        self.work: asyncio.Task[Any] | None = None
        self.request: PaidRequest | None = None  # the newest of its paid requests
        self.keeps_what_was_paid = False  # its answer is here: nothing more is ordered before it is stored
        self.stops_when_answered = False  # a drain lets its paid request come to its end, and begins no other
        self.cancelled: Why | None = None
        self.will_not_end = asyncio.Event()  # set CLEANUP_SECONDS after its cancel

    @property
    def owes_an_answer(self) -> bool:
        """Its paid request may have been carried out, is not heard of yet, and must not be sent again."""
        return self.request is not None and self.request.is_unanswered and not self.request.may_bill_twice

    def cancel(self, why: Why) -> None:
        """End the attempt; what follows depends on why."""
        if self.cancelled is None and self.work is not None:
            self.cancelled = why
            self.work.cancel()
            asyncio.get_running_loop().call_later(CLEANUP_SECONDS, self.will_not_end.set)


class Worker:
    """One process's worker.  Lives on the event loop; nothing here blocks it."""

    def __init__(
        self, settings: Settings, broker: DarkroomBroker, database: Database, files: FileStore
    ) -> None:
        self.id = os.environ.get(SPAWN_ID) or new_ulid()
        self.settings = settings
        self.broker = broker
        self.database = database
        self.files = files
        self.images = open_image_processes(settings.image_processes)
        self.calls_seen = CallsSeen(database)
        self.refusals = Refusals()
        self.providers: dict[str, Provider] = {}
        self.scratch = settings.data_dir
        self.draining = False
        self._ending = False
        self.running: set[Running] = set()
        self._busy = BusySlots(self._busy_slots, self._tell_busy)
        self._renewed_at = time.monotonic()
        self._strays: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._handing_in: dict[asyncio.Task[None], str] = {}

    async def start(self) -> None:
        """Register and begin to beat.  Raises SettingFault for a database that can't be used."""
        may_be_older = is_supervised()
        await asyncio.to_thread(check_version, self.database, self.settings, may_be_older=may_be_older)

        def register(tx: Transaction) -> set[str]:
            workers.register(
                tx, self.id, host=socket.gethostname(), pid=os.getpid(), slots=self.settings.worker_threads
            )
            return {row["id"] for row in workers.present(tx)}

        found = await asyncio.to_thread(found_in, self.settings.data_dir)
        living = await self.database.write_async(register)
        self.scratch = await asyncio.to_thread(open_scratch, self.settings.data_dir, self.id, found - living)
        self._renewed_at = time.monotonic()
        self._spawn(self._beat_for_ever())
        self._spawn(self._watch_own_lease())
        log.info("worker_started", worker=self.id, slots=self.settings.worker_threads)

    def may_start_requests(self) -> bool:
        """False when the lease may have run out by our own clock: others may be running our tasks already."""
        silent = time.monotonic() - self._renewed_at
        return silent < self.settings.lease_seconds - self.settings.heartbeat_seconds

    async def write(self, step: Callable[[Transaction], T], *, line: str | None = None) -> T:
        """Store what was worked for: while the database can't be written the step is tried again.

        So it is when nobody can say whether it was stored: what was, is fenced by its lease and stored once.
        Ends by the step's own fault, LeaseLost above all: others have rescued the task meanwhile.
        """
        while True:
            try:
                return await self.database.write_async(step, line=line)
            except (DatabaseBusy, OutcomeUnknown) as fault:
                log.warning("write_delayed", worker=self.id, reason=str(fault))
                await asyncio.sleep(BUSY_AGAIN_SECONDS)

    def begin_drain(self) -> None:
        """Take nothing new; what still runs after the drain time is given back without counting the attempt."""
        if not self.draining:
            self.draining = True
            self._spawn(self._drain())

    async def close(self) -> None:
        """End the heartbeat and leave; what this process still holds is rescued as a dead worker's."""
        self._busy.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for provider in self.providers.values():
            await provider.close()
        await self.images.close()
        self.calls_seen.write()
        try:
            await asyncio.wait_for(self.database.write_async(lambda tx: workers.leave(tx, self.id)), 5)
        except (Fault, TimeoutError) as error:
            log.warning("worker_left_without_a_word", worker=self.id, reason=str(error))
        await asyncio.to_thread(close_scratch, self.scratch)
        await asyncio.to_thread(self.database.close)

    async def beat(self) -> None:
        """One heartbeat: renew, learn what was taken from us, give back what runs nowhere."""
        busy = self._busy_slots()

        def renew(tx: Transaction) -> tuple[str | None, list[tuple[str, int]]]:
            return workers.beat(tx, self.id, busy), claims.held_by(tx, self.id)

        asked_at = time.monotonic()
        known = {running: running.lease for running in self.running if running.lease is not None}
        state, held = await self.database.write_async(renew)
        if state not in ("live", "draining"):
            self._end_process("somebody has marked this worker dead")
            return
        self._renewed_at = asked_at
        self._busy.were_told(busy)
        if state == "draining" and not (self.draining or self._ending):
            self._end_for_an_operator()
        self._cancel_what_was_taken(known, set(held))
        await self._give_back_strays(set(held))

    def has_ended(self, running: Running) -> None:
        """An attempt, or poll, is over, and its slot is free."""
        self.running.discard(running)
        self._busy.may_have_fallen()

    def _busy_slots(self) -> int:
        return sum(running.takes_slot for running in self.running)

    async def _tell_busy(self, number: int) -> None:
        await self.database.write_async(lambda tx: workers.fewer_busy(tx, self.id, number))

    async def _beat_for_ever(self) -> None:
        interval = self.settings.heartbeat_seconds
        while True:
            try:
                await self.beat()
            except Fault as fault:
                log.warning("heartbeat_missed", worker=self.id, reason=str(fault))
            except Exception:
                log.exception("heartbeat_failed", worker=self.id)
            due = self._renewed_at + interval
            await asyncio.sleep(max(interval / 5, due - time.monotonic()))

    async def _watch_own_lease(self) -> None:
        """Cancel what runs once others may believe us dead: no beat got through, or this process stood still.

        The process lives on: if nobody has marked it dead, it goes on under the same id when a beat gets through.
        """
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self.may_start_requests():
                self._cancel_all("no heartbeat got through in time", but_what_is_paid=True)

    def _cancel_all(self, reason: str, *, but_what_is_paid: bool = False) -> None:
        """but_what_is_paid: an answer that is here does no harm beside another attempt, and is stored yet."""
        live = [
            running
            for running in self.running
            if running.cancelled is None and not (but_what_is_paid and running.keeps_what_was_paid)
        ]
        if live:
            log.warning("attempts_cancelled", worker=self.id, count=len(live), reason=reason)
        for running in live:
            running.cancel(Why.LEASE_LOST)

    def _cancel_what_was_taken(self, known: dict[Running, int], held: set[tuple[str, int]]) -> None:
        """known: leases that were had before it was read what is held; a claim made since is not in it yet."""
        for running, lease in known.items():
            if (running.task_id, lease) not in held:
                running.cancel(Why.LEASE_LOST)

    async def _give_back_strays(self, held: set[tuple[str, int]]) -> None:
        """Release rows that name us and were unregistered at two beats running: their claim's answer was lost."""
        registered = {running.task_id for running in self.running} | set(self._handing_in.values())
        strays = {(task_id, lease) for task_id, lease in held if task_id not in registered}
        for task_id, lease in sorted(strays & self._strays):
            await self._give_back(task_id, lease)
        self._strays = strays

    async def _give_back(self, task_id: str, lease: int) -> None:
        log.warning("stray_released", worker=self.id, task=task_id, lease=lease)
        with contextlib.suppress(LeaseLost):  # rescued in between, which is as good
            await self.database.write_async(lambda tx: handoffs.give_back(tx, task_id, lease))

    async def _drain(self) -> None:
        try:
            await self.database.write_async(lambda tx: workers.drain(tx, self.id))
        except Fault as fault:
            log.warning("drain_not_announced", worker=self.id, reason=str(fault))
        await asyncio.sleep(self.settings.drain_seconds)
        for running in tuple(self.running):
            if running.owes_an_answer:
                self._let_answer_come(running)
            else:
                running.cancel(Why.DRAIN)

    def _let_answer_come(self, running: Running) -> None:
        """A request that was paid for and must not be sent twice gets until its AI time-out (CORRECTNESS 15)."""
        assert running.request is not None
        loop = asyncio.get_running_loop()
        running.stops_when_answered = True
        due = running.request.answer_due
        log.info("drain_waits_for_an_answer", task=running.task_id, seconds=round(due - loop.time(), 1))
        loop.call_at(due + STORING_SECONDS, running.cancel, Why.DRAIN)

    def end_for_a_stuck_attempt(self) -> None:
        """A cancelled attempt does not end, so its slot is lost: drain what runs and let a new process begin."""
        log.error("worker_ends", worker=self.id, reason="a cancelled attempt does not end")
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_for_an_operator(self) -> None:
        """Somebody has asked this worker to drain: end in good order, and let a new process begin."""
        self._ending = True
        log.info("worker_drains", worker=self.id, reason="an operator has asked for it")
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_process(self, reason: str) -> None:
        """Stop working under this id for good; the supervisor starts another spawn."""
        self._cancel_all(reason)
        if self._ending:
            return  # a second signal would end the process without its clean-up
        self._ending = True
        log.error("worker_ends", worker=self.id, reason=reason)
        os.kill(os.getpid(), signal.SIGTERM)

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Let this come to its end beside the task that began it, whatever becomes of that."""
        self._spawn(work)

    def finish_handing_in(self, work: Coroutine[Any, Any, None], task_id: str) -> None:
        """The same of a request that hands a job in: until it has ended, its task is no stray and not given back."""
        handing_in = self._spawn(work)
        self._handing_in[handing_in] = task_id
        handing_in.add_done_callback(self._handing_in.pop)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_current: list[Worker] = []


async def open_worker(settings: Settings, broker: DarkroomBroker) -> Worker:
    """Make and start this process's worker."""
    database = open_database(settings)
    worker = Worker(settings, broker, database, open_file_store(settings))
    await worker.start()
    _current[:] = [worker]
    return worker


async def close_worker() -> None:
    """End this process's worker."""
    if _current:
        await _current.pop().close()


def current_worker() -> Worker:
    """This process's worker; there is one from its boot to its end."""
    return _current[0]
