"""Counters and histograms of what workers did, added up in the transaction that did it.

A process's own counters are lost with it and double when it restarts; these rows are exact across both.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence

from supervisor.database import Transaction

# Seconds; from a start in a millisecond to the ten minutes a task may take.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

# In capitals, as no task type can be: the label of what came from outside and is no word of ours.
OTHER = "OTHER"

_MORE = "ON CONFLICT (name, labels, bucket) DO UPDATE SET value = metric.value + excluded.value"

# Where many write at once a counter's row would make them wait for each other: there, all append what they add.
_ADD = {
    "sqlite": f"INSERT INTO metric (name, labels, bucket, value) VALUES {{}} {_MORE}",
    "postgresql": "INSERT INTO metric_delta (name, labels, bucket, value) VALUES {}",
}
_READ = {
    "sqlite": "SELECT name, labels, bucket, value FROM metric",
    "postgresql": """SELECT name, labels, bucket, sum(value) AS value
        FROM (SELECT * FROM metric UNION ALL SELECT * FROM metric_delta) AS added GROUP BY name, labels, bucket""",
}
_FOLD = f"""WITH taken AS (DELETE FROM metric_delta WHERE ctid = ANY (ARRAY
        (SELECT ctid FROM metric_delta LIMIT ? FOR UPDATE SKIP LOCKED)) RETURNING name, labels, bucket, value),
    added AS (INSERT INTO metric (name, labels, bucket, value)
        SELECT name, labels, bucket, sum(value) FROM taken GROUP BY name, labels, bucket
        ORDER BY name, labels, bucket {_MORE} RETURNING 1)
    SELECT count(*) FROM taken, (SELECT count(*) FROM added) AS done"""


def count(tx: Transaction, name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    _add(tx, name, labels, {"": amount})


def observe(tx: Transaction, name: str, seconds: float, **labels: str) -> None:
    """Add one observation to a histogram; buckets are kept apart and summed up when shown."""
    observe_all(tx, name, (seconds,), **labels)


def observe_all(tx: Transaction, name: str, seconds: Sequence[float], **labels: str) -> None:
    """Add observations that belong together, those of a bucket in one step."""
    added: dict[str, float] = {}
    for each in seconds:
        bound = _bound(each)
        added[bound] = added.get(bound, 0.0) + 1
        added["sum"] = added.get("sum", 0.0) + max(0.0, each)
    _add(tx, name, labels, added)


def fold(tx: Transaction, most: int) -> int:
    """Add up what was appended since; how many rows went.  There are none where counters are moved in place."""
    return 0 if tx.dialect.name == "sqlite" else int(tx.value(_FOLD, most))


def read_all(tx: Transaction) -> dict[tuple[str, str], dict[str, float]]:
    """{(name, labels as JSON): {bucket: value}}; a counter has the one bucket ''."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in tx.all(_READ[tx.dialect.name]):
        found.setdefault((row["name"], row["labels"]), {})[row["bucket"]] = row["value"]
    return found


def _add(tx: Transaction, name: str, labels: dict[str, str], added: dict[str, float]) -> None:
    """added: {bucket: by how much}."""
    if not added:
        return
    rows = ", ".join(["(?, ?, ?, ?)"] * len(added))
    text = _text(labels)
    values = [each for bucket, value in added.items() for each in (name, text, bucket, value)]
    tx.execute(_ADD[tx.dialect.name].format(rows), *values)


def _bound(seconds: float) -> str:
    place = bisect.bisect_left(BUCKETS, seconds)
    return str(BUCKETS[place]) if place < len(BUCKETS) else "+Inf"


def _text(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))
