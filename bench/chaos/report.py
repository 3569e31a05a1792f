"""The faults, the results and the broken promises, as a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from bench.chaos.conductor import Seen
from bench.chaos.latency import rescues, summary
from bench.chaos.verdicts import Reader
from tests.support.chaos.chaos_settings import Wish
from tests.support.chaos.plan import Role

MOST_SENTENCES = 40


def report(console: Console, wish: Wish, seen: Seen, reader: Reader, wrong: list[str]) -> None:
    """Print one run."""
    title = (
        f"chaos, seed {wish.seed}: {wish.tasks} tasks, {wish.seconds:g} s, MAX_ATTEMPTS={wish.max_attempts}"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("seen")
    latencies = (
        () if wish.clock is not None else _latencies(reader, seen)
    )  # told by the clock that was stepped
    for what, figure in (*_done(seen), *_tasks(reader, seen), *latencies):
        table.add_row(what, figure)
    console.print(table)
    for sentence in wrong[:MOST_SENTENCES]:
        console.print(f"WRONG: {sentence}", markup=False, highlight=False, soft_wrap=True)
    if len(wrong) > MOST_SENTENCES:
        console.print(f"… and {len(wrong) - MOST_SENTENCES} more")


def _done(seen: Seen) -> Iterator[tuple[str, str]]:
    for role in Role:
        counts = {
            label.partition(" ")[0]: count
            for label, count in sorted(seen.done.items())
            if label.partition(" ")[2] == role.value
        }
        if counts:
            yield f"done to {role}", ", ".join(f"{count} × {act}" for act, count in counts.items())
    for what in ("kill everybody", "freeze everybody", "step clock"):
        if seen.done[what]:
            yield f"done: {what}", f"{seen.done[what]} ×"
    if seen.missed:
        yield "nobody had the role", str(sum(seen.missed.values()))
    for what, seconds in (("gone", seen.collapse_seconds), ("ready again", seen.restart_seconds)):
        if seconds:
            yield f"killed `up`: {what} after", ", ".join(f"{each:.2f} s" for each in seconds)


def _tasks(reader: Reader, seen: Seen) -> Iterator[tuple[str, str]]:
    tasks = reader.tasks()
    by_http = sum(order.by_http for order in seen.orders)
    yield (
        "ordered",
        f"{len(seen.orders) - by_http} by SQL, {by_http} by HTTP, sent again {seen.tried_again} times",
    )
    yield "ended", _counted(Counter(task["status"] for task in tasks))
    yield "attempts a task", _counted(Counter(task["attempt"] for task in tasks))
    yield "deaths, failures", f"{sum(t['deaths'] for t in tasks)}, {sum(t['failures'] for t in tasks)}"
    for row in reader.rows(
        "SELECT labels, value FROM metric WHERE name = 'darkroom_rescues_total' ORDER BY labels"
    ):
        labels = json.loads(row["labels"])
        yield f"rescued: {labels['reason']}", f"{row['value']:.0f} {labels['action']}"
    changes = reader.value("SELECT count(*) FROM work_change")
    connections = sum(recorder.connections for recorder in seen.recorders)
    yield "changes heard", f"{changes} by {len(seen.recorders)} users over {connections} connections"
    yield "sweeps recorded", str(reader.value("SELECT count(*) FROM sweep_run WHERE finished_at IS NOT NULL"))
    yield (
        "all over after the chaos",
        f"{seen.final_after_seconds:.1f} s; stopped in {seen.stop_seconds:.1f} s",
    )


def _latencies(reader: Reader, seen: Seen) -> Iterator[tuple[str, str]]:
    found = rescues(reader, seen.hits)
    for kind in sorted({hit.kind for hit in seen.hits}):
        yield f"{kind}: running again", summary([each.seconds for each in found if each.kind == kind])
        alone = [each.seconds for each in found if each.kind == kind and each.alone]
        if kind == "worker killed":
            yield "… with nothing else amiss", summary(alone)


def _counted(counts: Counter[object]) -> str:
    return ", ".join(
        f"{what}: {count}" for what, count in sorted(counts.items(), key=lambda pair: str(pair[0]))
    )
