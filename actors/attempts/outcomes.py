"""The verdict on an attempt, or a remote job, that ended with an error.  Pure.

The class of the error decides, never its text: run again and count an attempt, wait without counting, or give up and
refund.  The class also shows the state of the service (`supervisor.remote.breaker`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from actors.providers.base import (
    Ambiguous,
    AtCapacity,
    CutOff,
    Done,
    Failed,
    Lost,
    NotReady,
    Postponed,
    ProviderDown,
    ProviderError,
    RateLimited,
    ResultGone,
    ResultLost,
    Running,
    Transient,
    UnknownOutcome,
    Unreachable,
    Unreadable,
)
from supervisor.core import rescue
from supervisor.core.errors import BadParams, DatabaseBusy, SettingFault, StoreAway
from supervisor.objects.disk_space import NO_ROOM, WAITING, is_full
from supervisor.remote.breaker import MOST_AWAY_SECONDS, MOST_SECONDS, TROUBLE_SECONDS, Sign
from supervisor.remote.job_states import RemoteState
from supervisor.remote.unclear_answers import Doubt, Doubts
from supervisor.remote.unclear_answers import after as doubts_after

OUR_OWN_CODES = ("image_not_found", "image_unusable", "worker_died")
# A wrongly configured provider, an unreachable store: people can repair it, and the task can wait.
UNUSABLE_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class Postpone:
    """Try later; no attempt is counted.  code, message, detail: the reason, for the task's history."""

    in_seconds: float
    code: str = dataclasses.field(default="", compare=False)
    message: str = dataclasses.field(default="", compare=False)
    detail: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True)
class OrderAgain:
    """The service has lost the order, and a second order costs nothing: it is ordered again.  The evidence shows how
    often that happened to this charge; `rescue.after_cut_off` gives the verdict.  chance: uniform in [0, 1)."""

    code: str
    message: str
    chance: float = dataclasses.field(compare=False)
    detail: str = dataclasses.field(default="", compare=False)


Outcome = rescue.RunAgain | rescue.GiveUp | Postpone | OrderAgain
_OUTCOMES: Mapping[str, type[Outcome]] = {
    kind.__name__: kind for kind in (rescue.RunAgain, rescue.GiveUp, Postpone, OrderAgain)
}


def after_error(budget: rescue.Budget, error: Exception, *, may_bill_twice: bool, chance: float) -> Outcome:
    """The verdict on an error.  chance: uniform in [0, 1)."""
    outcome = _after_error(budget, error, may_bill_twice, chance)
    detail = error.detail if isinstance(error, ProviderError) else ""
    return dataclasses.replace(outcome, detail=detail) if detail else outcome


def _after_error(budget: rescue.Budget, error: Exception, may_bill_twice: bool, chance: float) -> Outcome:
    match error:
        case Postponed():
            wait = error.wait_seconds * (1 + chance / 4)  # so that they do not all return at the same moment
            return Postpone(wait, error.waits_for, str(error))
        case SettingFault() | StoreAway() | DatabaseBusy():
            code = "wrong_settings" if isinstance(error, SettingFault) else "store_away"
            return Postpone(UNUSABLE_SECONDS * (0.5 + chance), code, str(error))
        case OSError() if is_full(error):
            return Postpone(UNUSABLE_SECONDS * (0.5 + chance), NO_ROOM, "The disk of the worker is full.")
        case CutOff() | Lost() if may_bill_twice:
            return OrderAgain(error.code, str(error), chance)
        case Ambiguous() if may_bill_twice:
            return _failed(budget, ProviderError.code, str(error), retryable=True, chance=chance)
        case UnknownOutcome() | Lost():  # it may have been carried out
            return _failed(budget, error.code, str(error), retryable=may_bill_twice, chance=chance)
        case ProviderError():
            return _failed(budget, error.code, str(error), retryable=error.retryable, chance=chance)
        case BadParams():
            return _failed(budget, error.code, str(error), retryable=False, chance=chance)
        case _:
            return _failed(
                budget,
                "internal",
                "Something went wrong inside; it was logged.",
                retryable=True,
                chance=chance,
            )


def code_of(error: Exception) -> str:
    """The error's code for traces; the user sees the same code, if any."""
    return str(error.code) if isinstance(error, ProviderError | BadParams) else type(error).__name__


def end_of_call(error: ProviderError) -> str:
    """The end of a call for the metrics: a service with a rate limit, or without room, has its own label."""
    return error.waits_for if isinstance(error, RateLimited | AtCapacity) else error.code


def after_time_limit(budget: rescue.Budget, seconds: float, *, chance: float) -> Outcome:
    """The attempt's time limit was reached, after so many seconds."""
    sentence = f"This took longer than its time limit of {seconds:g} s (TIME_LIMIT_SECONDS) allows."
    return _failed(budget, "time_limit", sentence, retryable=True, chance=chance)


def after_question(
    said: Running | Done | Failed | Exception, before: Doubts, *, may_bill_twice: bool, usual_seconds: float
) -> tuple[Running | Done | Failed, Doubts]:
    """The verdict on a poll of a remote job, and the count of unclear answers.

    said: the result of the poll, or of reading a report.  before: the unclear answers so far.  usual_seconds: until the
    next poll.  Temporary errors decide nothing: the job is polled again, uncounted, until its time is over.  An answer
    that the job is unknown, or that can't be read, counts after three times in a row.  Since the job may have been done
    and billed, an unknown job ends only if it may be ordered again.
    """
    match said:
        case Failed(error=Lost() as lost) | (Lost() as lost):
            doubts = doubts_after(before, Doubt.UNKNOWN)
            if may_bill_twice and doubts.are_believed(lost.sure_after_seconds):
                return Failed(lost), doubts
            return Running(poll_after_seconds=usual_seconds), doubts
        case Unreadable():
            doubts = doubts_after(before, Doubt.UNREADABLE)
            if doubts.are_believed(0.0):
                return Failed(ProviderError(said.message)), doubts
            return Running(poll_after_seconds=usual_seconds), doubts
        case ResultGone():
            return Running(poll_after_seconds=usual_seconds), doubts_after(before, Doubt.GONE)
        case Running() | Done() | Failed():
            return said, doubts_after(before, Doubt.NONE)
        case Postponed():
            return Running(poll_after_seconds=said.wait_seconds), before
        case ResultLost():
            return Failed(said), before
        case Transient() | UnknownOutcome():
            return Running(poll_after_seconds=usual_seconds), before
        case ProviderError():
            return Failed(said), before
        case Exception() if is_full(said):  # the service keeps the pictures; the job's time is paused
            return Running(stage=WAITING, poll_after_seconds=max(usual_seconds, UNUSABLE_SECONDS)), before
        case _:  # a time-out, wrong settings, or a bug: people may repair it while the job goes on
            return Running(poll_after_seconds=max(usual_seconds, UNUSABLE_SECONDS)), before


def deciding(outcomes: Sequence[Outcome]) -> Outcome:
    """The verdict on an attempt, from those on its remote jobs that ended without a result; at least one.

    An error that a retry can't cure decides.
    """
    hopeless = [each for each in outcomes if isinstance(each, rescue.GiveUp)]
    counted = [each for each in outcomes if isinstance(each, rescue.RunAgain)]
    return (hopeless or counted or outcomes)[0]


def as_stored(outcome: Outcome) -> dict[str, Any]:
    """A verdict as JSON, for `from_stored`."""
    return {"outcome": type(outcome).__name__, **dataclasses.asdict(outcome)}


def from_stored(stored: Mapping[str, Any]) -> Outcome:
    """The verdict that was stored so.  Members that this version does not know are left out."""
    kind = _OUTCOMES[stored["outcome"]]
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in stored.items() if name in known})


def after_remote_error(
    budget: rescue.Budget, error: ProviderError, *, may_bill_twice: bool, chance: float
) -> Outcome:
    """The verdict on a remote job that ended without a result.

    A wait that the service asks for is obeyed, but the ended job counts as a failure, because it had been accepted.
    """
    if isinstance(
        error, ResultLost
    ):  # the job is done: it is not ordered again because its pictures can't be fetched
        may_bill_twice = False
    if (
        isinstance(error, ProviderDown) and may_bill_twice
    ):  # it waits while the breaker is open, and is ordered again
        return OrderAgain(error.code, str(error), chance)
    if isinstance(error, Postponed):
        wait = error.wait_seconds
        return rescue.after_failure(
            budget, error.code, str(error), retryable=True, chance=chance, retry_after_seconds=wait
        )
    return after_error(budget, error, may_bill_twice=may_bill_twice, chance=chance)


def state_of_failed(error: ProviderError) -> RemoteState:
    """The state of a remote job that ended with this error."""
    return RemoteState.LOST if isinstance(error, Lost) else RemoteState.FAILED


def sign_of(error: BaseException | None) -> Sign | None:
    """The state of the service after a request; None if unknown.  error: None for a successful request."""
    match error:
        case None | ResultLost():
            return Sign.WELL
        case ProviderDown():
            return Sign.DOWN
        case ProviderError() if error.code in OUR_OWN_CODES:
            return None  # it was never sent: our photo or our image child is at fault
        case Transient() | UnknownOutcome() | NotReady():
            return Sign.TROUBLE
        case ProviderError():
            return Sign.WELL
        case _:
            return None


def keep_away_seconds(error: BaseException | None) -> float:
    """The wait before the next request after this error, the first time."""
    return error.wait_seconds if isinstance(error, Postponed) else TROUBLE_SECONDS


def keep_away_at_most_seconds(error: BaseException | None) -> float:
    """The wait after so many such errors in a row: a starting server is back soon."""
    return MOST_AWAY_SECONDS if isinstance(error, Unreachable | NotReady) else MOST_SECONDS


def _failed(budget: rescue.Budget, code: str, message: str, *, retryable: bool, chance: float) -> Outcome:
    return rescue.after_failure(budget, code, message, retryable=retryable, chance=chance)
