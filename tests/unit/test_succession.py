"""When a standby takes over, by its own clock and its own observations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.broker.broker import DarkroomBroker
from actors.dispatcher.dispatcher import Dispatcher
from supervisor.broker.claim_lists import ClaimLists
from supervisor.database.interface.wakeups import Wakeups
from supervisor.health.succession import HALF_LIFE_SECONDS, MOST_SECONDS, Succession, patience_seconds
from supervisor.store.queue import leader
from tests.conftest import Store
from tests.support.quiet_broker import QuietBroker

TICK, LEAST = 0.25, 0.8


def watching(gaps: list[float], start: float = 100.0) -> tuple[Succession, float, int]:
    """A standby that checks, at each tick, an active dispatcher with ticks this far apart; returns the time and the
    last beat."""
    standby, now, beat = Succession(TICK, LEAST), start, 0
    standby.has_fallen_silent(beat, now)
    for gap in gaps:
        ticks_at = now + gap
        while now + TICK < ticks_at:
            now += TICK
            assert not standby.has_fallen_silent(beat, now), (gap, standby.patience(now))
        beat, now = beat + 1, now + TICK
        assert not standby.has_fallen_silent(beat, now)
    return standby, now, beat


def silent_for(standby: Succession, now: float, beat: int, look_seconds: float = TICK) -> float:
    """How long it waits for one that ticks no more."""
    began = now
    while not standby.has_fallen_silent(beat, now):
        now += look_seconds
        assert now - began < 100 * MOST_SECONDS
    return now - began


def test_a_dead_dispatcher_is_found_within_a_second_where_its_ticks_came_in_time() -> None:
    standby, now, beat = watching([TICK] * 40)
    assert LEAST <= silent_for(standby, now, beat) <= LEAST + TICK
    assert silent_for(Succession(TICK, LEAST), 7.0, 1) <= LEAST + TICK, "of which nothing was ever seen"


def test_where_ticks_come_late_the_next_may_be_later_still() -> None:
    standby, now, _ = watching([TICK, 0.7, 1.2, 2.5, TICK])
    assert standby.patience(now) > 5
    assert standby.patience(now + 10 * HALF_LIFE_SECONDS) < LEAST + 0.1, "that is forgotten"


def test_a_frozen_dispatcher_is_found_within_15_seconds_however_late_it_was_before() -> None:
    standby, now, beat = watching([0.7, 1.2, 2.5, 8.0])
    assert silent_for(standby, now, beat) <= 15


def test_a_standby_that_was_frozen_itself_declares_no_other_dead() -> None:
    standby, now, beat = watching([TICK] * 4)
    now += 3600
    assert not standby.has_fallen_silent(beat, now), "a whole machine may have been suspended"
    assert not standby.has_fallen_silent(beat + 1, now + TICK)
    assert standby.patience(now) < 3 * LEAST, "its own absence says next to nothing about others"


def test_a_working_one_knows_from_its_own_ticks_how_late_ticks_are_here() -> None:
    late = Succession(TICK, LEAST)
    for now in (10.0, 10.25, 13.0, 13.25):
        late.ticked(now)
    late.was_deposed(17.0)
    assert silent_for(late, 20.0, 1) > MOST_SECONDS - 1


def test_the_time_since_the_last_tick_counts_only_observed_ticks() -> None:
    standby = Succession(TICK, LEAST)
    assert not standby.has_fallen_silent("row", 5.0)
    assert standby.since_tick(6.0) is None, "the row may be as old as it likes"
    standby.has_fallen_silent("another row", 5.25)
    assert standby.since_tick(6.0) == 0.75
    standby.start_anew()
    assert standby.since_tick(6.0) is None


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_patience_grows_with_lateness_between_its_bounds(one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert LEAST <= patience_seconds(less, LEAST) <= patience_seconds(more, LEAST) <= MOST_SECONDS


@given(st.lists(st.floats(0.01, 2.0), min_size=1, max_size=40))
def test_a_dispatcher_that_was_late_once_may_be_as_late_again(gaps: list[float]) -> None:
    """Sorted, so that each gap is borne for its own sake; then all of them again, in any order."""
    gradual: list[float] = []
    worst = LEAST
    for gap in sorted(gaps):
        while gap > worst:
            gradual.append(worst)
            worst = min(MOST_SECONDS, worst * 1.25)
        gradual.append(gap)
    watching(gradual + gaps)


@given(
    st.lists(st.tuples(st.floats(0.01, 5.0), st.booleans()), max_size=60),
    st.floats(0.05, 0.5),
)
def test_whatever_was_seen_before_a_dead_one_is_found_within_the_longest_patience(
    looks: list[tuple[float, bool]], look_seconds: float
) -> None:
    standby, now, beat = Succession(TICK, LEAST), 0.0, 0
    for after, ticks in looks:
        now, beat = now + after, beat + ticks
        standby.has_fallen_silent(beat, now)
    assert silent_for(standby, now, beat, look_seconds) <= MOST_SECONDS + look_seconds


# --- on a database ---


class NoWakeups:
    """No notification ever comes."""

    look_again_seconds = ()

    def interrupt(self) -> None:
        pass


@pytest.fixture
def two(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Clockwork, Dispatcher, Dispatcher]]:
    clockwork = Clockwork()
    monkeypatch.setattr("actors.dispatcher.dispatcher.time", clockwork)
    made = [
        Dispatcher(
            store.settings,
            store.database,
            cast(DarkroomBroker, None),
            cast(Wakeups, NoWakeups()),
            cast(ClaimLists, QuietBroker()),
        )
        for _ in range(2)
    ]
    yield clockwork, made[0], made[1]
    for each in made:
        each.sender.close()


class Clockwork:
    """A monotonic clock that moves by ticks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def ticks(self, seconds: float, *dispatchers: Dispatcher) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            for each in dispatchers:
                each.run_once()


def leads(store: Store) -> str | None:
    return store.database.read(leader.read).holder


def test_the_count_of_a_workers_silence_survives_a_take_over(
    store: Store, live_worker: Callable[..., str], two: tuple[Clockwork, Dispatcher, Dispatcher]
) -> None:
    """Of two dispatchers that take over from each other all the time each would begin to count anew, for ever."""
    clockwork, one, other = two
    frozen = live_worker()
    state = "SELECT state FROM worker WHERE id = ?"
    clockwork.ticks(8, one, other)
    assert leads(store) == one.name
    clockwork.ticks(LEAST + 2 * TICK, other)
    assert leads(store) == other.name
    assert store.value(state, frozen) == "live", "the lease is not over"
    clockwork.ticks(store.settings.lease_seconds - 8, one, other)
    assert store.value(state, frozen) != "live"
    assert leads(store) == other.name, "the first one stands by"


def test_we_stay_well_over_a_take_over_by_one_that_saw_the_last_tick(
    store: Store, two: tuple[Clockwork, Dispatcher, Dispatcher]
) -> None:
    clockwork, one, other = two
    clockwork.ticks(3, one, other)
    since = store.database.read(leader.well_since)
    clockwork.ticks(LEAST + 2 * TICK, other)
    assert leads(store) == other.name
    assert store.database.read(leader.well_since) == since


def test_an_ended_dispatcher_leaves_its_place_to_the_next(
    store: Store, two: tuple[Clockwork, Dispatcher, Dispatcher]
) -> None:
    """Its supervisor reports it: the standby need not wait for its silence."""
    clockwork, one, other = two
    clockwork.ticks(1, one, other)
    assert store.write(lambda tx: leader.vacate(tx, one.name))
    assert not store.write(lambda tx: leader.vacate(tx, one.name))
    clockwork.ticks(TICK, other)
    assert leads(store) == other.name
    assert not store.write(lambda tx: leader.vacate(tx, one.name)), "its successor is not driven out"
