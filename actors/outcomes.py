"""What follows an attempt that ended with an error.  Pure.

The class of the error decides, never its text: run again at a cost, wait without one, or give up and refund.
"""

from __future__ import annotations

import dataclasses

from actors.providers.base import Postponed, ProviderError, UnknownOutcome
from supervisor import rescue
from supervisor.faults import BadParams, SettingFault

UNUSABLE_SECONDS = 30.0  # a provider that is set up wrongly: somebody will mend it, and the task can wait


@dataclasses.dataclass(frozen=True)
class Postpone:
    """Try later; no attempt is counted."""

    in_seconds: float


Outcome = rescue.RunAgain | rescue.GiveUp | Postpone


def after_error(budget: rescue.Budget, error: Exception, *, may_bill_twice: bool, draw: float) -> Outcome:
    """The verdict on an error.  draw: uniform in [0, 1)."""
    match error:
        case Postponed():
            return Postpone(error.wait_seconds * (1 + draw / 4))  # not all at the same moment again
        case SettingFault():
            return Postpone(UNUSABLE_SECONDS * (0.5 + draw))
        case UnknownOutcome():
            return _failed(budget, error.code, str(error), retryable=may_bill_twice, draw=draw)
        case ProviderError():
            return _failed(budget, error.code, str(error), retryable=error.retryable, draw=draw)
        case BadParams():
            return _failed(budget, error.code, str(error), retryable=False, draw=draw)
        case _:
            return _failed(
                budget, "internal", "Something went wrong inside; it was logged.", retryable=True, draw=draw
            )


def after_time_limit(budget: rescue.Budget, *, draw: float) -> Outcome:
    """The actor's own limit struck."""
    return _failed(
        budget, "time_limit", "This took longer than its time limit allows.", retryable=True, draw=draw
    )


def _failed(budget: rescue.Budget, code: str, message: str, *, retryable: bool, draw: float) -> Outcome:
    return rescue.after_failure(budget, code, message, retryable=retryable, draw=draw)
