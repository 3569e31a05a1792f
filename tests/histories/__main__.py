"""`make histories`: random histories, one after the other; prints broken promises and how to repeat them.

SEEDS=1-10 (or 3,7), SECONDS of real time each, DATABASE=sqlite, postgresql or both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.histories.world import world_of
from tests.support.databases import POSTGRESQL, SQLITE

SHOWN_STEPS = 80


def main() -> int:
    """The exit status: 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="make histories", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=_seeds, default=[1, 2, 3], help="1-10, or 3,7")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each history")
    parser.add_argument("--database", choices=(SQLITE, POSTGRESQL, "both"), default="both")
    parser.add_argument(
        "--rounds", type=int, default=1_000_000, help="of trouble and calm in a history, at most"
    )
    parser.add_argument("--steps", type=int, default=SHOWN_STEPS, help="shown when a promise was broken")
    parser.add_argument(
        "--ignoring", default="", help="a pattern of broken promises that do not end a history"
    )
    given = parser.parse_args()
    kinds = (SQLITE, POSTGRESQL) if given.database == "both" else (given.database,)
    wrong = [(kind, seed) for seed in given.seeds for kind in kinds if not run(kind, seed, given)]
    for kind, seed in wrong:
        print(f"again: make histories SEEDS={seed} DATABASE={kind} SECONDS={given.seconds:g}")
    return 1 if wrong else 0


def run(kind: str, seed: int, given: argparse.Namespace) -> bool:
    """One history; whether every promise was kept."""
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="darkroom-history-") as folder,
        world_of(Path(folder), kind, seed, given.ignoring) as world,
    ):
        broken = world.live(given.seconds, rounds=given.rounds)
        took = time.perf_counter() - began
        print(
            f"seed {seed:4} {kind:10} {world.transactions:7} transactions, {len(world.model.tasks):5} tasks,"
            f" {world.model.events:7} events in {world.loop.time() / 3600:6.1f} h of its time, {took:5.0f} s:"
            f" {len(broken)} broken promises",
            flush=True,
        )
        if broken:
            print(*list(world.steps)[-given.steps :], sep="\n")
        for sentence in world.model.known:
            print(f"ignored (seed {seed}, {kind}): {sentence}", flush=True)
        for sentence in broken:
            print(f"BROKEN PROMISE (seed {seed}, {kind}): {sentence}", flush=True)
    return not broken


def _seeds(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


if __name__ == "__main__":
    sys.exit(main())
