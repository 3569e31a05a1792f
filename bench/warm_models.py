"""Models that stay loaded, in a whole running system: one leaks, one crashes, and what staying loaded saves."""

from __future__ import annotations

from tests.support.houses.warm_models import LEAK_MIB, MEMORY_MIB, crashes, leaks, warm_and_cold

LEAKING_TASKS = 50
CRASHING_TASKS = 30
SLOW_TASKS, LOADING_SECONDS = 20, 20.0


def run() -> dict[str, object]:
    """{what: figures}."""
    grown, statuses = leaks(LEAKING_TASKS)
    paid, failed = crashes(CRASHING_TASKS)
    warm, cold = warm_and_cold(SLOW_TASKS, LOADING_SECONDS)
    return {
        f"{LEAKING_TASKS} tasks that leak {LEAK_MIB} MB each under {MEMORY_MIB} MiB": (
            f"{statuses.count('completed')} completed; the worker grew by {grown:.1f} MiB"
        ),
        f"{CRASHING_TASKS} tasks, a crash at every third call": (
            f"{paid} attempts paid for {failed} crashes, all completed"
        ),
        f"{SLOW_TASKS} tasks of a model that loads for {LOADING_SECONDS:g} s": (
            f"{warm:.2f} s a task kept warm, {cold:.2f} s loaded for each: {cold / warm:.1f} times as long"
        ),
    }
