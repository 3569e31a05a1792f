"""What `darkroom doctor` sees moving in the database: workers that beat, a dispatcher that works, sweeps that end."""

from __future__ import annotations

import time
from collections.abc import Iterator

from config.settings import Settings
from supervisor.database import Database, Transaction
from supervisor.store import leadership, rescuing, sweeps, webhooks, workers

SILENT_SWEEP_SECONDS = 180.0
DAY_SECONDS = 86_400.0
DISPATCHER_SECONDS = 2.0  # it beats four times a second

Found = tuple[str, bool, str]


def examine_movement(database: Database, settings: Settings) -> Iterator[Found]:
    """(part, whether it is well, a sentence) of each thing.  Changes nothing."""
    stuck = sum(database.read(rescuing.count_stuck).values())
    if stuck:
        yield "tasks", False, f"{stuck} tasks are stuck; `darkroom tasks --stuck` says which and why."
    else:
        yield "tasks", True, "no task is stuck"
    yield _workers(database, settings)
    yield _dispatcher(database)
    yield _sweep(database)
    yield _webhooks(database)


def _workers(database: Database, settings: Settings) -> Found:
    rows = database.read(lambda tx: workers.seen(tx, settings.lease_seconds))
    beating = [row for row in rows if row["state"] == "live" and row["is_fresh"]]
    if beating:
        slots = sum(row["slots"] for row in beating)
        return "workers", True, f"{len(beating)} take tasks, {slots} slots"
    if rows:
        return (
            "workers",
            False,
            f"No worker takes tasks: {len(rows)} drain, or have shown no heartbeat for "
            f"{settings.lease_seconds:g} s; look at their logs, or start `darkroom worker`.",
        )
    return "workers", False, "No worker takes tasks; start `darkroom up` or `darkroom worker`."


def _dispatcher(database: Database) -> Found:
    first = database.read(leadership.read)
    end = time.monotonic() + DISPATCHER_SECONDS
    while time.monotonic() < end:
        time.sleep(0.1)
        now = database.read(leadership.read)
        if now.holder is not None and now != first:
            return "dispatcher", True, "one works"
    return "dispatcher", False, "No dispatcher works; start `darkroom up` or `darkroom dispatcher`."


def _sweep(database: Database) -> Found:
    def ask(tx: Transaction) -> tuple[str, float] | None:
        last = sweeps.last(tx)
        if last is None:
            return None
        return last["finished_at"], sweeps.seconds_since_last(tx)

    found = database.read(ask)
    if found is None:
        return "sweep", False, "No sweep has ever run; start `darkroom up` or `darkroom scheduler`."
    finished_at, seconds = found
    if seconds > SILENT_SWEEP_SECONDS:
        return (
            "sweep",
            False,
            f"No sweep has ended since {finished_at}; run `darkroom sweep`, and start `darkroom scheduler` if none "
            "runs.",
        )
    return "sweep", True, f"last run at {finished_at}"


def _webhooks(database: Database) -> Found:
    """Receivers that are ill are no fault of ours, so this is always well."""
    still_open, given_up = database.read(lambda tx: webhooks.open_and_given_up(tx, DAY_SECONDS))
    hint = "; `darkroom webhooks --failed` says why" if given_up else ""
    return "webhooks", True, f"{still_open} to be delivered, {given_up} of the last day given up{hint}"
