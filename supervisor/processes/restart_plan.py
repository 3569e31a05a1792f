"""The next acts of the process supervisor.  Pure, so that a test can replay a whole crash history.

Terms.  A *child* is a program kept running.  Children have *ranks*: lower ranks start first and stop last, one rank
stops together.  A rank starts when every *awaited* child of the lower ranks is ready.  A *death* is an end that was not
requested.

Restarts.  A child that dies is started again at once; one that dies soon after its start several times waits longer
each time.  Two budgets separate bad luck from a crash loop, which needs a person and not more restarts: deaths caused
by the child itself (it exited or crashed; not: "can't work now", NOT_NOW), and deaths of any kind.  The second budget
is larger because SIGKILL comes from outside (a person, the kernel without memory) and says little about the child.
When a budget is used up, everything is stopped and a sentence says why.

Stopping.  The highest rank with live children is asked to stop (SIGTERM) and killed when its grace is over; then the
next rank.

Time is a monotonic clock's seconds, passed in.  Only `decide` returns acts; the other functions record events.  Calling
it again at the same moment yields nothing new.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from enum import StrEnum

# EX_TEMPFAIL: a part whose database is not migrated yet; it is started again until the database is migrated
NOT_NOW = 75
LIVED_LONG_ENOUGH_SECONDS = 2.0  # a child that lived this long is restarted at once
FIRST_DELAY_SECONDS = 0.1
OWN_DELAY_CEILING_SECONDS = 5.0
KILLED_DELAY_CEILING_SECONDS = 0.5


@dataclass(frozen=True)
class Budget:
    """At most `deaths` within `period_seconds`; one more is too many."""

    deaths: int
    period_seconds: float


@dataclass(frozen=True)
class ChildSpec:
    """name: unique.  own, any_kind: the two budgets, None = restart for ever.  grace_seconds: SIGTERM to SIGKILL.

    reasons: where the reason of its death can be read, the subject of a sentence.
    """

    name: str
    rank: int = 0
    awaited: bool = True
    own: Budget | None = Budget(deaths=5, period_seconds=30)
    any_kind: Budget | None = Budget(deaths=60, period_seconds=60)
    grace_seconds: float = 10.0
    reasons: str = "its own messages above say"


class Phase(StrEnum):
    WAITING = "waiting"  # to be started, now or at start_at
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"  # asked to stop
    STOPPED = "stopped"  # for good


LIVING = frozenset({Phase.STARTING, Phase.READY, Phase.STOPPING})


@dataclass(frozen=True)
class Death:
    at: float
    status: int  # as waitstatus_to_exitcode: an exit status, or minus the signal
    why: str = ""  # if its supervisor has killed it

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def is_own(self) -> bool:
        """Whether the child itself caused it: it was not killed, and it did not say that it can't work now."""
        return not self.killed and self.status != NOT_NOW

    def __str__(self) -> str:
        how = f"exit status {self.status}" if self.status >= 0 else f"signal {_name_of_signal(-self.status)}"
        return f"{how}: {self.why}" if self.why else how


def _name_of_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


@dataclass(frozen=True)
class Child:
    spec: ChildSpec
    phase: Phase = Phase.WAITING
    since: float = 0.0  # of the phase
    started_at: float = 0.0
    start_at: float = 0.0  # while waiting: not before
    starts: int = 0
    short_lives: int = 0  # deaths soon after the start, in a row
    was_ready: bool = False  # ever
    was_killed: bool = False  # by us, at its stop
    deaths: tuple[Death, ...] = ()  # those the budgets still count

    @property
    def lives(self) -> bool:
        return self.phase in LIVING

    @property
    def restarts(self) -> int:
        return max(0, self.starts - 1)


@dataclass(frozen=True)
class Spawn:
    name: str


@dataclass(frozen=True)
class Terminate:
    name: str


@dataclass(frozen=True)
class Kill:
    name: str


@dataclass(frozen=True)
class GiveUp:
    """The system stops; `sentence` is what a person should read."""

    sentence: str


Act = Spawn | Terminate | Kill | GiveUp


@dataclass(frozen=True)
class Plan:
    children: tuple[Child, ...]
    stopping: bool = False
    hurried: bool = False  # no politeness left
    gave_up: str = ""

    def child(self, name: str) -> Child:
        return next(child for child in self.children if child.spec.name == name)

    @property
    def all_ready(self) -> bool:
        return not self.stopping and all(child.phase is Phase.READY for child in self.children)

    @property
    def over(self) -> bool:
        """All children have ended for good."""
        return self.stopping and all(child.phase is Phase.STOPPED for child in self.children)


def new_plan(specs: list[ChildSpec]) -> Plan:
    """All children waiting to be started.  Raises ValueError if two have one name."""
    if len({spec.name for spec in specs}) != len(specs):
        raise ValueError("two children have the same name")
    return Plan(tuple(Child(spec) for spec in sorted(specs, key=lambda spec: spec.rank)))


# --- events ---


def note_ready(plan: Plan, name: str, now: float) -> Plan:
    child = plan.child(name)
    if child.phase is not Phase.STARTING:
        return plan
    return _with(plan, replace(child, phase=Phase.READY, since=now, was_ready=True))


def note_replaced(plan: Plan, name: str, now: float) -> Plan:
    """Another process has replaced this child and works; that is not a death."""
    child = plan.child(name)
    if plan.stopping:
        return plan
    fresh = replace(child, phase=Phase.STARTING, since=now, started_at=now, short_lives=0, deaths=())
    return note_ready(_with(plan, fresh), name, now)


def note_exit(plan: Plan, name: str, status: int, now: float) -> Plan:
    """The child and all of its process group are gone.  status: as `os.waitstatus_to_exitcode` gives it."""
    child = plan.child(name)
    if not child.lives:
        return plan
    if plan.stopping:
        return _with(plan, replace(child, phase=Phase.STOPPED, since=now))
    death = Death(now, status)
    short = now - child.started_at < LIVED_LONG_ENOUGH_SECONDS
    short_lives = child.short_lives + 1 if short else 0
    longest = max(
        (budget.period_seconds for budget in (child.spec.own, child.spec.any_kind) if budget), default=0
    )
    return _with(
        plan,
        replace(
            child,
            phase=Phase.WAITING,
            since=now,
            start_at=now + delay_seconds(short_lives, killed=death.killed),
            short_lives=short_lives,
            deaths=(*(old for old in child.deaths if old.at > now - longest), death),
        ),
    )


def note_stop(plan: Plan) -> Plan:
    """Stop: at the first call politely, at the next one at once."""
    return replace(plan, stopping=True, hurried=plan.stopping)


def delay_seconds(short_lives: int, *, killed: bool) -> float:
    """The wait of a dead child: none after a long enough life, else doubling up to a ceiling."""
    if short_lives == 0:
        return 0.0
    ceiling = KILLED_DELAY_CEILING_SECONDS if killed else OWN_DELAY_CEILING_SECONDS
    return min(ceiling, FIRST_DELAY_SECONDS * 2.0 ** min(short_lives - 1, 16))


# --- deciding ---


def decide(plan: Plan, now: float) -> tuple[Plan, tuple[Act, ...]]:
    """The actions due now, and the plan after them."""
    if not plan.stopping and (sentence := crash_loop(plan, now)):
        plan = replace(plan, stopping=True, gave_up=sentence)
        plan, acts = _stop(plan, now)
        return plan, (GiveUp(sentence), *acts)
    return _stop(plan, now) if plan.stopping else _start(plan, now)


def crash_loop(plan: Plan, now: float) -> str:
    """A sentence about the child that used up a budget, or an empty one."""
    for child in plan.children:
        for budget, deaths in (
            (child.spec.own, [death for death in child.deaths if death.is_own]),
            (child.spec.any_kind, list(child.deaths)),
        ):
            if budget is None:
                continue
            recent = [death for death in deaths if death.at > now - budget.period_seconds]
            if len(recent) > budget.deaths:
                return (
                    f"{child.spec.name} ended {len(recent)} times within {budget.period_seconds:g} s "
                    f"(last: {recent[-1]}), so everything is stopped; {child.spec.reasons} why."
                )
    return ""


def next_moment(plan: Plan) -> float | None:
    """When `decide` must be called even without events; None = never."""
    if plan.stopping:
        asked = [child for child in plan.children if child.phase is Phase.STOPPING and not child.was_killed]
        moments = [child.since + child.spec.grace_seconds for child in asked]
    else:
        waiting = [
            child for child in plan.children if child.phase is Phase.WAITING and _may_start(plan, child)
        ]
        moments = [child.start_at for child in waiting]
    return min(moments, default=None)


def _start(plan: Plan, now: float) -> tuple[Plan, tuple[Act, ...]]:
    acts: list[Act] = []
    for child in plan.children:
        if child.phase is Phase.WAITING and child.start_at <= now and _may_start(plan, child):
            started = replace(child, phase=Phase.STARTING, since=now, started_at=now, starts=child.starts + 1)
            plan = _with(plan, started)
            acts.append(Spawn(child.spec.name))
    return plan, tuple(acts)


def _may_start(plan: Plan, child: Child) -> bool:
    """At a first start the lower ranks come first; later a dead child does not wait for them."""
    return child.starts > 0 or all(
        other.was_ready for other in plan.children if other.spec.awaited and other.spec.rank < child.spec.rank
    )


def _stop(plan: Plan, now: float) -> tuple[Plan, tuple[Act, ...]]:
    acts: list[Act] = []
    for child in plan.children:
        if child.phase is Phase.WAITING:
            plan = _with(plan, replace(child, phase=Phase.STOPPED, since=now))
    highest = max((child.spec.rank for child in plan.children if child.lives), default=0)
    for child in plan.children:
        if not child.lives or child.was_killed:
            continue
        if plan.hurried or (child.phase is Phase.STOPPING and now >= child.since + child.spec.grace_seconds):
            acts.append(Kill(child.spec.name))
            plan = _with(plan, replace(child, phase=Phase.STOPPING, since=now, was_killed=True))
        elif child.spec.rank == highest and child.phase is not Phase.STOPPING:
            acts.append(Terminate(child.spec.name))
            plan = _with(plan, replace(child, phase=Phase.STOPPING, since=now))
    return plan, tuple(acts)


def _with(plan: Plan, changed: Child) -> Plan:
    return replace(
        plan,
        children=tuple(changed if child.spec.name == changed.spec.name else child for child in plan.children),
    )
