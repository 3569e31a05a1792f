"""The faults, their roles and times: a pure function of the seed, so a failed run can be repeated.

The plan names roles, not processes: which process has the role is found at the moment itself, so two runs of a seed
do the same things at the same times, though not always to the same work.
"""

from __future__ import annotations

import dataclasses
import enum
import random

MEAN_GAP_SECONDS = 1.5
SHORTEST_FREEZE_SECONDS, LONGEST_FREEZE_SECONDS = 1.0, 25.0
QUIET_SECONDS = 5.0  # at the start, for the first tasks to come to work
SECONDS_A_COLLAPSE = 90.0  # the whole house is killed once in so long
SECONDS_AN_ABSENCE = 60.0
SHORTEST_ABSENCE_SECONDS, LONGEST_ABSENCE_SECONDS = (
    40.0,
    50.0,
)  # the limits of a house with absences are shorter
SECONDS_A_STEP = 25.0
MOST_AHEAD_SECONDS = 7200  # two steps in the same direction are less than EXPIRE_SECONDS


class Act(enum.StrEnum):
    """KILL: SIGKILL.  FREEZE: SIGSTOP, later SIGCONT.  RESTART: SIGTERM, the supervisor starts it again."""

    KILL = "kill"
    FREEZE = "freeze"
    RESTART = "restart"


class Role(enum.StrEnum):
    """A part of the house.

    MASTER is dramatiq's own process, WORKER the one it forks, HOUSE the supervisor, FORK_SERVER the process from which
    it forks the others.
    """

    WORKER = "worker"
    MASTER = "master"
    DISPATCHER = "dispatcher"
    WEB = "web"
    BROKER = "broker"
    SCHEDULER = "scheduler"
    IMAGE_CHILD = "image child"
    FORK_SERVER = "fork server"
    HOUSE = "up"


# How often each is hit, and what may be done to it.  A worker is where tasks are lost, so it is hit most.
_WEIGHTS = {
    Role.WORKER: 7,
    Role.MASTER: 3,
    Role.DISPATCHER: 4,
    Role.WEB: 4,
    Role.BROKER: 4,
    Role.SCHEDULER: 1,
    Role.IMAGE_CHILD: 2,
    Role.FORK_SERVER: 2,
    Role.HOUSE: 1,
}
_USUAL = {Act.KILL: 5, Act.FREEZE: 3, Act.RESTART: 2}
_ACTS = {
    Role.IMAGE_CHILD: {Act.KILL: 3, Act.FREEZE: 1},
    Role.FORK_SERVER: {Act.KILL: 1, Act.FREEZE: 1},
    Role.HOUSE: {Act.FREEZE: 1},  # its deaths are planned apart
}


@dataclasses.dataclass(frozen=True)
class Fault:
    """at: seconds from the start.  which: of several processes with the role.  seconds: how long a freeze lasts."""

    at: float
    role: Role
    act: Act
    which: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        how_long = f" for {self.seconds:.1f} s" if self.act is Act.FREEZE else ""
        return f"{self.act} {self.role}{how_long}"


def plan(seed: int, seconds: float) -> tuple[Fault, ...]:
    """Everything that is done in one run, in order.  seconds: how long the chaos lasts."""
    draw = random.Random(f"darkroom chaos {seed}")
    faults = []
    at = QUIET_SECONDS
    while at < seconds:
        faults.append(_one(draw, at))
        at += min(3 * MEAN_GAP_SECONDS, draw.expovariate(1 / MEAN_GAP_SECONDS))
    collapses = max(1, round(seconds / SECONDS_A_COLLAPSE))
    stretch = (seconds - QUIET_SECONDS) / collapses
    for number in range(collapses):
        moment = QUIET_SECONDS + stretch * (number + draw.uniform(0.3, 0.8))
        faults.append(Fault(round(moment, 3), Role.HOUSE, Act.KILL))
    return tuple(sorted(faults, key=lambda fault: fault.at))


@dataclasses.dataclass(frozen=True)
class Absence:
    """All parts stand still, or are dead, for longer than any limit of the house.  at, seconds: as of a fault."""

    at: float
    seconds: float
    are_killed: bool

    def __str__(self) -> str:
        return f"{'kill' if self.are_killed else 'freeze'} everybody for {self.seconds:.1f} s"


@dataclasses.dataclass(frozen=True)
class ClockStep:
    """The clock of the host goes on from another time of day.  ahead_seconds: of the real one."""

    at: float
    ahead_seconds: int

    def __str__(self) -> str:
        return f"step the clock to {self.ahead_seconds:+d} s"


def absences(seed: int, seconds: float) -> tuple[Absence, ...]:
    """One of each kind by turns, spread over the chaos."""
    draw = random.Random(f"darkroom absences {seed}")
    number = max(2, round(seconds / SECONDS_AN_ABSENCE))
    stretch = (seconds - QUIET_SECONDS) / number
    return tuple(
        Absence(
            round(QUIET_SECONDS + stretch * (n + draw.uniform(0.2, 0.9)), 3),
            round(draw.uniform(SHORTEST_ABSENCE_SECONDS, LONGEST_ABSENCE_SECONDS), 1),
            bool((seed + n) % 2),
        )
        for n in range(number)
    )


def clock_steps(seed: int, seconds: float) -> tuple[ClockStep, ...]:
    """Forward and back by turns, by seconds or by hours; the last puts the clock right."""
    draw = random.Random(f"darkroom clock steps {seed}")
    number = max(3, round(seconds / SECONDS_A_STEP))
    stretch = (seconds - QUIET_SECONDS) / number
    steps = []
    for n in range(number):
        size = draw.choice((draw.randint(2, 90), draw.randint(600, MOST_AHEAD_SECONDS)))
        ahead = 0 if n == number - 1 else size * (-1 if n % 2 else 1)
        steps.append(ClockStep(round(QUIET_SECONDS + stretch * (n + draw.uniform(0.2, 0.9)), 3), ahead))
    return tuple(steps)


def _one(draw: random.Random, at: float) -> Fault:
    role = draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    acts = _ACTS.get(role, _USUAL)
    act = draw.choices(list(acts), list(acts.values()))[0]
    which = draw.randrange(1000)
    seconds = draw.uniform(SHORTEST_FREEZE_SECONDS, LONGEST_FREEZE_SECONDS)
    return Fault(round(at, 3), role, act, which, round(seconds, 2) if act is Act.FREEZE else 0.0)
