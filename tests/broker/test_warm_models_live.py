"""Models that stay loaded in a whole running system, and the studio among them."""

from __future__ import annotations

import pytest

from tests.support.houses import warm_models

LOADING_SECONDS = 1.5
TASKS = 6

pytestmark = pytest.mark.timeout(300)


def test_a_model_that_leaks_costs_no_task_and_no_memory_of_its_worker() -> None:
    grown, statuses = warm_models.leaks(12)
    assert statuses == ["completed"] * 12
    assert grown < warm_models.LEAK_MIB / 4, "MiB; one leak in the worker would be seen"


def test_of_a_model_that_crashes_at_every_third_call_those_tasks_alone_pay() -> None:
    paid, crashed = warm_models.crashes(9)
    assert paid == crashed > 0


def test_a_model_that_stays_loaded_is_loaded_once() -> None:
    warm, cold = warm_models.warm_and_cold(TASKS, LOADING_SECONDS)
    assert cold > LOADING_SECONDS > warm, "seconds a task"
