"""A worker process: its id, its attempts, its heartbeat, its drain.

The id is a ULID made for this spawn.  The dispatcher claims tasks for it; the claims come through its lists
(`actors.worker.claim_listener`) and begin here at once, each lease once.  A claim whose message was lost is a row that
names us and was never begun: two heartbeats that find it begin it.

The database says which worker holds a task.  This process follows it: an attempt without its lease is cancelled, and a
process that could not renew in time cancels its attempts before other workers take over.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from actors.files.scratch import close_scratch, found_in, open_scratch
from actors.worker.begun_leases import Begun
from actors.worker.busy_slots import BusySlots
from actors.worker.call_metrics import CallMetrics
from actors.worker.claim_listener import ClaimListener
from actors.worker.event_loop import CLEANUP_SECONDS
from actors.worker.held_offers import HeldOffers
from config.settings import Settings
from supervisor.broker.claim_lists import ClaimLists, open_lists
from supervisor.broker.signed_claims import POLLS, TASKS, ClaimMessage
from supervisor.core.claim import Claim
from supervisor.core.errors import DatabaseBusy, Fault, LeaseLost, OutcomeUnknown
from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Database, Transaction
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.open_database import open_database
from supervisor.objects.object_store import FileStore
from supervisor.objects.open_store import open_file_store
from supervisor.pictures.process_pool import ImageProcesses
from supervisor.processes.supervised import WORKER_SPAWN_ID, is_supervised
from supervisor.schema.migrate import check_version
from supervisor.steps.lanes import attempt_seconds
from supervisor.store.counters import counters
from supervisor.store.queue import workers
from supervisor.store.sql.locks import LOCKED_ROW_SECONDS
from supervisor.store.sql.refused_rows import Refusals
from supervisor.store.tasks import claims, remote_wait
from supervisor.store.tasks.claims import Held

if TYPE_CHECKING:
    from actors.broker.broker import DarkroomBroker
    from actors.providers.base import Provider

log = structlog.get_logger(__name__)

T = TypeVar("T")

STORING_SECONDS = 5.0  # for an answer at the last moment; `up` waits a little longer
WATCH_SECONDS = 1.0
CLOCK_GAP_SECONDS = 2.0  # of the wall clock against the monotonic one: a sleep, or a step
BUSY_AGAIN_SECONDS = 0.5
UNKNOWN_TYPE_SECONDS = 10.0


class Why(enum.Enum):
    """Why a running attempt was cancelled."""

    LEASE_LOST = "lease lost"
    DRAIN = "drain"
    TIME_LIMIT = "time limit"


class SentRequest(Protocol):
    """The interface of a paid request for the worker."""

    may_bill_twice: bool

    @property
    def is_unanswered(self) -> bool:
        """Whether it may have been carried out and is still unanswered."""

    @property
    def answer_due(self) -> float:
        """When its time-out is over, by the event loop's clock."""

    @property
    def reference(self) -> str:
        """Its name, which no other has."""


class Running:
    """One attempt, or poll, in this process, from its claim to its end."""

    def __init__(
        self, task_id: str, lease: int, *, type_: str = "", lane: str = "", takes_slot: bool = True
    ) -> None:
        self.task_id, self.lease, self.type, self.lane = task_id, lease, type_, lane
        self.takes_slot = takes_slot  # a poll needs no slot
        self.began_at = time.monotonic()
        self.is_marked = not takes_slot  # recorded as begun in the database
        self.work: asyncio.Task[Any] | None = None
        self.provider = ""  # of its newest request, paid or not
        self.request: SentRequest | None = None  # the newest of its paid requests
        # its answer has arrived: nothing more is ordered before it is stored
        self.keeps_what_was_paid = False
        self.stops_when_answered = False  # a drain waits for its paid request, and no other is begun
        self.cancelled: Why | None = None
        self.will_not_end = asyncio.Event()  # set CLEANUP_SECONDS after its cancel

    @property
    def owes_an_answer(self) -> bool:
        """Whether its paid request may have been carried out, is unanswered, and must not be sent again."""
        return self.request is not None and self.request.is_unanswered and not self.request.may_bill_twice

    def cancel(self, why: Why) -> None:
        """End the attempt; the reason decides what follows."""
        if self.cancelled is None and self.work is not None:
            self.cancelled = why
            self.work.cancel()
            asyncio.get_running_loop().call_later(CLEANUP_SECONDS, self.will_not_end.set)


@dataclasses.dataclass(frozen=True)
class Work:
    """The work for claims: one attempt at a task, or polls of remote jobs in parallel."""

    attempt: Callable[[Worker, Running, Claim], Coroutine[Any, Any, None]]
    polls: Callable[[Worker, Sequence[tuple[Running, Claim]]], Coroutine[Any, Any, None]]


class Worker:
    """One process's worker.  Lives on the event loop; nothing here blocks it."""

    def __init__(
        self, settings: Settings, broker: DarkroomBroker, database: Database, files: FileStore, work: Work
    ) -> None:
        self.id = os.environ.get(WORKER_SPAWN_ID) or new_ulid()
        self.settings = settings
        self.broker = broker
        self.database = database
        self.files = files
        self.work = work
        self.images = ImageProcesses(settings.image_processes)
        self.calls_seen = CallMetrics(database)
        self.refusals = Refusals()
        self.providers: dict[str, Provider] = {}
        self.scratch = settings.data_dir
        self.draining = False
        self._ending = False
        self.running: set[Running] = set()
        self._busy = BusySlots(self._busy_slots, self._tell_busy)
        self._renewed_at = time.monotonic()
        self._clocks_apart = _clocks_apart()
        self.begun = Begun()
        self.offers = HeldOffers(settings.worker_offers, settings.needs_of_types)
        self._last_ran_at = time.monotonic()
        self._strays: set[tuple[str, int]] = set()
        self._beat_now = asyncio.Event()
        self._looks_at_once = False
        self._lists: ClaimLists | None = None
        self._listeners: list[asyncio.Task[None]] = []
        self._has_room, self._always = asyncio.Event(), asyncio.Event()
        self._has_room.set()
        self._always.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._handing_in: dict[asyncio.Task[None], str] = {}

    async def start(self) -> None:
        """Register and begin to beat.  Raises SettingFault if the database can't be used."""
        may_be_older = is_supervised()
        await asyncio.to_thread(check_version, self.database, self.settings, may_be_older=may_be_older)

        def register(tx: Transaction) -> set[str]:
            workers.register(
                tx,
                self.id,
                host=socket.gethostname(),
                pid=os.getpid(),
                slots=self.settings.worker_threads,
                offers=self.settings.worker_offers,
                types=self.settings.worker_types,
            )
            return {row["id"] for row in workers.present(tx)}

        found = await asyncio.to_thread(found_in, self.settings.data_dir)
        living = await self.database.write_async(register)
        self.scratch = await asyncio.to_thread(open_scratch, self.settings.data_dir, self.id, found - living)
        self._renewed_at = time.monotonic()
        self._spawn(self._beat_for_ever())
        self._spawn(self._watch_own_lease())
        log.info("worker_started", worker=self.id, slots=self.settings.worker_threads)

    def listen(self, lists: ClaimLists) -> None:
        """Take claims from now on."""
        self._lists = lists
        self._listeners = [
            self._spawn(
                ClaimListener(
                    lists, kind, self.id, take=self.take, has_room=has_room, came_back=self.look_at_once
                ).listen()
            )
            for kind, has_room in ((TASKS, self._has_room), (POLLS, self._always))
        ]

    def _stop_listening(self) -> None:
        for listener in self._listeners:
            listener.cancel()

    def take(self, message: ClaimMessage) -> None:
        """Begin claims from a message; called on the event loop."""
        if self.draining:
            self._spawn(self._give_back_unbegun())
        elif not self.may_begin():
            self.look_at_once()  # the rows say which claims are still ours
        elif message.kind == POLLS:
            self._begin_polls([claims.claim_of(dict(claim)) for claim in message.claims])
        else:
            for claim in message.claims:
                self.begin(claims.claim_of(dict(claim)))

    def begin(self, claim: Claim) -> None:
        """Run an attempt, unless this lease was begun before."""
        if claim.type not in self.settings.tasks or not self.offers.could_hold(claim.type, claim.lane):
            self._spawn(self._put_off(claim))
        elif self.begun.enter(claim.task_id, claim.lease):
            running = Running(claim.task_id, claim.lease, type_=claim.type, lane=claim.lane)
            self._register(running)
            self._run(self.work.attempt(self, running, claim))

    async def _put_off(self, claim: Claim) -> None:
        """Its type is in the dispatcher's settings and not in ours, or needs more by ours than we offer."""
        log.error("task_type_unknown", worker=self.id, task=claim.task_id, type=claim.type)
        with contextlib.suppress(Fault):
            await self.write(lambda tx: claims.postpone(tx, claim.task_id, claim.lease, UNKNOWN_TYPE_SECONDS))

    def _begin_polls(self, polls: Sequence[Claim]) -> None:
        begun = [
            (Running(claim.task_id, claim.lease, takes_slot=False), claim)
            for claim in polls
            if self.begun.enter(claim.task_id, claim.lease)
        ]
        for running, _ in begun:
            self._register(running)
        if begun:
            self._run(self.work.polls(self, begun))

    def _register(self, running: Running) -> None:
        self.running.add(running)
        self._note_room()

    def _note_room(self) -> None:
        if self._busy_slots() < self.settings.worker_threads:
            self._has_room.set()
        else:
            self._has_room.clear()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._attempts.add(task := asyncio.get_running_loop().create_task(work))
        task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("attempt_broke_off", worker=self.id, exc_info=error)

    async def until_all_ended(self, within_seconds: float) -> None:
        """Wait for running attempts at a stop; the drain ends those that run too long."""
        end = time.monotonic() + within_seconds
        while self._attempts and (left := end - time.monotonic()) > 0:
            await asyncio.wait(self._attempts, timeout=left)

    def look_at_once(self) -> None:
        """Beat now, and begin all our claims that were not begun, because messages may have been lost."""
        self._looks_at_once = True
        self._beat_now.set()

    def may_begin(self) -> bool:
        """False until the next heartbeat if this process stood still and others may have our tasks."""
        is_even = abs(_clocks_apart() - self._clocks_apart) < CLOCK_GAP_SECONDS
        return is_even and self.may_start_requests()

    def may_start_requests(self) -> bool:
        """False if the lease may have ended by our own clock: others may run our tasks already."""
        silent = time.monotonic() - self._renewed_at
        return silent < self.settings.silent_seconds

    async def write(self, step: Callable[[Transaction], T], *, order_key: str | None = None) -> T:
        """Store a result: the step is repeated while the database can't be written.

        It is also repeated if its outcome is unknown: the lease ensures that it is stored once.  It ends with the
        step's own fault, usually LeaseLost: the task was rescued meanwhile.
        """
        while True:
            try:
                return await self.database.write_async(step, order_key=order_key)
            except (DatabaseBusy, OutcomeUnknown) as fault:
                log.warning("write_delayed", worker=self.id, reason=str(fault))
                await asyncio.sleep(BUSY_AGAIN_SECONDS)

    def begin_drain(self) -> None:
        """Take nothing new; tasks that still run after the drain time are given back without counting the attempt."""
        if not self.draining:
            self.draining = True
            self._stop_listening()
            self._spawn(self._drain())

    async def close(self) -> None:
        """End the heartbeat and leave; tasks that this process still holds are rescued like a dead worker's."""
        self._busy.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lists is not None:
            self._lists.close()
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
        """One heartbeat: renew, record begun claims, cancel attempts that lost their lease, begin claims whose messages
        were lost."""
        busy, looks_at_once, self._looks_at_once = self._busy_slots(), self._looks_at_once, False
        unmarked = [running for running in self.running if not running.is_marked]
        said = [self._as_begun(running) for running in unmarked]
        refused = self._lists.take_refused() if self._lists is not None else 0

        def renew(tx: Transaction) -> tuple[str | None, set[str], list[Held]]:
            state = workers.beat(tx, self.id, busy)
            if refused:
                counters.count(tx, "darkroom_claims_refused_total", refused)
            return state, claims.mark_begun(tx, said), claims.held_by(tx, self.id)

        asked_at, clocks_apart = time.monotonic(), _clocks_apart()
        known = {running: running.lease for running in self.running}
        try:
            state, marked, held = await self.database.write_async(renew)
        except BaseException:
            self._looks_at_once |= looks_at_once
            raise
        if state not in ("live", "draining"):
            self._end_process("another process has marked this worker dead")
            return
        self._renewed_at, self._clocks_apart = asked_at, clocks_apart
        for running in unmarked:
            running.is_marked = running.task_id in marked
        self._busy.were_told(busy)
        if state == "draining" and not (self.draining or self._ending):
            self._end_for_an_operator()
        self._cancel_what_was_taken(known, {(each.task_id, each.lease) for each in held})
        if self.draining:
            await self._announce_drain() if state == "live" else await self._give_back_unbegun(held)
        else:
            await self._meet_strays(held, at_once=looks_at_once)

    def _as_begun(self, running: Running) -> claims.Begun:
        limit = attempt_seconds(self.settings, running.type, running.lane)
        return claims.Begun(running.task_id, running.lease, time.monotonic() - running.began_at, limit)

    def has_ended(self, running: Running) -> None:
        """Free the slot of an ended attempt or poll."""
        self.running.discard(running)
        self.begun.end(running.task_id, running.lease)
        if running.takes_slot:
            self._last_ran_at = time.monotonic()
        self._note_room()
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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._beat_now.wait(), max(interval / 5, due - time.monotonic()))
            self._beat_now.clear()

    async def _watch_own_lease(self) -> None:
        """Cancel all attempts once we may count as dead: no beat got through, or this process stood still.

        The process lives on: if it was not marked dead, it continues with the same id when a beat gets through.
        """
        while True:
            await asyncio.sleep(self._until_watch_seconds())
            try:
                if not self.may_start_requests():
                    self._cancel_all("no heartbeat got through in time", but_what_is_paid=True)
                self._leave_if_idle()
            except Exception:
                log.exception("lease_watch_failed", worker=self.id)  # the next look may succeed

    def _until_watch_seconds(self) -> float:
        """Until the lease ends if no further beat gets through; after that, and where idleness counts, one check a
        second."""
        left = self._renewed_at + self.settings.silent_seconds - time.monotonic()
        return WATCH_SECONDS if left <= 0 or self.settings.worker_exit_when_idle_seconds else left

    def _cancel_all(self, reason: str, *, but_what_is_paid: bool = False) -> None:
        """but_what_is_paid: an answer that has arrived does no harm beside another attempt, and is still stored."""
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
        """known: leases from before the held rows were read; a later claim is not among the rows yet."""
        for running, lease in known.items():
            if (running.task_id, lease) not in held:
                running.cancel(Why.LEASE_LOST)

    async def _meet_strays(self, held: Sequence[Held], *, at_once: bool) -> None:
        """Handle rows that name us but do not run here at two beats in a row: claims that were never begun are begun
        now, all others are given back.  at_once: begin claims at the first beat, because their messages may be lost."""
        registered = {running.task_id for running in self.running} | set(self._handing_in.values())
        strays = {(each.task_id, each.lease): each for each in held if each.task_id not in registered}
        seen_twice = [
            each
            for key, each in sorted(strays.items())
            if key in self._strays or (at_once and not self.begun.has(*key))
        ]
        self._strays = set(strays)
        late = [each for each in seen_twice if not each.is_poll and not self._is_begun(each)]
        if late:
            await self._begin_late(late)
        for each in seen_twice:
            if each not in late:
                log.warning("stray_released", worker=self.id, task=each.task_id, lease=each.lease)
                await self._give_back(each)

    def _is_begun(self, each: Held) -> bool:
        return each.is_begun or self.begun.has(each.task_id, each.lease)

    async def _begin_late(self, late: Sequence[Held]) -> None:
        """Begin claims whose messages never reached us."""
        found = [(each.task_id, each.lease) for each in late]
        limit_of = functools.partial(attempt_seconds, self.settings)
        ours = await self.database.write_async(
            lambda tx: claims.begin_late(tx, self.id, found, limit_of), lock_seconds=LOCKED_ROW_SECONDS
        )
        for claim in ours:
            log.info("claim_found", worker=self.id, task=claim.task_id, lease=claim.lease)
            self.begin(claim)

    async def _give_back(self, each: Held) -> None:
        try:
            await self.database.write_async(
                lambda tx: remote_wait.give_back(tx, each.task_id, each.lease),
                lock_seconds=LOCKED_ROW_SECONDS,
            )
        except LeaseLost:
            pass  # rescued in between, which is just as good
        except (Fault, DatabaseError) as fault:
            log.warning("claim_not_given_back", worker=self.id, task=each.task_id, reason=str(fault))

    async def _give_back_unbegun(self, held: Sequence[Held] | None = None) -> None:
        """Give back at once, uncounted, claims that will not begin here, because this process drains."""
        if held is None:
            try:
                held = await self.database.read_async(lambda tx: claims.held_by(tx, self.id))
            except Fault as fault:
                log.warning("claims_not_given_back", worker=self.id, reason=str(fault))
                return  # the next heartbeat does
        for each in held:
            if not self._is_begun(each):
                await self._give_back(each)

    async def _announce_drain(self) -> None:
        """Store the drain: no claim is made for us after that; until it is stored, each heartbeat repeats it."""
        try:
            await self.database.write_async(lambda tx: workers.drain(tx, self.id))
            await self._give_back_unbegun()
        except Fault as fault:
            log.warning("drain_not_announced", worker=self.id, reason=str(fault))

    async def _drain(self) -> None:
        began_at = time.monotonic()
        await self._announce_drain()
        await asyncio.sleep(max(0.0, began_at + self.settings.drain_seconds - time.monotonic()))
        for running in tuple(self.running):
            if running.owes_an_answer:
                self._let_answer_come(running)
            else:
                running.cancel(Why.DRAIN)

    def _let_answer_come(self, running: Running) -> None:
        """A paid request that must not be sent twice gets time until its AI time-out (CORRECTNESS 15)."""
        assert running.request is not None
        loop = asyncio.get_running_loop()
        running.stops_when_answered = True
        due = running.request.answer_due
        log.info("drain_waits_for_an_answer", task=running.task_id, seconds=round(due - loop.time(), 1))
        loop.call_at(due + STORING_SECONDS, running.cancel, Why.DRAIN)

    def _leave_if_idle(self) -> None:
        """End after so long without an attempt; what is claimed for us before that is known is given back."""
        most = self.settings.worker_exit_when_idle_seconds
        if most and not self._busy_slots() and time.monotonic() - self._last_ran_at >= most:
            self._end_in_good_order("it has been idle for as long as it may (--exit-when-idle)")

    def end_for_a_stuck_attempt(self) -> None:
        """A cancelled attempt does not end, so its slot is lost: drain, and let a new process begin."""
        log.error("worker_ends", worker=self.id, reason="a cancelled attempt does not end")
        os.kill(os.getpid(), signal.SIGTERM)

    def _end_for_an_operator(self) -> None:
        """This worker was asked to drain: let a new process begin."""
        self._end_in_good_order("an operator has asked for it")

    def _end_in_good_order(self, reason: str) -> None:
        if not (self.draining or self._ending):
            self._ending = True
            log.info("worker_drains", worker=self.id, reason=reason)
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
        """Run this to its end, independently of the task that began it."""
        self._spawn(work)

    def finish_handing_in(self, work: Coroutine[Any, Any, None], task_id: str) -> None:
        """The same for a request that submits a remote job: until it has ended, its task is not given back."""
        handing_in = self._spawn(work)
        self._handing_in[handing_in] = task_id
        handing_in.add_done_callback(self._handing_in.pop)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _clocks_apart() -> float:
    """The difference of the wall clock and the monotonic clock, in seconds."""
    return time.time() - time.monotonic()


_current: list[Worker] = []


async def open_worker(settings: Settings, broker: DarkroomBroker, work: Work) -> Worker:
    """Make and start this process's worker."""
    database = open_database(settings)
    worker = Worker(settings, broker, database, open_file_store(settings), work)
    lists = await asyncio.to_thread(open_lists, settings, patience_seconds=None)
    await worker.start()
    worker.listen(lists)
    _current[:] = [worker]
    return worker


async def close_worker() -> None:
    """End this process's worker."""
    if _current:
        await _current.pop().close()


def current_worker() -> Worker:
    """This process's worker, which exists from its boot to its end."""
    return _current[0]
