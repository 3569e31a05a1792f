"""PostgreSQL restarted, crashed and rid of all its backends ten times during 500 tasks; then the same for the broker.

Each task takes 0.2 s at its service. Ten outages come in turn, each while half of a batch is running or done. The bench
counts the requests to the service for each task and the faults in the database afterwards
(tests/support/models/exactly_once.py). Last, PostgreSQL is away for longer than a worker continues without a heartbeat:
its tasks then run again.
"""

from __future__ import annotations

import itertools

from tests.support.houses.outages import BROKER_OUTAGES, LONG_OUTAGE, POSTGRES_OUTAGES, opened_shop

TASKS, OUTAGES = 500, 10
TASKS_OF_THE_LONG_ONE = 50


def run() -> dict[str, object]:
    """{what was taken away: what was seen}."""
    with opened_shop() as shop:
        seen: dict[str, object] = {
            what: shop.work_through(TASKS, list(itertools.islice(itertools.cycle(kinds), OUTAGES)))
            for what, kinds in (("PostgreSQL", POSTGRES_OUTAGES), ("the broker", BROKER_OUTAGES))
        }
        seen["PostgreSQL, for long"] = shop.work_through(TASKS_OF_THE_LONG_ONE, LONG_OUTAGE)
        return seen
