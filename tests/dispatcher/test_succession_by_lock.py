"""Two dispatchers with the lock of their database: how soon the standby takes over, and never two at once.

Their time is a clock that the test moves; locks and rows are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from actors.broker.broker import DarkroomBroker
from actors.dispatcher.dispatcher import Dispatcher
from supervisor.broker.claim_lists import ClaimLists
from supervisor.database.interface.leader_lock import LeaderLock, NoLeaderLock
from supervisor.database.interface.wakeups import Wakeups
from supervisor.database.open_leader_lock import open_leader_lock
from supervisor.store.queue import leader
from tests.conftest import Store
from tests.support.quiet_broker import QuietBroker
from tests.support.waiting import eventually

TICK = leader.FAST_SECONDS
FROZEN_SECONDS = 15.0  # within so many a frozen one is followed


class Clockwork:
    """A monotonic clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class SilentWakeups:
    """No notification ever comes; a wait ends after its time, which passes at once."""

    look_again_seconds = ()

    def __init__(self, clock: Clockwork) -> None:
        self._clock = clock

    def wait(self, timeout_seconds: float) -> bool:
        self._clock.now += max(timeout_seconds, 0.001)
        return False

    def interrupt(self) -> None:
        pass


class Pair:
    """Dispatchers on one database."""

    def __init__(self, store: Store) -> None:
        self.store, self.clock = store, Clockwork()
        self.made: list[Dispatcher] = []

    def one(self, lock: LeaderLock | None = None) -> Dispatcher:
        """A dispatcher.  lock: None for the database's."""
        store = self.store
        self.made.append(
            Dispatcher(
                store.settings,
                store.database,
                cast(DarkroomBroker, None),
                cast(Wakeups, SilentWakeups(self.clock)),
                cast(ClaimLists, QuietBroker()),
                lock or open_leader_lock(store.database, store.settings, lambda: None),
            )
        )
        return self.made[-1]

    def leads_quietly(self) -> Dispatcher:
        """One that leads, has the lock, and has nothing to do."""
        one = self.one()
        eventually("it leads with the lock", lambda: one.run_once() >= 0 and one.lock.seek())
        self.let_pass(3 * TICK, one)
        assert self.row().beat_seconds == leader.SLOW_SECONDS
        return one

    def let_pass(self, seconds: float, *running: Dispatcher) -> None:
        """So much time, in steps of a tick, in which these run and no others.

        Each process that seeks a lock has an answer by then: a server takes real time, not the clock's."""
        for _ in range(round(seconds / TICK)):
            self.clock.now += TICK
            for each in running:
                if each._held is None or each._beat_due <= self.clock.now or each._has_lost_lock():
                    each.run_once()

    def seconds_until_followed(self, by: Dispatcher, *others: Dispatcher) -> float:
        began = self.clock.now
        while by._held is None:
            assert self.clock.now - began < 60
            self.let_pass(TICK, by, *others)
        return self.clock.now - began

    def row(self) -> leader.Leadership:
        return self.store.database.read(leader.read)

    def die(self, one: Dispatcher) -> None:
        """Like the end of a process: its locks are released without a message."""
        one.lock.close()
        one.lock = NoLeaderLock()
        one.sender.close()
        self.made.remove(one)

    def close(self) -> None:
        for each in self.made:
            each.sender.close()
            each.lock.close()


@pytest.fixture
def pair(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made = Pair(store)
    monkeypatch.setattr("actors.dispatcher.dispatcher.time", made.clock)
    yield made
    made.close()


@pytest.fixture
def prompt_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that a server gives is had within the look that asks for it: the clock stands still meanwhile."""
    from supervisor.database.postgres.postgres_leader_lock import PostgresLeaderLock

    seek = PostgresLeaderLock.seek

    def wait_for_answer(lock: Any) -> bool:
        before = lock.answers
        eventually("the server has answered", lambda: seek(lock) or lock.answers > before + 1)
        return bool(lock.is_held)

    monkeypatch.setattr(PostgresLeaderLock, "seek", wait_for_answer)


pytestmark = pytest.mark.usefixtures("prompt_locks")


def test_a_quiet_one_writes_a_beat_every_few_seconds_and_nothing_else(pair: Pair) -> None:
    one = pair.leads_quietly()
    before = pair.row()
    began = pair.clock.now
    while pair.clock.now < began + 60:
        one.wait(one.run_once())
    beats = pair.row().beat - before.beat
    assert 11 <= beats <= 13
    assert pair.row().term == before.term


def test_a_dead_one_is_followed_within_a_second_though_it_beat_slowly(pair: Pair) -> None:
    one, other = pair.leads_quietly(), pair.one()
    pair.let_pass(20, one, other)
    assert pair.row().holder == one.name
    pair.die(one)
    assert pair.seconds_until_followed(other) <= 1.0
    assert pair.row().holder == other.name


def test_a_frozen_one_keeps_the_lock_and_is_followed_when_its_beat_is_late(pair: Pair) -> None:
    one, other = pair.leads_quietly(), pair.one()
    pair.let_pass(20, one, other)
    began = pair.clock.now
    pair.let_pass(8, other)
    assert pair.row().holder == one.name, "it may be late"
    pair.seconds_until_followed(other)
    assert pair.clock.now - began <= FROZEN_SECONDS
    assert pair.row().beat_seconds == TICK, "the frozen one has the lock, so the beat must tell"
    pair.let_pass(3, other)
    assert pair.row().beat_seconds == TICK
    thawed_at = pair.row()
    pair.let_pass(1, one, other)
    assert one._held is None, "its next turn tells it"
    assert (pair.row().term, pair.row().holder) == (thawed_at.term, other.name)
    pair.let_pass(3, one, other)
    assert pair.row().beat_seconds == leader.SLOW_SECONDS, "and lets go of the lock"


def test_of_two_that_stand_by_a_dead_one_is_followed_by_one(pair: Pair) -> None:
    one, others = pair.leads_quietly(), [pair.one(), pair.one()]
    pair.let_pass(10, one, *others)
    term = pair.row().term
    pair.die(one)
    pair.let_pass(2, *others)
    assert pair.row().term == term + 1
    assert [each._held is not None for each in others].count(True) == 1


@pytest.mark.postgresql_only
def test_a_running_dispatcher_that_lost_its_lock_reports_it_and_stays(pair: Pair, producer: Any) -> None:
    one, other = pair.leads_quietly(), pair.one()
    pair.let_pass(10, one, other)
    term = pair.row().term
    producer.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    )
    eventually("it knows", one._has_lost_lock)
    pair.let_pass(TICK, one)
    pair.let_pass(30, one, other)
    assert (pair.row().term, pair.row().holder) == (term, one.name)
    assert pair.row().beat_seconds == leader.SLOW_SECONDS, "it has it again"


def test_where_no_lock_works_the_beat_is_fast_and_a_dead_one_is_followed_within_a_second_as_ever(
    pair: Pair,
) -> None:
    one, other = pair.one(NoLeaderLock()), pair.one(NoLeaderLock())
    pair.let_pass(10, one, other)
    before = pair.row()
    pair.let_pass(10, one, other)
    assert pair.row().beat - before.beat == pytest.approx(40, abs=1)
    assert pair.row().beat_seconds == TICK
    pair.die(one)
    assert pair.seconds_until_followed(other) <= 1.0 + TICK


def test_one_without_a_lock_bears_the_slow_beat_of_one_that_has_it(pair: Pair) -> None:
    """Its connection leads through a pooler, and the other's does not."""
    one, other = pair.leads_quietly(), pair.one(NoLeaderLock())
    pair.let_pass(60, one, other)
    assert pair.row().holder == one.name
    pair.die(one)
    assert pair.seconds_until_followed(other) <= FROZEN_SECONDS


def test_a_quiet_dispatcher_finds_work_without_a_wake_up(
    pair: Pair, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    one = pair.leads_quietly()
    live_worker()
    task_id = admitted_task()
    began = pair.clock.now
    one.wait(one._beat_due - began)
    assert pair.clock.now - began <= 1.0 + TICK
    one.run_once()
    assert pair.store.task(task_id)["status"] == "processing"


def test_a_quiet_one_judges_a_workers_silence_in_time(pair: Pair, live_worker: Callable[..., str]) -> None:
    one = pair.leads_quietly()
    frozen = live_worker()
    state = "SELECT state FROM worker WHERE id = ?"
    began = pair.clock.now
    while pair.store.value(state, frozen) == "live":
        assert pair.clock.now - began < 60
        one.wait(one.run_once())
    assert pair.store.settings.lease_seconds <= pair.clock.now - began <= 20
