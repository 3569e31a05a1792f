"""The dispatcher: hand due tasks to the broker, in fair order, as many as there are free slots.

One loop: wait for a wake-up, a due time or a tick; in one transaction admit, ripen, pick and mark;
commit; then hand the hints to the sender.  A crash between commit and send loses hints, which are sent again after
ten seconds.  Of several dispatchers one works and the others watch its beat (`supervisor.store.leadership`).

Death by silence is judged here, by this process's own monotonic clock: a worker is dead when its heartbeat row
has not changed for LEASE_SECONDS *while this loop ticked normally*.  After a gap (a suspended laptop, a database
outage) the counting starts from zero, since such a gap looks like everybody's death at once.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import peewee
import structlog
from dramatiq import get_broker

from actors.broker import DarkroomBroker
from actors.hint_sender import HintSender
from config.settings import Settings, SettingsError, load_settings
from supervisor.database import Database, Transaction, open_database
from supervisor.faults import Fault, SettingFault
from supervisor.ids import new_ulid
from supervisor.logs import configure_logs
from supervisor.schema.migrate import check_version
from supervisor.silence import SilenceWatch
from supervisor.sqlite_database import SqliteDatabase
from supervisor.store import admission, dispatching, leadership, rescuing, wakes, workers
from supervisor.store.dispatching import Hint
from supervisor.store.leadership import Leadership
from supervisor.wakeup import LOOK_AGAIN_SECONDS, Wakeups

if TYPE_CHECKING:
    from types import FrameType

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.25  # how often the working dispatcher shows that it lives
TAKE_OVER_SECONDS = 0.8  # of the same beat, by the standby's own clock
SLOW_DISK_SECONDS = (0.01, 0.02, 0.04)  # where a commit takes long after its first bytes were seen
POLL_STEP_SECONDS = 0.001  # shorter waits can't be interrupted, and need not be
ADMITTED_A_ROUND = 200


@dataclasses.dataclass
class Round:
    """What one transaction decided.  next_due_seconds: until something is due by time alone."""

    hints: list[Hint]
    next_due_seconds: float | None
    more: bool
    wake: int


class Dispatcher:
    """One dispatcher process.  `run_once` is one turn of its loop, so that tests can take turns themselves."""

    def __init__(
        self, settings: Settings, database: Database, broker: DarkroomBroker, wakeups: Wakeups
    ) -> None:
        self.settings = settings
        self.database = database
        self.wakeups = wakeups
        self.sender = HintSender(broker, database, when_ready=self._note_sender_ready)
        self.name = new_ulid()
        self.stopping = False
        self._sender_is_ready_again = False
        self._held: Leadership | None = None
        self._seen: tuple[Leadership, float] | None = None
        self._silence = SilenceWatch(settings.lease_seconds)
        self._wake = -1
        self._heard = False  # of a commit that could not be seen yet
        self._beat_due = 0.0

    def run(self) -> None:
        """Work until stopped.  A database that fails is tried again; nothing is lost meanwhile."""
        while not self.stopping:
            try:
                self.wait(self.run_once())
            except (Fault, peewee.DatabaseError) as error:
                log.error("dispatch_failed", reason=str(error))
                self._silence.start_anew()
                self.wakeups.wait(1.0)
        self.sender.close()
        self.resign()

    def stop(self) -> None:
        """End the loop soon; may be called from a signal handler."""
        self.stopping = True
        self.wakeups.interrupt()

    def resign(self) -> None:
        """Let a standby work at once."""
        held, self._held = self._held, None
        if held is not None:
            self.database.write_now(lambda tx: leadership.resign(tx, held))

    def run_once(self) -> float:
        """One turn: lead or stand by; rescue, dispatch.  Seconds until the next turn is due by time."""
        now = time.monotonic()
        if self._held is None and not self._try_to_lead(now):
            return TICK_SECONDS
        if now >= self._beat_due and not self._renew(now):
            return TICK_SECONDS
        self._sender_is_ready_again = False
        decided = self.database.write_now(self._decide)
        self._wake = decided.wake
        if decided.hints:
            self.sender.send(decided.hints)
        due = 0.0 if decided.more else TICK_SECONDS
        if decided.next_due_seconds is not None:
            due = min(due, decided.next_due_seconds)
        return due

    def wait(self, seconds: float) -> None:
        """Until there may be work: a commit that concerns dispatch, a due time, or the next tick."""
        end = time.monotonic() + seconds
        while not self.stopping:
            remaining = min(end, self._beat_due) - time.monotonic()
            if remaining <= 0:
                return
            heard, self._heard = self._heard or self.wakeups.wait(remaining), False
            if heard and self._something_happened():
                return

    def _note_sender_ready(self) -> None:
        self._sender_is_ready_again = True
        self.wakeups.interrupt()

    def _something_happened(self) -> bool:
        """Whether the wake counter has moved; a commit may be visible a moment after its event."""
        if self._sender_is_ready_again:
            return True
        pauses = iter((*LOOK_AGAIN_SECONDS, *SLOW_DISK_SECONDS))
        while self._wake_counter() == self._wake:
            pause = next(pauses, None)
            if pause is None or self.stopping:
                return False
            if pause < POLL_STEP_SECONDS:
                time.sleep(pause)
            elif self.wakeups.wait(pause):
                if time.monotonic() >= self._beat_due:
                    self._heard = True  # the beat can't wait; this commit is looked for again after it
                    return True
                pauses = iter((*LOOK_AGAIN_SECONDS, *SLOW_DISK_SECONDS))  # somebody commits just now
        return True

    def _wake_counter(self) -> int:
        return self.database.glance(wakes.read).dispatch

    # --- who works ---

    def _try_to_lead(self, now: float) -> bool:
        seen = self.database.read(leadership.read)
        if self._seen is None or self._seen[0] != seen:
            self._seen = (seen, now)
        if seen.holder is not None and now - self._seen[1] < TAKE_OVER_SECONDS:
            return False
        self._held = self.database.write_now(lambda tx: leadership.take_over(tx, seen, self.name))
        if self._held is None:
            return False
        log.info("dispatcher_leads", dispatcher=self.name, term=self._held.term)
        self._silence.start_anew()
        self._beat_due = now
        return True

    def _renew(self, now: float) -> bool:
        """Show life, and look whose heartbeat has stopped."""
        held = self._held
        assert held is not None

        def tick(tx: Transaction) -> list[str] | None:
            if not leadership.renew(tx, held):
                return None
            silent = self._silence.silent(
                {row["id"]: row["beat"] for row in workers.present(tx)}, time.monotonic()
            )
            return [worker_id for worker_id in silent if workers.mark_dead(tx, worker_id)]

        dead = self.database.write_now(tick)
        if dead is None:
            log.warning("dispatcher_stands_by", dispatcher=self.name, reason="another one has taken over")
            self._held = self._seen = None
            return False
        for worker_id in dead:
            log.warning("worker_silent", worker=worker_id, seconds=self.settings.lease_seconds)
        self._beat_due = now + TICK_SECONDS
        return True

    # --- what to do ---

    def _decide(self, tx: Transaction) -> Round:
        """Admit, rescue the dead workers' rows, ripen, pick, mark; all in one transaction."""
        held = self._held
        assert held is not None
        if leadership.read(tx).term != held.term:
            self._held = self._seen = None
            return Round([], None, False, self._wake)
        admitted = admission.admit_waiting(tx, self.settings, ADMITTED_A_ROUND)
        rescued = self._rescue(tx) if workers.any_dead(tx) else 0
        sending = self.sender.is_ready()
        hints: list[Hint] = []
        next_due = dispatching.seconds_to_next_due(tx)
        if next_due == 0.0:
            dispatching.ripen(tx)
            hints += dispatching.overdue_hints(tx) if sending else []
            next_due = dispatching.seconds_to_next_due(tx)
        hints += dispatching.pick_and_mark(tx, self.settings) if sending else []
        if hints:
            next_due = min(next_due or dispatching.RESEND_SECONDS, dispatching.RESEND_SECONDS)
        if not sending:
            next_due = None  # what is due can't be sent: asking again at once would only burn a core
        more = admitted == ADMITTED_A_ROUND or rescued == rescuing.BATCH
        return Round(hints, next_due, more, wakes.read(tx).dispatch)

    def _rescue(self, tx: Transaction) -> int:
        """Deal with the rows of dead workers; how many there were."""
        rescued = rescuing.rescue(
            tx,
            draw=random.random,
            may_bill_twice=self.settings.providers_that_may_bill_twice,
            deadlines=False,
        )
        for each in rescued:
            log.info("task_rescued", task=each.task_id, reason=each.reason.value, action=each.action)
        workers.bury(tx)
        return len(rescued)


def open_dispatcher(settings: Settings, database: Database, broker: DarkroomBroker) -> Dispatcher:
    """A dispatcher on this database.  Raises SettingFault for one that can't be used."""
    check_version(database, settings)
    assert isinstance(database, SqliteDatabase)
    return Dispatcher(settings, database, broker, Wakeups(database))


def main() -> int:
    """The program `darkroom dispatcher`; its exit status."""
    try:
        settings = load_settings()
        configure_logs(settings, "dispatcher")
        broker = get_broker()  # set by importing this package
        assert isinstance(broker, DarkroomBroker)
        dispatcher = open_dispatcher(settings, open_database(settings.database_url), broker)
    except (SettingsError, SettingFault) as error:
        print(f"darkroom dispatcher: {error}", file=sys.stderr)
        return 2

    def stop(signum: int, frame: FrameType | None) -> None:
        dispatcher.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("dispatcher_started", dispatcher=dispatcher.name, pid=os.getpid())
    dispatcher.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
