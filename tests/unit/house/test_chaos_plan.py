"""The chaos can be repeated: faults and orders depend on the seed alone."""

from __future__ import annotations

import pytest

from tests.support.chaos.chaos_settings import LEASE_SECONDS, Wish, settings_of
from tests.support.chaos.orders import orders
from tests.support.chaos.plan import (
    LONGEST_FREEZE_SECONDS,
    SHORTEST_FREEZE_SECONDS,
    Act,
    Role,
    absences,
    clock_steps,
    plan,
)


def test_a_seed_always_means_the_same() -> None:
    assert plan(7, 180) == plan(7, 180) != plan(8, 180)
    assert orders(7, 1000, 180, 3) == orders(7, 1000, 180, 3) != orders(8, 1000, 180, 3)


@pytest.mark.parametrize("seed", range(1, 11))
def test_three_minutes_hit_every_role(seed: int) -> None:
    faults = plan(seed, 180)
    assert {fault.role for fault in faults} == set(Role)
    assert {fault.act for fault in faults} == set(Act)
    assert sum(fault.role is Role.HOUSE and fault.act is Act.KILL for fault in faults) == 2
    assert [fault.at for fault in faults] == sorted(fault.at for fault in faults)
    for fault in faults:
        frozen = SHORTEST_FREEZE_SECONDS <= fault.seconds <= LONGEST_FREEZE_SECONDS
        assert frozen if fault.act is Act.FREEZE else fault.seconds == 0


@pytest.mark.parametrize("seed", range(1, 11))
def test_an_absence_is_longer_than_every_limit_and_of_either_kind(seed: int) -> None:
    settings = settings_of(Wish(seed, 180, 1000, 10, 0, absences=True))
    limits = {float(value) for name, value in settings.items() if name.endswith("TIME_LIMIT_SECONDS")}
    longest = max(*limits, LEASE_SECONDS) + float(settings["STUCK_GRACE_SECONDS"])
    made = absences(seed, 180)
    assert made == absences(seed, 180) and {each.are_killed for each in made} == {True, False}
    assert all(each.seconds > longest and 0 < each.at < 180 for each in made)


@pytest.mark.parametrize("seed", range(1, 11))
def test_the_clock_is_stepped_both_ways_and_put_right(seed: int) -> None:
    made = clock_steps(seed, 180)
    assert made == clock_steps(seed, 180)
    assert made[-1].ahead_seconds == 0
    assert min(each.ahead_seconds for each in made) < 0 < max(each.ahead_seconds for each in made)


def test_every_order_has_a_name_of_its_own_and_as_many_are_poison_as_was_wished() -> None:
    made = orders(3, 1000, 180, 3)
    assert len({order.name for order in made}) == 1000
    assert sum(order.type == "poison" for order in made) == 3
    assert 0.25 < sum(order.by_http for order in made) / 1000 < 0.35
