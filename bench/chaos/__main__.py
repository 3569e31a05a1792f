"""`make chaos`: live through one seed or several, print what was seen, exit 1 if a promise was broken."""

from __future__ import annotations

import sys
import time
from collections import Counter

import click
from rich.console import Console

from bench.chaos.conductor import Wish, conduct, house_of
from bench.chaos.house import NotInTime
from bench.chaos.reader import Reader
from bench.chaos.report import report

POISON_ATTEMPTS = 5  # below this a run has poison among its orders, for the budget is then soon spent
POISON = 3


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
@click.option("--keep", is_flag=True, help="Leave each run's folder in place: its database and its log.")
def main(seed: int, seconds: float, tasks: int, max_attempts: int, seeds: int, keep: bool) -> None:
    """Kill, freeze and restart every part of a `darkroom up` while it works, then check every promise."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    poison = POISON if max_attempts < POISON_ATTEMPTS else 0
    broken = []
    for each in range(seed, seed + seeds):
        wish = Wish(each, seconds, tasks, max_attempts, poison)
        began = time.monotonic()
        try:
            _live_through(console, wish, keep)
        except (BrokenPromise, NotInTime) as error:
            console.print(f"seed {each}: {error}", markup=False, highlight=False, soft_wrap=True)
            broken.append(each)
        else:
            console.print(f"seed {each}: every promise kept ({time.monotonic() - began:.0f} s)")
    if broken:
        rest = f"--seconds {seconds:g} --tasks {tasks} --max-attempts {max_attempts} --keep"
        for each in broken:
            console.print(
                f"to see it again: make chaos ARGS='--seed {each} {rest}'", markup=False, soft_wrap=True
            )
    sys.exit(1 if broken else 0)


def _live_through(console: Console, wish: Wish, keep: bool) -> None:
    """One run.  Raises BrokenPromise or NotInTime."""
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
        struck = Counter(task for hit in seen.hits for task in hit.tasks)
        wrong = [*seen.faults, *reader.complaints(wanted, poison, struck)]
        report(console, wish, seen, reader, wrong)
        if keep:
            console.print(f"kept: {house.folder}", soft_wrap=True)
        if wrong:
            raise BrokenPromise(f"{len(wrong)} promises broken; the house's folder is kept: {house.folder}")


main()
