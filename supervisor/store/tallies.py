"""Counters and histograms of what workers did, added up in the transaction that did it.

A process's own counters are lost with it and double when it restarts; these rows are exact across both.
"""

from __future__ import annotations

import bisect
import json

from supervisor.database import Transaction

# Seconds; from a start in a millisecond to the ten minutes a task may take.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_ADD = """INSERT INTO metric (name, labels, bucket, value) VALUES (?, ?, ?, ?)
    ON CONFLICT (name, labels, bucket) DO UPDATE SET value = metric.value + excluded.value"""


def count(tx: Transaction, name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    tx.execute(_ADD, name, _text(labels), "", amount)


def observe(tx: Transaction, name: str, seconds: float, **labels: str) -> None:
    """Add one observation to a histogram; buckets are kept apart and summed up when shown."""
    place = bisect.bisect_left(BUCKETS, seconds)
    bound = str(BUCKETS[place]) if place < len(BUCKETS) else "+Inf"
    text = _text(labels)
    tx.execute(_ADD, name, text, bound, 1)
    tx.execute(_ADD, name, text, "sum", max(0.0, seconds))


def read_all(tx: Transaction) -> dict[tuple[str, str], dict[str, float]]:
    """{(name, labels as JSON): {bucket: value}}; a counter has the one bucket ''."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in tx.all("SELECT name, labels, bucket, value FROM metric"):
        found.setdefault((row["name"], row["labels"]), {})[row["bucket"]] = row["value"]
    return found


def _text(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))
