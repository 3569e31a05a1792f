"""`make chaos`: run one seed or several, print the results, exit 1 if a promise was broken."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from bench import moved_clock
from bench.chaos.conductor import conduct, house_of
from bench.chaos.report import report
from bench.chaos.verdicts import Reader
from tests.support.chaos.chaos_settings import Wish

POISON_ATTEMPTS = 5  # below this a run has poison among its orders, for the budget is then soon spent
POISON = 3
CLOCK = "CHAOS_CLOCK_FILE"  # tells the program that it runs by a clock that it may step


class BrokenPromise(Exception):
    """A check failed; the folder is kept."""


@click.command()
@click.option("--seed", default=1, show_default=True, help="What the plan and the orders are drawn from.")
@click.option(
    "--seconds", default=180.0, show_default=True, help="How long parts are killed, frozen, restarted."
)
@click.option("--tasks", default=1000, show_default=True, help="How many are ordered meanwhile.")
@click.option(
    "--max-attempts", default=10, show_default=True, help="Of every type; below 5 some orders are poison."
)
@click.option(
    "--seeds", default=1, show_default=True, help="How many seeds, from --seed on, one after the other."
)
@click.option(
    "--absences",
    is_flag=True,
    help="Now and then all parts stand still, or are dead, for longer than any limit.",
)
@click.option(
    "--clock-steps",
    is_flag=True,
    help="The clock of the host is stepped forward and back, by up to two hours.",
)
@click.option("--keep", is_flag=True, help="Leave each run's folder in place: its database and its log.")
def main(
    seed: int,
    seconds: float,
    tasks: int,
    max_attempts: int,
    seeds: int,
    absences: bool,
    clock_steps: bool,
    keep: bool,
) -> None:
    """Kill, freeze and restart every part of a `darkroom up` while it works, then check every promise."""
    clock = _own_clock() if clock_steps else None
    console = Console(width=None if sys.stdout.isatty() else 120)
    poison = POISON if max_attempts < POISON_ATTEMPTS else 0
    broken = []
    for each in range(seed, seed + seeds):
        wish = Wish(each, seconds, tasks, max_attempts, poison, absences, clock)
        if clock is not None:
            moved_clock.step(clock, 0)
        began = time.monotonic()
        try:
            _live_through(console, wish, keep)
        except (BrokenPromise, AssertionError) as error:
            console.print(f"seed {each}: {error}", markup=False, highlight=False, soft_wrap=True)
            broken.append(each)
        else:
            console.print(f"seed {each}: every promise kept ({time.monotonic() - began:.0f} s)")
    if broken:
        more = " --absences" * absences + " --clock-steps" * clock_steps
        rest = f"--seconds {seconds:g} --tasks {tasks} --max-attempts {max_attempts}{more} --keep"
        for each in broken:
            console.print(
                f"to see it again: make chaos ARGS='--seed {each} {rest}'", markup=False, soft_wrap=True
            )
    sys.exit(1 if broken else 0)


def _own_clock() -> Path:
    """The file that moves the clock of this program and of all that it starts; it begins anew to have one."""
    if CLOCK in os.environ:
        return Path(os.environ[CLOCK])
    file = Path(tempfile.mkdtemp(prefix="dk-chaos-clock-")) / "offset"
    environ = os.environ | moved_clock.stepping(file) | {CLOCK: str(file)}
    moved_clock.step(file, 3600)
    if moved_clock.ahead_seconds(environ) < 3000:
        sys.exit("The clock can't be moved here: libfaketime's library is for Linux on x86-64.")
    moved_clock.step(file, 0)
    os.execve(sys.executable, [sys.executable, "-m", "bench.chaos", *sys.argv[1:]], environ)


def _live_through(console: Console, wish: Wish, keep: bool) -> None:
    """One run.  Raises BrokenPromise or AssertionError."""
    with house_of(wish, keep=keep) as house:
        seen = conduct(house, wish)
        reader = Reader(
            house.database,
            house.data_dir / "files",
            {recorder.user: recorder.events for recorder in seen.recorders},
            wish.max_attempts,
        )
        wanted = {order.name: (order.user, order.type, order.count) for order in seen.orders}
        poison = frozenset(order.name for order in seen.orders if order.type == "poison")
        struck = {task: hit.at for hit in sorted(seen.hits, key=lambda hit: hit.at) for task in hit.tasks}
        wrong = [*seen.faults, *reader.complaints(wanted, poison, struck)]
        report(console, wish, seen, reader, wrong)
        if keep:
            console.print(f"kept: {house.folder}", soft_wrap=True)
        if wrong:
            raise BrokenPromise(f"{len(wrong)} promises broken; the house's folder is kept: {house.folder}")


main()
