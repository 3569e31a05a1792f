"""The table of steps, run as a model: the store and the guards of both databases are compared with it."""

from __future__ import annotations

import dataclasses

from supervisor.core.lifecycle import COUNTED, TRANSITIONS, Event, Money, Rule, Status, Transition

_BY_STEP = {(each.source, each.event): each for each in TRANSITIONS}


class IllegalStep(Exception):
    """The table has no such arrow: nothing was changed.  Look at the task's status again."""

    def __init__(self, status: Status, event: Event) -> None:
        super().__init__(f"A {status} task has no step '{event}'.")
        self.status, self.event = status, event


@dataclasses.dataclass(frozen=True)
class TaskState:
    """The counted columns of a task and what its current charge has paid.

    taken: credits debited for the current charge and not refunded (>= 0).  first_step, last_step: of this charge.
    kept: what a refund leaves out.  paid_before: by earlier charges.  finished: steps with results, of any charge.
    """

    status: Status = Status.PENDING
    lease: int = 0
    attempt: int = 0
    charge: int = 1
    admitted_charge: int = 0
    step: int = 0
    first_step: int = 0
    last_step: int = 0
    failures: int = 0
    deaths: int = 0
    taken: int = 0
    kept: int = 0
    paid_before: int = 0
    finished: int = 0


def transition(status: Status, event: Event) -> Transition:
    """The arrow for (status, event).  Raises IllegalStep where the table has none."""
    try:
        return _BY_STEP[status, event]
    except KeyError:
        raise IllegalStep(status, event) from None


def step(task: TaskState, event: Event, *, price: int = 0, rising: frozenset[str] = frozenset()) -> TaskState:
    """The task after an event.

    price: credits a debit takes.  rising: which MAY_RISE columns rise in this step.
    Raises IllegalStep and changes nothing where the table has no arrow. So it does for a claim of a task whose current
    charge was not admitted, for a second admission of the same charge, for an advance of the last step, and for a
    completion of another.
    """
    arrow = transition(task.status, event)
    admitted = task.admitted_charge == task.charge
    if (event is Event.CLAIM and not admitted) or (event is Event.ADMIT and admitted):
        raise IllegalStep(task.status, event)
    is_last = task.step == task.last_step
    if (event is Event.ADVANCE and is_last) or (event is Event.COMPLETE and not is_last):
        raise IllegalStep(task.status, event)
    values: dict[str, int] = {}
    for column in COUNTED:
        old: int = getattr(task, column)
        values[column] = _applied(arrow.rule(column), old, task, rises=column in rising)
    taken = {
        Money.NONE: task.taken,
        Money.DEBIT: task.taken + price,
        Money.REFUND: min(task.taken, task.kept),
    }[arrow.money]
    after = dataclasses.replace(task, status=arrow.target, taken=taken, **values)
    if event is Event.RESUBMIT:
        return dataclasses.replace(
            after, taken=0, kept=0, first_step=0, paid_before=task.paid_before + task.taken
        )
    return after


def _applied(rule: Rule, old: int, task: TaskState, *, rises: bool) -> int:
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
            return task.charge
        case Rule.TO_FIRST:
            return task.first_step


def steps_between(source: Status, target: Status) -> tuple[Transition, ...]:
    """Every arrow from one status to another; empty where the pair is illegal."""
    return tuple(each for each in TRANSITIONS if (each.source, each.target) == (source, target))


def picture() -> str:
    """The lifecycle as a Mermaid state diagram; steps that keep the status and are not shown to users are left out."""
    lines = ["stateDiagram-v2", "    [*] --> pending: submit"]
    labels: dict[tuple[Status, Status], list[str]] = {}
    for arrow in TRANSITIONS:
        if arrow.event not in (Event.RIPEN, Event.PROGRESS, Event.SETTLE):
            labels.setdefault((arrow.source, arrow.target), []).append(arrow.event.value)
    lines += [
        f"    {source} --> {target}: {', '.join(events)}" for (source, target), events in labels.items()
    ]
    return "\n".join([*lines, "    completed --> [*]"])
