"""The dispatcher: claim due tasks for workers with free slots, in fair order.

One loop: wait for a wake-up, a due time or a tick; in one transaction admit, ripen, pick and claim;
commit; then send the claims to the workers.  A crash between commit and send loses messages, and the workers find the
rows at their next heartbeats.  Of several dispatchers, one works and the others watch its beat
(`supervisor.store.queue.leader`).

A dispatcher with work ticks every TICK_SECONDS: it writes its beat, sums up counters, and runs a round, in one
transaction.  After a round without work it is *quiet*: it only reads, every READ_SECONDS, and ticks every
`leader.SLOW_SECONDS`.  That needs the lock that tells a standby of its end
(`supervisor.database.interface.leader_lock`); without the lock, it keeps the fast ticks.

Silent workers are judged here, by this process's own monotonic clock: a worker is dead if its heartbeat row has not
changed for LEASE_SECONDS *while this loop read it normally*.  A standby reads too, so a new leader goes on counting.
After a gap (a suspended laptop, a database outage) the count starts from zero, since all workers look dead after a gap.
The ticks also record since when we are well, for decisions that depend on elapsed time
(`supervisor.store.queue.leader`), and detect a clock that was set back.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import structlog
from dramatiq import get_broker

from actors.broker.broker import DarkroomBroker
from actors.dispatcher.claim_sender import BATCH, ClaimSender, ControlMessage, claim_messages
from actors.dispatcher.dispatcher_beat import Waited, pulse_of_process
from actors.dispatcher.locked_rows import LockedRows
from config.load_settings import SettingsError, load_settings
from config.settings import Settings
from supervisor.broker.broker_client import BadBrokerAddress
from supervisor.broker.broker_mode import refuse_unusable_mode
from supervisor.broker.claim_lists import ClaimLists, open_lists
from supervisor.broker.signed_claims import POLLS, TASKS
from supervisor.core.errors import Fault, RowsLocked, SettingFault, as_sentence
from supervisor.core.ids import new_ulid
from supervisor.database.interface.database import Database, Row, Transaction
from supervisor.database.interface.errors import DatabaseError
from supervisor.database.interface.leader_lock import LeaderLock, NoLeaderLock
from supervisor.database.interface.wakeups import Wakeups
from supervisor.database.open_database import open_database
from supervisor.database.open_leader_lock import open_leader_lock
from supervisor.database.open_wakeups import dispatch_wakeups
from supervisor.health.heartbeat_monitor import HeartbeatMonitor
from supervisor.health.succession import Succession
from supervisor.objects.private_files import keep_to_ourselves
from supervisor.processes.supervised import DISPATCHER_SPAWN_ID, exit_status_of_part, is_supervised
from supervisor.schema.migrate import check_version
from supervisor.services.undelivered_claims import empty_lists
from supervisor.steps.lanes import poll_seconds
from supervisor.store.counters import counters, open_task_counts
from supervisor.store.queue import dispatch, idle_check, leader, wake_counters, workers
from supervisor.store.queue.capacity import Capacity
from supervisor.store.queue.leader import Leadership
from supervisor.store.recovery import clock_steps, stuck_tasks
from supervisor.store.remote import remote_cancels
from supervisor.store.sql.locks import LOCKED_ROW_SECONDS
from supervisor.store.sql.refused_rows import Refusals
from supervisor.store.sql.row_isolation import Aside, Refused, is_about_a_row, refusal
from supervisor.store.tasks import admission, remote_wait
from supervisor.store.webhooks import deliveries
from supervisor.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from types import FrameType

log = structlog.get_logger(__name__)

TICK_SECONDS = leader.FAST_SECONDS  # the interval of the working dispatcher's ticks, unless it is quiet
READ_SECONDS = 2.0  # between the reads of a quiet dispatcher; a silent worker is noticed so much later
STOOD_STILL_SECONDS = 5.0  # a longer time between two turns is a gap, even if no tick was due
AWAY_SECONDS = 1.0  # between two tries during a database outage
TAKE_OVER_SECONDS = 0.8  # without a new beat, if beats come in time (`supervisor.health.succession`)
SLOW_DISK_SECONDS = (0.01, 0.02, 0.04)  # if a commit takes long after its first bytes
POLL_STEP_SECONDS = 0.001  # shorter waits can't be interrupted, and need not be
ADMITTED_A_ROUND = 200
DISPATCHED_KINDS = ("task_queue", "remote_job", "webhook_delivery")  # tables with rows that a round changes
FOLDED_A_TICK = 2000  # sums up the counters of workers and triggers


@dataclasses.dataclass
class Round:
    """The result of one transaction.  next_due_seconds: until something is due by time alone.

    picked, polls: rows that were claimed for workers.  dead: workers whose lists must be emptied before their rows are
    rescued.  has_picked: whether it searched for tasks at all.  refused: rows that the database refused to change;
    everything else is done.  has_written: whether it changed anything, as far as is known before the commit.
    held_up_users: whose rows wait for their admission, as other transactions have locked their accounts.
    """

    picked: dispatch.Picked
    polls: list[Row]
    errands: list[ControlMessage]
    dead: list[str]
    rescued: list[stuck_tasks.Rescued]
    refused: list[Refused]
    next_due_seconds: float | None
    more: bool
    wake: int
    has_picked: bool
    has_written: bool
    held_up_users: list[str]

    @property
    def did_something(self) -> bool:
        """Whether the round changed anything, or met a row that it could not change."""
        picked = self.picked.claims or self.picked.left
        return bool(
            picked
            or self.polls
            or self.errands
            or self.dead
            or self.rescued
            or self.refused
            or self.more
            or self.held_up_users
        )


@dataclasses.dataclass(frozen=True)
class Tick:
    """A written beat.  is_anew: the time in which we are well begins at it.

    beat_seconds: until the next one at the latest.  dead: workers that it has marked.
    """

    is_anew: bool
    beat_seconds: float
    dead: list[str]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One transaction: a tick if one is due, then a round, unless the time in which we are well begins at this tick."""

    tick: Tick | None
    round: Round | None


class _NothingToStore(Exception):
    """The turn has changed nothing, so its transaction is rolled back: a server then has nothing to make durable."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


class Dispatcher:
    """One dispatcher process.  `run_once` is one turn of its loop, so that tests can run single turns.

    lock: tells other dispatchers that this process has ended; without it, they know only the beat.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        broker: DarkroomBroker,
        wakeups: Wakeups,
        lists: ClaimLists,
        lock: LeaderLock | None = None,
    ) -> None:
        self.settings = settings
        self.lock = lock or NoLeaderLock()
        self.pulse = pulse_of_process()
        self.database = Waited(database, self.pulse)
        self.wakeups = wakeups
        self.lists = lists
        self.sender = ClaimSender(broker, lists, database, when_ready=self._note_sender_ready)
        self.name = os.environ.get(DISPATCHER_SPAWN_ID) or new_ulid()
        self.stopping = False
        self._sender_is_ready_again = False
        self._held: Leadership | None = None
        self._succession = Succession(TICK_SECONDS, TAKE_OVER_SECONDS)
        self._silence = HeartbeatMonitor(settings.lease_seconds)
        self._refusals = Refusals()
        self._held_up_tasks, self._held_up_users = (
            LockedRows(forget_seconds=10.0),
            LockedRows(forget_seconds=0.0),
        )
        self._wake = -1
        self._heard = False  # of a commit that was not visible yet
        self._slow_seconds = max(TICK_SECONDS, min(leader.SLOW_SECONDS, settings.heartbeat_seconds))
        self._read_seconds = min(READ_SECONDS, max(TICK_SECONDS, settings.lease_seconds / 7))
        self._beat_seconds = TICK_SECONDS  # as written in the row
        self._beat_due = self._read_due = 0.0
        self._turned_at: float | None = None
        self._has_stood_still = False
        self._seen: Leadership | None = None  # a standby's last reading
        self._is_quiet = False
        self._picked_at = time.monotonic()
        self._emptied: set[str] = set()  # dead workers with emptied lists

    def run(self) -> None:
        """Work until stopped.  A database that fails is tried again; nothing is lost meanwhile."""
        self.pulse.start()
        while not self.stopping:
            self.pulse.turn()
            try:
                self.wait(self.run_once())
            except (Fault, DatabaseError) as error:
                log.error("dispatch_failed", reason=str(error))
                self._silence.start_anew()
                self._succession.start_anew()
                self._is_quiet = False
                self._pause(AWAY_SECONDS)
        with self.pulse.waiting():
            self.sender.close()
        self.resign()
        self.lock.close()

    def _pause(self, seconds: float) -> None:
        """Wait and ignore wake-ups: a write that fails on a full disk wakes its own process."""
        until = time.monotonic() + seconds
        while not self.stopping and (left := until - time.monotonic()) > 0:
            self.wakeups.wait(left)

    def stop(self) -> None:
        """End the loop soon; may be called from a signal handler."""
        self.stopping = True
        self.wakeups.interrupt()

    def resign(self) -> None:
        """Leave in good order, so that a standby can work at once."""
        held, self._held = self._held, None
        if held is None:
            return
        try:
            self.database.write_now(lambda tx: leader.resign(tx, held))
        except (Fault, DatabaseError) as error:
            log.warning("dispatcher_left_without_a_word", dispatcher=self.name, reason=str(error))
        finally:
            self.lock.give_up()

    def run_once(self) -> float:
        """One turn: lead or stand by; rescue, dispatch.  Seconds until the next turn is due by time."""
        now = time.monotonic()
        if self._held is None and not self._try_to_lead(now):
            return TICK_SECONDS
        held = self._held
        assert held is not None
        self._note_turn(now)
        self._sender_is_ready_again = False
        began = time.monotonic()
        is_tick = now >= self._beat_due or self._has_lost_lock()
        turn = self._turn(held, began, is_tick=is_tick)
        if turn is not None and turn.tick is not None:
            self._note_tick(turn.tick, now)
            if turn.round is None:  # now that times are set right
                turn = self._turn(held, began, is_tick=False)
        if turn is None or turn.round is None:
            log.warning("dispatcher_stands_by", dispatcher=self.name, reason="another one has taken over")
            self._stand_by()
            return TICK_SECONDS
        decided = turn.round
        try:
            claimed = decided.picked.claims
        except DatabaseError:  # it was committed, and the answer that named the claims was lost
            self.database.read(decided.picked.read_again)
            claimed = decided.picked.claims
        for each in decided.rescued:
            log.info("task_rescued", task=each.task_id, reason=each.reason.value, action=each.action)
        self._refusals.tell(log, decided.refused, time.monotonic())
        self._wake = decided.wake
        if decided.has_picked:
            self._picked_at = began
        messages = [
            *claim_messages(TASKS, claimed),
            *claim_messages(POLLS, decided.polls, most=BATCH),
        ]
        if messages or decided.errands:
            with self.pulse.waiting():
                self.sender.send(messages, decided.errands)
        if decided.dead:
            empty_lists(self.database, self.lists, decided.dead)
            self._emptied.update(decided.dead)
        self._become_quiet_or_not(decided, is_tick=is_tick)
        due = self._beat_seconds if self._is_quiet else TICK_SECONDS
        if decided.more or decided.dead:
            due = 0.0
        if decided.next_due_seconds is not None:
            due = min(due, decided.next_due_seconds)
        if decided.picked.planned:
            due = min(due, dispatch.AGAIN_SECONDS)
        now = time.monotonic()
        for memory, held_up in (
            (self._held_up_tasks, decided.picked.held_up),
            (self._held_up_users, decided.held_up_users),
        ):
            memory.note(held_up, began, now)
            seconds = memory.seconds_to_next(began, now)
            due = due if seconds is None else min(due, seconds)
        return due

    def _turn(self, held: Leadership, now: float, *, is_tick: bool) -> Turn | None:
        """A turn; if the database refuses a row, or another program has locked it, the turn is repeated without that
        row.  None: another one works."""
        passing = {what: self._refusals.passing(what, now) for what in DISPATCHED_KINDS}
        tasks, users = self._held_up_tasks.passing(now), self._held_up_users.passing(now)
        beat_seconds = self._slow_seconds if is_tick and self.lock.seek() else TICK_SECONDS

        def take(tx: Transaction, *, is_careful: bool = False) -> Turn | None:
            tick = self._tick(tx, held, beat_seconds) if is_tick else None
            if tick is not None and tick.is_anew:
                return Turn(tick, None)
            if is_tick and tick is None:
                return None
            decided = self._decide(tx, held, passing, tasks, users, is_careful=is_careful)
            if decided is None:
                return None
            if tick is None and not decided.has_written:
                raise _NothingToStore(Turn(None, decided))
            return Turn(tick, decided)

        try:
            try:
                return self.database.write_now(take, lock_seconds=LOCKED_ROW_SECONDS)
            except RowsLocked:
                pass
            except DatabaseError as error:
                if not is_about_a_row(error):
                    raise
            return self.database.write_now(
                lambda tx: take(tx, is_careful=True), lock_seconds=LOCKED_ROW_SECONDS
            )
        except _NothingToStore as end:
            return end.turn

    def wait(self, seconds: float) -> None:
        """Wait for possible work: a commit that concerns the dispatcher, a due time, or the next tick."""
        end = time.monotonic() + seconds
        while not self.stopping and not self._has_lost_lock():
            # A standby has no beat; it reads every `seconds`.
            until = end if self._held is None else min(end, self._beat_due)
            now = time.monotonic()
            if now >= until:
                return
            if self._is_quiet:
                if now >= self._read_due and self._finds_something(now):
                    return
                until = min(until, self._read_due)
            heard, self._heard = self._heard or self.wakeups.wait(max(0.0, until - now)), False
            if heard and self._something_happened():
                return

    def _finds_something(self, now: float) -> bool:
        """Read what no wake-up tells: heartbeats, due times, and the counter, in case a wake-up was lost."""
        self.pulse.turn()
        self._note_turn(now)
        found = self.database.read(idle_check.look)
        self._read_due = now + self._read_seconds
        if self._silence.silent(found.beats, time.monotonic()):
            self._beat_due = now  # the tick marks the silent workers
        return found.is_due or found.wake != self._wake or self._beat_due <= now

    def _become_quiet_or_not(self, decided: Round, *, is_tick: bool) -> None:
        """A dispatcher is quiet after a tick whose round had no work, until a round has work.  That tick has summed up
        the counters of the work before it."""
        now = time.monotonic()
        if decided.did_something or not (is_tick or self._is_quiet) or self._beat_seconds <= TICK_SECONDS:
            self._is_quiet = False
            self._beat_due = min(self._beat_due, now + TICK_SECONDS)
        elif not self._is_quiet and not self._finds_something(now):
            self._is_quiet = True
            self._beat_due = now + self._beat_seconds

    def _note_sender_ready(self) -> None:
        self._sender_is_ready_again = True
        self.wakeups.interrupt()

    def _something_happened(self) -> bool:
        """Whether the wake counter has moved; a commit may be visible a moment after its event."""
        if self._sender_is_ready_again or not self.wakeups.look_again_seconds:
            return True
        all_pauses = (*self.wakeups.look_again_seconds, *SLOW_DISK_SECONDS)
        pauses = iter(all_pauses)
        version = self.wakeups.version()
        if self._wake_counter() != self._wake:
            return True
        while self.wakeups.version() == version:
            pause = next(pauses, None)
            if pause is None or self.stopping:
                return False
            if pause < POLL_STEP_SECONDS:
                time.sleep(pause)
            elif self.wakeups.wait(pause):
                if time.monotonic() >= self._beat_due:
                    self._heard = True  # the beat can't wait; this commit is checked again after it
                    return True
                pauses = iter(all_pauses)  # another program is just committing
        # The commit is visible now.  A later one begins after that, and has an event of its own.
        return self._wake_counter() != self._wake

    def _wake_counter(self) -> int:
        return self.database.glance(wake_counters.read).dispatch

    # --- leadership ---

    def _try_to_lead(self, now: float) -> bool:
        seen, present = self.database.read(lambda tx: (leader.read(tx), workers.present(tx)))
        self._silence.silent(_beats(present), now)
        # A leader with a fast beat has no lock; it is left to get the lock.
        has_lock = seen == self._seen and seen.beat_seconds > TICK_SECONDS and self.lock.seek()
        if not has_lock:
            self.lock.give_up()
        self._seen = seen
        has_fallen_silent = self._succession.has_fallen_silent(
            seen, now, seen.beat_seconds, has_lock=has_lock
        )
        if seen.holder is not None and not has_fallen_silent:
            return False
        self._held = self.database.write_now(lambda tx: leader.take_over(tx, seen, self.name))
        if self._held is None:
            return False
        log.info("dispatcher_leads", dispatcher=self.name, term=self._held.term)
        self.sender.watch(row["id"] for row in self.database.read(workers.live))
        self._beat_due, self._turned_at = now, None
        return True

    def _stand_by(self) -> None:
        """Record that another dispatcher has taken over."""
        self._held, self._seen, self._is_quiet, self._beat_seconds = None, None, False, TICK_SECONDS
        self.lock.give_up()
        self._succession.was_deposed(time.monotonic())

    def _has_lost_lock(self) -> bool:
        """Whether the slow beat in the row promises a lock that this dispatcher does not hold any more."""
        return self._beat_seconds > TICK_SECONDS and not self.lock.is_held

    def _note_turn(self, now: float) -> None:
        """Detect a gap between two turns."""
        if self._turned_at is not None and now - self._turned_at > STOOD_STILL_SECONDS:
            self._has_stood_still = True
        self._turned_at = now

    def _tick(self, tx: Transaction, held: Leadership, beat_seconds: float) -> Tick | None:
        """Write a beat, and find workers whose heartbeat has stopped; None if another dispatcher has taken over."""
        passed = None if self._has_stood_still else self._succession.since_tick(time.monotonic())
        # What needs no answer comes first, so that a server is sent it together with the beat.
        present = workers.ask_present(tx)
        counters.fold(tx, FOLDED_A_TICK)
        open_task_counts.fold(tx, FOLDED_A_TICK)
        shown = leader.renew(tx, held, passed, beat_seconds)
        if shown is None:
            return None
        silent = self._silence.silent(_beats(present.all()), time.monotonic())
        dead = [worker_id for worker_id in silent if workers.mark_dead(tx, worker_id)]
        return Tick(shown.is_anew, beat_seconds, dead)

    def _note_tick(self, tick: Tick, now: float) -> None:
        """Record that the tick was stored."""
        self._has_stood_still = False
        self._beat_seconds = tick.beat_seconds
        self._beat_due = now + (tick.beat_seconds if self._is_quiet else TICK_SECONDS)
        self._read_due = now + self._read_seconds  # a tick has read the heartbeats too
        self._succession.ticked(time.monotonic(), self._beat_due - now)
        if tick.is_anew:
            self._set_times_right()
        for worker_id in tick.dead:
            log.warning("worker_silent", worker=worker_id, seconds=self.settings.lease_seconds)

    def _set_times_right(self) -> None:
        """After a gap the clock may have been set back; rows that the database refuses, or that another program has
        locked, are left to the sweep."""
        for step in (clock_steps.take_back_early, clock_steps.set_right):
            try:
                self.database.write_now(step, lock_seconds=LOCKED_ROW_SECONDS)
            except RowsLocked as locked:
                log.warning("times_not_set_right", reason=str(locked))
            except DatabaseError as error:
                if not is_about_a_row(error):
                    raise
                self._refusals.tell(log, [refusal("task_queue", "one of a batch", error)], time.monotonic())

    # --- what to do ---

    def _decide(
        self,
        tx: Transaction,
        held: Leadership,
        passing: Mapping[str, Sequence[str]],
        tasks: Sequence[str],
        users: Sequence[str],
        *,
        is_careful: bool = False,
    ) -> Round | None:
        """Admit, rescue the dead workers' rows, ripen, pick, claim; all in one transaction.  None: another dispatcher
        works.

        Polls of remote jobs are claimed in the same way, without task slots; cancels and webhooks are marked.
        passing: by table, ids of rows that the database refused recently; they are left alone.  tasks, users: the same,
        as other transactions had locked them; their turn comes again soon.
        is_careful: the round has met a new row of this kind.
        """
        is_held = leader.is_held(tx, held)
        refused: list[Refused] = []
        aside, jobs, messages = (Aside(passing[what], refused, is_careful) for what in DISPATCHED_KINDS)
        # A server is asked for everything at once: the ordinary round is this exchange, and the one of its writes.
        # It works while the next statements are made: on the second half while tasks are checked, on their admission
        # while the pick goes on.
        waiting = admission.admit_waiting(tx, self.settings, ADMITTED_A_ROUND, aside, held_up=users)
        tx.send_now()
        dead_ones = workers.dead(tx)
        due, capacity = dispatch.seconds_to_next_due(tx), Capacity(tx, self.settings)
        cancels, due_deliveries = remote_cancels.due_cancels(tx, jobs), deliveries.due(tx, messages)
        tx.send_now()
        if not is_held.get():
            return None
        admitted = waiting.get()
        tx.send_now()
        dead = dead_ones.get()
        unread = [worker_id for worker_id in dead if worker_id not in self._emptied]
        rescued = self._rescue(tx, aside) if dead and not unread else []
        sending = self.sender.is_ready()
        errands: list[ControlMessage] = []
        polls: list[Row] = []
        picked = dispatch.Picked()
        is_behind = has_written = admitted.is_more or bool(rescued)
        if is_behind:
            due = dispatch.seconds_to_next_due(tx)
        next_due = due.get()
        if next_due == 0.0:
            ripened = dispatch.ripen(tx, aside)
            has_written |= ripened > 0
            rooms = remote_wait.room_for_polls(tx, self.sender.shunned) if sending else []
            again = functools.partial(poll_seconds, self.settings)
            polls = remote_wait.claim_due_polls(tx, rooms, again, aside) if rooms else []
            due = dispatch.seconds_to_next_due(tx, polls=len(polls) < sum(room.slots for room in rooms))
            next_due, is_behind = due.get(), True
            if next_due == 0.0 and not ripened and not polls:
                next_due = None  # it is locked, or it is left alone: the next tick tries again
        if sending:
            # Before the claims, which are sent with the commit.
            errands += cancels.get()
            errands += due_deliveries.get()
            picked = dispatch.pick_and_claim(
                tx,
                self.settings,
                Capacity(tx, self.settings) if is_behind else capacity,
                aside,
                shunned=self.sender.shunned,
                admitted=None if is_behind else admitted,
                held_up=tasks,
                late_within_seconds=time.monotonic() - self._picked_at,
            )
        if not sending:
            next_due = None  # due messages can't be sent: trying again at once would only use a core
        more = admitted.rows == ADMITTED_A_ROUND or len(rescued) == stuck_tasks.BATCH or bool(refused)
        wake = wake_counters.read(tx).dispatch
        has_written |= bool(
            admitted.rows or dead or polls or errands or picked.leases or picked.planned or refused
        )
        return Round(
            picked,
            polls,
            errands,
            unread,
            rescued,
            refused,
            next_due,
            more,
            wake,
            sending,
            has_written,
            admitted.held_up,
        )

    def _rescue(self, tx: Transaction, aside: Aside) -> list[stuck_tasks.Rescued]:
        """Rescue the rows of dead workers."""
        rescued = stuck_tasks.rescue(
            tx,
            chance=random.random,
            may_bill_twice=self.settings.providers_that_may_bill_twice,
            deadlines=False,
            aside=aside,
        )
        workers.remove_dead(tx)
        return rescued


def _beats(present: Sequence[Row]) -> dict[str, int]:
    return {row["id"]: row["beat"] for row in present}


def open_dispatcher(settings: Settings, database: Database, broker: DarkroomBroker) -> Dispatcher:
    """A dispatcher on this database.  Raises SettingFault if the database can't be used."""
    check_version(database, settings, may_be_older=is_supervised())
    wakeups = dispatch_wakeups(database, settings)
    lock = open_leader_lock(database, settings, wakeups.interrupt)
    return Dispatcher(settings, database, broker, wakeups, open_lists(settings), lock)


def main() -> int:
    """The program `darkroom dispatcher`; its exit status: 2 for wrong settings, 1 for a database that is away or not
    migrated yet."""
    try:
        settings = load_settings()
        configure_logs(settings, "dispatcher")
        keep_to_ourselves(settings)
        refuse_unusable_mode(settings)
        broker = get_broker()  # set by importing this package
        assert isinstance(broker, DarkroomBroker)
        dispatcher = open_dispatcher(settings, open_database(settings), broker)
    except (SettingsError, SettingFault, BadBrokerAddress) as error:
        print(f"darkroom dispatcher: {error}", file=sys.stderr)
        return exit_status_of_part(error) if isinstance(error, SettingFault) else 2
    except OSError as error:
        print(f"darkroom dispatcher: {error}", file=sys.stderr)
        return 1
    except (Fault, DatabaseError) as error:
        print(f"darkroom dispatcher: {as_sentence(error)}", file=sys.stderr)
        return 1

    def stop(signum: int, frame: FrameType | None) -> None:
        dispatcher.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("dispatcher_started", dispatcher=dispatcher.name, pid=os.getpid())
    dispatcher.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
