"""The life of a task, as one table.

Terms: a *step* takes a task from one status to another (or to the same one) because of an *event*.  Each
row of `TRANSITIONS` is one arrow; no row, no step.  The database's own guard
(`supervisor.schema.shared.lifecycle_guard`) and the picture in ARCHITECTURE.md are made from this table.

Authority: this module decides which steps exist and what happens to the counted columns; the store applies
a step as one compare-and-set UPDATE; the guard refuses every other write, from any program.

Counted columns, and why each exists:
  lease            number of the claim; only grows, fences every later write of a running task
  attempt          number of the run; only grows (a poll of a remote job is no new attempt)
  charge           number of the submission, and of its payment; raised by resubmit only
  admitted_charge  the charge that was admitted; a task may be claimed only when it equals `charge`
  step             number of the type's step that runs or comes next, from 0; a type without steps has one
  failures         failed attempts of this step (a task with `failures < max_attempts` may run again)
  deaths           attempts in which the worker died; counted separately, so that a dying host is not the task's fault

Not decided here: timing, amounts of money, permissions.  No I/O, no clock, no chance.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


class Status(enum.StrEnum):
    """A task's status; the word in `task_queue.status` and over HTTP."""

    PENDING = "pending"
    PROCESSING = "processing"
    AI_PROCESSING = "ai_processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({Status.PENDING, Status.PROCESSING, Status.AI_PROCESSING})
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
RETRYABLE = frozenset({Status.FAILED, Status.CANCELLED})


class Event(enum.StrEnum):
    """The cause of a step."""

    ADMIT = "admit"
    REJECT = "reject"
    RIPEN = "ripen"
    CLAIM = "claim"
    PROGRESS = "progress"
    HAND_OFF = "hand_off"
    POLL = "poll"
    NOT_YET = "not_yet"
    ADVANCE = "advance"
    COMPLETE = "complete"
    FAIL = "fail"
    RETRY = "retry"
    RELEASE = "release"
    POSTPONE = "postpone"
    ORDER_AGAIN = "order again"
    CANCEL = "cancel"
    RESUBMIT = "resubmit"
    SETTLE = "settle"


class Rule(enum.Enum):
    """What a step does to one counted column."""

    SAME = "stays"
    PLUS_ONE = "rises by one"
    MAY_RISE = "stays or rises by one"
    ZERO = "becomes zero"
    TO_CHARGE = "becomes the charge"
    TO_FIRST = "becomes the first step of the charge"


COUNTED = ("lease", "attempt", "charge", "admitted_charge", "step", "failures", "deaths")


class Money(enum.Enum):
    """What a step does to the user's credits, in the same transaction."""

    NONE = "nothing"
    DEBIT = "takes the price"
    REFUND = "gives back what was taken"


@dataclasses.dataclass(frozen=True)
class Transition:
    """One arrow of the table.

    counted: only columns that change; every other column of COUNTED stays.
    """

    source: Status
    event: Event
    target: Status
    counted: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    money: Money = Money.NONE

    def rule(self, column: str) -> Rule:
        """What happens to a counted column in this step."""
        return self.counted.get(column, Rule.SAME)


P, R, A = Status.PENDING, Status.PROCESSING, Status.AI_PROCESSING
C, F, X = Status.COMPLETED, Status.FAILED, Status.CANCELLED
ONE, MAY = Rule.PLUS_ONE, Rule.MAY_RISE
ADVANCED = {"step": ONE, "failures": Rule.ZERO, "deaths": Rule.ZERO}
AGAIN = {"charge": ONE, "step": Rule.ZERO, "failures": Rule.ZERO, "deaths": Rule.ZERO}

TRANSITIONS: tuple[Transition, ...] = (
    Transition(P, Event.ADMIT, P, {"admitted_charge": Rule.TO_CHARGE, "step": Rule.TO_FIRST}, Money.DEBIT),
    Transition(P, Event.REJECT, F, {}, Money.REFUND),
    Transition(P, Event.RIPEN, P),  # its time has come
    Transition(P, Event.CLAIM, R, {"lease": ONE, "attempt": ONE}),
    Transition(P, Event.FAIL, F, {}, Money.REFUND),  # expired while it waited
    Transition(P, Event.CANCEL, X, {}, Money.REFUND),
    Transition(R, Event.PROGRESS, R),
    Transition(R, Event.HAND_OFF, A),
    Transition(R, Event.COMPLETE, C),
    Transition(R, Event.FAIL, F, {"failures": MAY, "deaths": MAY}, Money.REFUND),
    Transition(R, Event.ADVANCE, P, ADVANCED),  # the results of the step are stored, and the next one is due
    Transition(R, Event.RETRY, P, {"failures": ONE}),
    Transition(R, Event.RELEASE, P, {"deaths": MAY}),  # also a claim that is taken back before it was begun
    Transition(R, Event.POSTPONE, P),
    Transition(R, Event.CANCEL, X, {}, Money.REFUND),
    Transition(A, Event.POLL, A, {"lease": ONE}),
    Transition(A, Event.PROGRESS, A),
    Transition(A, Event.NOT_YET, A),
    Transition(A, Event.RELEASE, A, {"deaths": MAY}),
    Transition(A, Event.POSTPONE, A),
    Transition(A, Event.COMPLETE, C),
    Transition(A, Event.FAIL, F, {"failures": MAY, "deaths": MAY}, Money.REFUND),
    Transition(A, Event.ADVANCE, P, ADVANCED),
    Transition(A, Event.RETRY, P, {"failures": ONE}),
    Transition(A, Event.ORDER_AGAIN, P),  # its service has lost the job; another order can't be billed twice
    Transition(A, Event.CANCEL, X, {}, Money.REFUND),
    Transition(F, Event.RESUBMIT, P, AGAIN),
    Transition(X, Event.RESUBMIT, P, AGAIN),
    # Housekeeping of finished rows (their files expire); no counted column changes.
    Transition(C, Event.SETTLE, C),
    Transition(F, Event.SETTLE, F),
    Transition(X, Event.SETTLE, X),
)
