"""What happens to a stuck task, and after a failed attempt.  Pure verdicts; the store applies them.

A worker's death is not the task's fault, so it counts in `deaths`, not in `failures`.  But a task that kills its
workers again and again is poison: it ends as `worker_died` before it has killed them all.
"""

from __future__ import annotations

import dataclasses
import enum

from supervisor.core.backoff import backoff_seconds

UNANSWERED = (
    "The request to the AI service was sent, and its answer was lost. "
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
    """Back to pending, due in `in_seconds` seconds.  What is counted: 'failures', 'deaths' or nothing.

    code, message: the reason, for the task's history.  detail: the AI service's whole answer, for operators.
    """

    in_seconds: float = 0.0
    counts: str = ""
    code: str = dataclasses.field(default="", compare=False)
    message: str = dataclasses.field(default="", compare=False)
    detail: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class PollAgain:
    """The remote job goes on; only the worker that polled it is gone."""


@dataclasses.dataclass(frozen=True)
class GiveUp:
    """Fail and refund, with the task's error.  detail: the AI service's whole answer, for operators."""

    code: str
    message: str
    counts: str = ""
    detail: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class Budget:
    """The attempts that a task has used up."""

    failures: int
    deaths: int
    max_attempts: int


Verdict = RunAgain | PollAgain | GiveUp


def after_death(budget: Budget, *, remote: bool, chance: float) -> Verdict:
    """The worker that held this task died.  remote: the task waits for a service, which goes on.

    After its first death the task runs again at once.  After the second and later ones it waits a while, so that tasks
    which died together do not run together again, and poison leaves workers time for other tasks.  chance: uniform in
    [0, 1).
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
    """The service has lost the order again, for the `times`-th time.  chance: uniform in [0, 1).

    Like a worker's death this is not the order's fault, and no failure is counted.  But an order may be the cause if
    its service dies again and again; so it is given up after twice as many losses as it has attempts.
    """
    if times >= 2 * budget.max_attempts:
        return GiveUp(code, message, "failures")
    return RunAgain(backoff_seconds(times, chance=chance), "", code, message)


def after_deadline(budget: Budget, *, chance: float) -> RunAgain | GiveUp:
    """The attempt's deadline passed without a word from its worker: the worker failed to enforce the time limit."""
    return after_failure(
        budget, "time_limit", "This took longer than its time limit allows.", retryable=True, chance=chance
    )


def after_unanswered(verdict: Verdict, *, may_bill_twice: bool) -> Verdict:
    """The verdict on an attempt with an unanswered paid request.  The request may have been carried out and billed, so
    the task runs again only if its provider may bill twice."""
    if may_bill_twice or not isinstance(verdict, RunAgain):
        return verdict
    return GiveUp("unknown_outcome", UNANSWERED, verdict.counts)


def suspects_at_once(lives: int) -> int:
    """How many suspected poison tasks may run at once, if each of them may die `lives` times more.

    Each time a group dies, its tasks lose one life and the next group is half as large.  So the poison is found within
    as many steps as it has lives, and an innocent task is the only suspect that runs when it has one life left.
    """
    return 1 << max(0, min(lives - 1, 16))


def is_last_life(lives: int) -> bool:
    """Whether one more death ends a task that may die `lives` times more.

    Such a task runs in a worker in which no other task runs.  Poison that is not suspected yet may be among any others.
    So the last death is the task's own: it was caused by the task, or by something that killed its worker from outside.
    """
    return lives <= 1
