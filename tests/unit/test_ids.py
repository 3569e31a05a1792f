"""The promises of ids: never twice, and in the order of their making."""

from __future__ import annotations

import time

import pytest

from supervisor.core import ids


def test_ids_of_one_millisecond_sort_in_the_order_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_123_456_789)
    made = [ids.new_ulid() for _ in range(2_000)]
    assert made == sorted(set(made)), "sorted, and none twice"
    assert {ids.seconds_of_ulid(each) for each in made} == {1_800_000_000.123}


def test_an_id_does_not_tell_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_123_456_789)
    made = [ids.new_ulid() for _ in range(200)]
    assert len({each[-8:] for each in made}) == 200


def test_an_id_made_after_the_clock_went_back_has_the_time_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    ids.new_ulid()
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    assert ids.seconds_of_ulid(ids.new_ulid()) == 1_700_000_000.0
