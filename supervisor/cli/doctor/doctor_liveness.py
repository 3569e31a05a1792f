"""Checks of `darkroom doctor` in the database: workers beat, a dispatcher works, sweeps end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from config.settings import Settings
from supervisor.core.sentences import counted
from supervisor.database.interface.database import Database, Transaction
from supervisor.health.liveness import Judge, Liveness
from supervisor.health.sweep_liveness import Sweeps, sweeps_judged
from supervisor.health.troubles import Trouble, troubles
from supervisor.processes.host_state import clock_ahead_seconds, look_around
from supervisor.processes.process_states import to_be_started
from supervisor.store.operators import database_space, overview
from supervisor.store.queue import liveness
from supervisor.store.recovery import stuck_tasks, sweep_runs
from supervisor.store.webhooks import deliveries

DAY_SECONDS = 86_400.0

# Codes of troubles that another check of the doctor reports with its own sentence.
LOOKED_AT_APART = frozenset(
    {
        "no_workers", "workers_silent", "worker_silent", "no_dispatcher", "dispatcher_silent", "broker_away", "stuck",
        "sweep_none", "sweep_silent", "process_down", "disk_full", "disk_low", "clock_ahead", "clock_behind",
    }
)  # fmt: skip
NO_FAULT_OF_OURS = frozenset({"no_credits", "user_limit", "user_storms", "webhook_fails", "webhooks_late"})

Found = tuple[str, bool, str]


def examine_movement(database: Database, settings: Settings) -> Iterator[Found]:
    """(part, whether it is well, a sentence) for each check.  Changes nothing."""
    stuck = sum(database.read(stuck_tasks.count_stuck).values())
    if stuck:
        yield (
            "tasks",
            False,
            f"{counted(stuck, 'task is', 'tasks are')} stuck; `darkroom tasks --stuck` says which and why.",
        )
    else:
        yield "tasks", True, "no task is stuck"
    alive = database.read(lambda tx: liveness.read(tx, settings.silent_seconds))
    yield _workers(alive, settings)
    yield _dispatcher(alive, settings)
    yield _sweep(database, settings, alive)
    yield _webhooks(database)


def examine_troubles(database: Database, settings: Settings) -> Iterator[Found]:
    """Troubles of /ops that no other check of the doctor reports."""
    for each in house_troubles(database, settings):
        if each["code"] not in LOOKED_AT_APART:
            yield each["subject"] or each["code"], each["code"] in NO_FAULT_OF_OURS, each["text"]


def house_troubles(database: Database, settings: Settings) -> list[Trouble]:
    """The troubles of /ops.  Changes nothing."""
    return troubles(house_seen(database, settings))


def house_seen(database: Database, settings: Settings) -> dict[str, Any]:
    """What /ops judges troubles by, as far as it is known without a web process.  Changes nothing."""
    before = time.time()
    seen = database.read(lambda tx: overview.read(tx, settings))
    ahead = clock_ahead_seconds(seen["at"], before, time.time())
    seen |= look_around(settings) | {"database_refuses": database_space.refusal(database)}
    return {**seen, "clock_ahead_seconds": ahead}


def _workers(alive: Liveness, settings: Settings) -> Found:
    if alive.taking:
        silent = (
            f"; {counted(len(alive.silent), 'more has', 'more have')} fallen silent" if alive.silent else ""
        )
        return (
            "workers",
            not silent,
            f"{counted(len(alive.taking), 'takes', 'take')} tasks, {counted(alive.slots, 'slot')}{silent}",
        )
    present = len(alive.fresh) + len(alive.silent)
    if not present:
        return "workers", False, f"No worker takes tasks; {_start(settings, 'worker')}."
    judge = (
        "" if alive.judge is Judge.DISPATCHER else " by the database's clock, since no dispatcher judges them"
    )
    return (
        "workers",
        False,
        f"No worker takes tasks: {present} drain, or have shown no heartbeat for {settings.silent_seconds:g} s{judge};"
        f" look at their logs; one that is frozen hears only `kill -9`; {_start(settings, 'worker')}.",
    )


def _start(settings: Settings, part: str) -> str:
    return to_be_started(settings.data_dir, f"darkroom {part}")


def _dispatcher(alive: Liveness, settings: Settings) -> Found:
    sign = alive.dispatcher
    if alive.is_dispatcher_fresh:
        return "dispatcher", True, "one works"
    if sign.holder is None or sign.silent_seconds is None:
        return "dispatcher", False, f"No dispatcher works; {_start(settings, 'dispatcher')}."
    return (
        "dispatcher",
        False,
        f"No dispatcher works: {sign.holder} has shown no beat for {sign.silent_seconds:.0f} s. It has ended, is"
        " frozen, or can't write the database; look at its log, end its process with `kill -9`, and if no other"
        f" begins: {_start(settings, 'dispatcher')}.",
    )


def _sweep(database: Database, settings: Settings, alive: Liveness) -> Found:
    def ask(tx: Transaction) -> tuple[str, float] | None:
        last = sweep_runs.last(tx)
        if last is None:
            return None
        return last["finished_at"], sweep_runs.seconds_since_last(tx)

    finished_at, seconds = database.read(ask) or (None, None)
    match sweeps_judged(seconds, alive.working_seconds):
        case Sweeps.RUN:
            return "sweep", True, f"last run at {finished_at}"
        case Sweeps.DUE:
            before = f"; before this start, the last one ended at {finished_at}" if finished_at else ""
            return "sweep", True, f"the first since the start comes with the next minutes{before}"
        case Sweeps.NEVER:
            return "sweep", False, f"No sweep has ever run; {_start(settings, 'scheduler')}."
    return (
        "sweep",
        False,
        f"No sweep has ended since {finished_at}; run `darkroom sweep`, and if no scheduler runs:"
        f" {_start(settings, 'scheduler')}.",
    )


def _webhooks(database: Database) -> Found:
    """Receivers that are ill are no fault of ours, so this is always well."""
    still_open, given_up = database.read(lambda tx: deliveries.open_and_given_up(tx, DAY_SECONDS))
    hint = "; `darkroom webhooks --failed` says why" if given_up else ""
    return "webhooks", True, f"{still_open} to be delivered, {given_up} of the last day given up{hint}"
