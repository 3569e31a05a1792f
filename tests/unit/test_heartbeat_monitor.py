"""Heartbeats that have stopped, by the watcher's own clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.health.heartbeat_monitor import HeartbeatMonitor

LEASE = 15.0
TICK = 0.25


def _look(
    watch: HeartbeatMonitor, beats: dict[str, int], start: float, seconds: float
) -> tuple[list[str], float]:
    """Tick for a time; the silent processes at the last check, and its time."""
    now, silent = start, watch.silent(beats, start)
    while now < start + seconds:
        now += TICK
        silent = watch.silent(beats, now)
    return silent, now


def test_the_same_beat_for_the_lease_is_death_and_not_a_tick_before() -> None:
    watch = HeartbeatMonitor(LEASE)
    silent, now = _look(watch, {"a": 7}, 100.0, LEASE - TICK)
    assert silent == []
    assert watch.silent({"a": 7}, now + TICK) == ["a"]


def test_a_beat_that_moves_is_life() -> None:
    watch = HeartbeatMonitor(LEASE)
    now = 100.0
    for beat in range(20):
        silent, now = _look(watch, {"a": beat, "b": 1}, now, 5)
        assert "a" not in silent
    assert silent == ["b"]


def test_a_gap_in_the_watchers_own_looking_proves_nothing() -> None:
    """A suspended laptop or a database outage must not look like the death of all processes."""
    watch = HeartbeatMonitor(LEASE)
    _, now = _look(watch, {"a": 7, "b": 3}, 100.0, LEASE - 1)
    assert watch.silent({"a": 7, "b": 3}, now + 3600) == []
    silent, now = _look(watch, {"a": 7, "b": 3}, now + 3600, LEASE - TICK)
    assert silent == []
    assert watch.silent({"a": 7, "b": 3}, now + TICK) == ["a", "b"]


def test_a_new_start_counts_from_zero() -> None:
    watch = HeartbeatMonitor(LEASE)
    _, now = _look(watch, {"a": 7}, 100.0, LEASE - 1)
    watch.start_anew()
    assert _look(watch, {"a": 7}, now + TICK, LEASE - 2 * TICK)[0] == []


def test_a_worker_that_was_away_counts_from_when_it_is_seen_again() -> None:
    watch = HeartbeatMonitor(LEASE)
    _, now = _look(watch, {"a": 7}, 100.0, 10)
    _, now = _look(watch, {}, now + TICK, 1)
    assert _look(watch, {"a": 7}, now + TICK, LEASE - TICK)[0] == []


@given(st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 2)), max_size=60))
def test_no_process_with_a_beat_within_the_lease_is_declared_dead(
    looks: list[tuple[float, int]],
) -> None:
    watch = HeartbeatMonitor(LEASE)
    now, beat, seen_since = 0.0, -1, 0.0
    looked_at = None
    for after, new_beat in looks:
        now += after
        if new_beat != beat or (looked_at is not None and now - looked_at > LEASE / 3):
            seen_since = now
        beat, looked_at = new_beat, now
        assert (watch.silent({"a": beat}, now) == ["a"]) == (now - seen_since >= LEASE)
