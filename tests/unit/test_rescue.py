"""Verdicts about stuck tasks and failed attempts: pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.rescue import (
    Budget,
    GiveUp,
    PollAgain,
    RunAgain,
    after_deadline,
    after_death,
    after_failure,
)

BUDGETS = st.builds(Budget, st.integers(0, 5), st.integers(0, 9), st.integers(1, 5))
DRAWS = st.floats(0, 1, exclude_max=True)


@given(BUDGETS, DRAWS)
def test_a_death_counts_in_deaths_and_never_in_failures(budget: Budget, chance: float) -> None:
    verdict = after_death(budget, remote=False, chance=chance)
    assert isinstance(verdict, RunAgain | GiveUp) and verdict.counts == "deaths"


@given(BUDGETS, DRAWS)
def test_worker_died_follows_at_twice_the_attempts_or_at_a_spent_budget(
    budget: Budget, chance: float
) -> None:
    verdict = after_death(budget, remote=False, chance=chance)
    over = budget.deaths + 1 >= 2 * budget.max_attempts or budget.failures >= budget.max_attempts
    assert isinstance(verdict, GiveUp) == over
    if isinstance(verdict, GiveUp):
        assert verdict.code == "worker_died" and verdict.message.endswith(".")


@given(BUDGETS, DRAWS)
def test_a_remote_job_outlives_its_poller(budget: Budget, chance: float) -> None:
    assert after_death(budget, remote=True, chance=chance) == PollAgain()


@given(st.integers(1, 5), DRAWS)
def test_poison_runs_out_of_deaths(max_attempts: int, chance: float) -> None:
    deaths = 0
    while isinstance(after_death(Budget(0, deaths, max_attempts), remote=False, chance=chance), RunAgain):
        deaths += 1
    assert deaths + 1 == 2 * max_attempts


@given(BUDGETS, DRAWS, st.booleans(), st.one_of(st.none(), st.floats(0, 600)))
def test_an_attempt_runs_again_while_the_budget_lasts_and_the_error_allows(
    budget: Budget, chance: float, retryable: bool, asked: float | None
) -> None:
    verdict = after_failure(
        budget,
        "ai_timeout",
        "It took too long.",
        retryable=retryable,
        chance=chance,
        retry_after_seconds=asked,
    )
    assert verdict.counts == "failures"
    if retryable and budget.failures + 1 < budget.max_attempts:
        assert isinstance(verdict, RunAgain) and verdict.in_seconds >= (asked or 0)
    else:
        assert verdict == GiveUp("ai_timeout", "It took too long.", "failures")


@given(BUDGETS, DRAWS)
def test_a_passed_deadline_is_a_failed_attempt(budget: Budget, chance: float) -> None:
    verdict = after_deadline(budget, chance=chance)
    assert verdict.counts == "failures"
    assert not isinstance(verdict, GiveUp) or verdict.code == "time_limit"
