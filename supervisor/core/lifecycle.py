"""The life of a task, as one table.

Terms: a *step* takes a task from one status to another (or to the same one) because of an *event*.  Each
row of `TRANSITIONS` is one arrow; no row, no step.  The database's own guard
(`supervisor.schema.shared.lifecycle_guard`) and the picture in ARCHITECTURE.md are made from this table, so the three
cannot disagree.

Authority: this module decides which steps exist and what happens to the counted columns; the store applies
a step as one compare-and-set UPDATE; the guard refuses everything else, whoever writes.

Counted columns, and why each exists:
  lease            number of the claim; only grows, fences every later write of a running task
  attempt          number of the run; only grows (a poll of a remote job is no new attempt)
  charge           number of the submission that is being paid for; raised by resubmit only
  admitted_charge  the charge that was admitted; a task may be claimed only when it equals `charge`
  failures         attempts that used up the budget (`failures < max_attempts` may run again)
  deaths           attempts whose worker died under them; kept apart, so that a dying host is not the task's fault

Not promised here: timing, money amounts, who may ask.  No I/O, no clock, no chance.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


class Status(enum.StrEnum):
    """Where a task stands; the word in `task_queue.status` and over HTTP."""

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
    """What makes a task step."""

    ADMIT = "admit"
    REJECT = "reject"
    RIPEN = "ripen"
    CLAIM = "claim"
    PROGRESS = "progress"
    HAND_OFF = "hand_off"
    POLL = "poll"
    NOT_YET = "not_yet"
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


COUNTED = ("lease", "attempt", "charge", "admitted_charge", "failures", "deaths")


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

TRANSITIONS: tuple[Transition, ...] = (
    Transition(P, Event.ADMIT, P, {"admitted_charge": Rule.TO_CHARGE}, Money.DEBIT),
    Transition(P, Event.REJECT, F, {}, Money.REFUND),
    Transition(P, Event.RIPEN, P),  # its time has come
    Transition(P, Event.CLAIM, R, {"lease": ONE, "attempt": ONE}),
    Transition(P, Event.FAIL, F, {}, Money.REFUND),  # expired while it waited
    Transition(P, Event.CANCEL, X, {}, Money.REFUND),
    Transition(R, Event.PROGRESS, R),
    Transition(R, Event.HAND_OFF, A),
    Transition(R, Event.COMPLETE, C),
    Transition(R, Event.FAIL, F, {"failures": MAY, "deaths": MAY}, Money.REFUND),
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
    Transition(A, Event.RETRY, P, {"failures": ONE}),
    Transition(A, Event.ORDER_AGAIN, P),  # its service has forgotten the job, and nobody bills
    Transition(A, Event.CANCEL, X, {}, Money.REFUND),
    Transition(F, Event.RESUBMIT, P, {"charge": ONE, "failures": Rule.ZERO, "deaths": Rule.ZERO}),
    Transition(X, Event.RESUBMIT, P, {"charge": ONE, "failures": Rule.ZERO, "deaths": Rule.ZERO}),
    # Housekeeping of finished rows (their files expire); no counted column moves.
    Transition(C, Event.SETTLE, C),
    Transition(F, Event.SETTLE, F),
    Transition(X, Event.SETTLE, X),
)

_BY_STEP = {(each.source, each.event): each for each in TRANSITIONS}


class IllegalStep(Exception):
    """The table has no such arrow: nothing was changed.  Look at the task's status again."""

    def __init__(self, status: Status, event: Event) -> None:
        super().__init__(f"A {status} task has no step '{event}'.")
        self.status, self.event = status, event


@dataclasses.dataclass(frozen=True)
class TaskState:
    """The counted columns of a task and what its current charge has paid.

    taken: credits debited for the current charge and not refunded (>= 0).
    """

    status: Status = Status.PENDING
    lease: int = 0
    attempt: int = 0
    charge: int = 1
    admitted_charge: int = 0
    failures: int = 0
    deaths: int = 0
    taken: int = 0


def transition(status: Status, event: Event) -> Transition:
    """The arrow for (status, event).  Raises IllegalStep where the table has none."""
    try:
        return _BY_STEP[status, event]
    except KeyError:
        raise IllegalStep(status, event) from None


def step(task: TaskState, event: Event, *, price: int = 0, rising: frozenset[str] = frozenset()) -> TaskState:
    """The task after an event.

    price: credits a debit takes.  rising: which MAY_RISE columns rise in this step.
    Raises IllegalStep and changes nothing where the table has no arrow, or for a claim of a task whose
    current charge was not admitted, or a second admission of the same charge.
    """
    arrow = transition(task.status, event)
    admitted = task.admitted_charge == task.charge
    if (event is Event.CLAIM and not admitted) or (event is Event.ADMIT and admitted):
        raise IllegalStep(task.status, event)
    values: dict[str, int] = {}
    for column in COUNTED:
        old: int = getattr(task, column)
        values[column] = _applied(arrow.rule(column), old, charge=task.charge, rises=column in rising)
    taken = {Money.NONE: task.taken, Money.DEBIT: task.taken + price, Money.REFUND: 0}[arrow.money]
    return dataclasses.replace(task, status=arrow.target, taken=taken, **values)


def _applied(rule: Rule, old: int, *, charge: int, rises: bool) -> int:
    """A counted column's new value under a rule."""
    match rule:
        case Rule.SAME:
            return old
        case Rule.PLUS_ONE:
            return old + 1
        case Rule.MAY_RISE:
            return old + rises
        case Rule.ZERO:
            return 0
        case Rule.TO_CHARGE:
            return charge


def steps_between(source: Status, target: Status) -> tuple[Transition, ...]:
    """Every arrow from one status to another; empty where the pair is illegal."""
    return tuple(each for each in TRANSITIONS if (each.source, each.target) == (source, target))


def picture() -> str:
    """The lifecycle as a Mermaid state diagram; steps that stay in place and are not shown to users are left out."""
    lines = ["stateDiagram-v2", "    [*] --> pending: submit"]
    labels: dict[tuple[Status, Status], list[str]] = {}
    for arrow in TRANSITIONS:
        if arrow.event not in (Event.RIPEN, Event.PROGRESS, Event.SETTLE):
            labels.setdefault((arrow.source, arrow.target), []).append(arrow.event.value)
    lines += [
        f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in labels.items()
    ]
    return "\n".join([*lines, "    completed --> [*]"])
