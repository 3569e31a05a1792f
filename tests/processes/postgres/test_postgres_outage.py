"""`darkroom up` on PostgreSQL and a broker of its own; both are taken away during work.

A small `make bench ARGS=postgres_outage`, which does the same with 500 tasks and ten outages of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.houses.outages import BROKER_OUTAGES, POSTGRES_OUTAGES, Shop, opened_shop
from tests.support.waiting import eventually

TASKS_AN_OUTAGE = 20

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with opened_shop(LOG_LEVEL="info") as opened:
        yield opened


def test_the_doctor_finds_nothing_wrong(shop: Shop) -> None:
    eventually(
        "the first sweep is over, a minute after the start at most",
        lambda: "No sweep has ever run" not in shop.system.darkroom("doctor").stdout,
    )
    doctor = shop.system.darkroom("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_tasks_survive_restart_crash_and_lost_connections_of_postgresql_and_run_once_to_completion(
    shop: Shop,
) -> None:
    seen = shop.work_through(TASKS_AN_OUTAGE * len(POSTGRES_OUTAGES), POSTGRES_OUTAGES)
    print(seen)
    assert seen.faults == {} and seen.runs.total() == seen.tasks


def test_tasks_survive_a_broker_that_is_restarted_and_flushed_and_run_once_to_completion(shop: Shop) -> None:
    seen = shop.work_through(TASKS_AN_OUTAGE * len(BROKER_OUTAGES), BROKER_OUTAGES)
    print(seen)
    assert seen.faults == {} and seen.runs.total() == seen.tasks
