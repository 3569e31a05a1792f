"""What becomes of a stuck task, and of an attempt that failed.  Pure verdicts; the store applies them.

A worker's death is not the task's fault, so it counts in `deaths`, apart from `failures`; but a task under which
workers keep dying is poison, and ends as `worker_died` before it has killed them all.
"""

from __future__ import annotations

import dataclasses
import enum

from supervisor.core.backoff import backoff_seconds

UNANSWERED = (
    "The AI service was asked for this and nobody heard its answer. "
    "It may have billed it, so it was not asked again."
)


class Reason(enum.StrEnum):
    """Why a task counts as stuck; label of `darkroom_stuck_tasks`."""

    DEAD_WORKER = "dead_worker"
    DEADLINE = "deadline"
    UNDELIVERED = "undelivered"
    REMOTE_OVERDUE = "remote_overdue"
    EXPIRED = "expired"


@dataclasses.dataclass(frozen=True)
class RunAgain:
    """Back to pending, due in so many seconds.  What is counted: 'failures', 'deaths' or nothing.

    code, message: why, for the task's history.  detail: what its AI service said as a whole, for operators.
    """

    in_seconds: float = 0.0
    counts: str = ""
    code: str = dataclasses.field(default="", compare=False)
    message: str = dataclasses.field(default="", compare=False)
    detail: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class PollAgain:
    """The remote job goes on; only its poller is gone."""


@dataclasses.dataclass(frozen=True)
class GiveUp:
    """Fail and refund, with the task's error.  detail: what its AI service said as a whole, for operators."""

    code: str
    message: str
    counts: str = ""
    detail: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a task has used up."""

    failures: int
    deaths: int
    max_attempts: int


Verdict = RunAgain | PollAgain | GiveUp


def after_death(budget: Budget, *, remote: bool, chance: float) -> Verdict:
    """A worker died with this task in its hands.  remote: the task waits for a service, which goes on.

    The first time it runs again at once.  From the second on it waits a while, so that tasks which died together do
    not meet again, and poison leaves the workers time for others.  chance: uniform in [0, 1).
    """
    if remote:
        return PollAgain()
    deaths = budget.deaths + 1
    if deaths >= 2 * budget.max_attempts or budget.failures >= budget.max_attempts:
        return GiveUp(
            "worker_died", f"Workers died {deaths} times while making this; it was not tried again.", "deaths"
        )
    return RunAgain(backoff_seconds(deaths - 1, chance=chance) if deaths > 1 else 0.0, "deaths")


def after_failure(
    budget: Budget,
    code: str,
    message: str,
    *,
    retryable: bool,
    chance: float,
    retry_after_seconds: float | None = None,
) -> RunAgain | GiveUp:
    """An attempt ended with an error.  chance: uniform in [0, 1)."""
    failures = budget.failures + 1
    if not retryable or failures >= budget.max_attempts:
        return GiveUp(code, message, "failures")
    wait = backoff_seconds(failures, chance=chance, retry_after_seconds=retry_after_seconds)
    return RunAgain(wait, "failures", code, message)


def after_cut_off(budget: Budget, times: int, code: str, message: str, *, chance: float) -> RunAgain | GiveUp:
    """Its service went away with the order, for the so-manieth time.  chance: uniform in [0, 1).

    As a worker's death it is not the order's fault, and no failure is counted; but an order under which its service
    keeps dying may be what kills it, and is given up after twice as many times as it has attempts.
    """
    if times >= 2 * budget.max_attempts:
        return GiveUp(code, message, "failures")
    return RunAgain(backoff_seconds(times, chance=chance), "", code, message)


def after_deadline(budget: Budget, *, chance: float) -> RunAgain | GiveUp:
    """The attempt's deadline passed and its worker has said nothing: the limit has failed to strike."""
    return after_failure(
        budget, "time_limit", "This took longer than its time limit allows.", retryable=True, chance=chance
    )


def after_unanswered(verdict: Verdict, *, may_bill_twice: bool) -> Verdict:
    """A verdict on an attempt whose paid request nobody heard the answer of: it may have been carried out and billed,
    so the task runs again only where its provider may bill twice."""
    if may_bill_twice or not isinstance(verdict, RunAgain):
        return verdict
    return GiveUp("unknown_outcome", UNANSWERED, verdict.counts)


def suspects_at_once(lives: int) -> int:
    """How many tasks under which workers keep dying may run at once, where one of them may die so many times more.

    Each time a crowd dies its members lose a life and the next crowd is half as large, so poison is found in as many
    steps as it has lives, and whoever merely ran beside it is alone when it has one left.
    """
    return 1 << max(0, min(lives - 1, 16))
