"""`make bench`: run the benches and print their results."""

from __future__ import annotations

import importlib
import os

import click
from rich.console import Console
from rich.table import Table

from tests.support.running_system import LIFTED

BENCHES = (
    "start_latency",
    "postgres_peers",
    "remote_jobs",
    "feed_latency",
    "postgres_feed",
    "feed_fanout",
    "feed_churn",
    "feed_recorder",
    "reconnection",
    "submit_throughput",
    "postgres_submit",
    "doors",
    "scrape_cost",
    "large_tables",
    "idle_cost",
    "log_cost",
    "postgres_outage",
    "fairness",
    "needs",
    "warm_models",
    "neighbours",
    "bulk_actions",
    "large_file",
)
ALONE = ("against", "bulk_kills", "soak", "upgrade")  # they run for long, or are told what to compare with


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Run the named benches, or all but those of ALONE.  `against` and `upgrade` need OLD=<commit> too."""
    os.environ |= {f"BENCH_{key}": value for key, _, value in (n.partition("=") for n in names) if value}
    names = tuple(name for name in names if "=" not in name)
    unknown = set(names) - {*BENCHES, *ALONE}
    if unknown:
        raise click.UsageError(
            f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join((*BENCHES, *ALONE))}"
        )
    console = Console()
    console.print("Settings lifted for benches: " + ", ".join(f"{k}={v}" for k, v in LIFTED.items()))
    for name in names or BENCHES:
        module = importlib.import_module(f"bench.{name}")
        table = Table(title=name, title_justify="left")
        table.add_column("what")
        table.add_column("figures")
        for what, figures in module.run().items():
            table.add_row(what, str(figures))
        console.print(table)


main()
