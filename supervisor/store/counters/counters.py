"""Counters and histograms of the workers' work, raised in the same transaction as the work.

A counter in a process's memory is lost when the process ends; these rows stay exact over restarts.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from supervisor.database.interface.database import Pending, Transaction
from supervisor.store.sql.rows import encoded

# Seconds: from a start within a millisecond to the ten minutes that a task may take.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

# In capitals, which no task type can have: the label for unknown values from outside.
OTHER = "OTHER"

_ROWS = """(name, labels, bucket, value) SELECT value ->> 0, value ->> 1, value ->> 2,
    CAST(value ->> 3 AS DOUBLE PRECISION) FROM {rows} AS added WHERE 1 = 1"""
_MORE = "ON CONFLICT (name, labels, bucket) DO UPDATE SET value = metric.value + excluded.value"
_ADD = f"INSERT INTO metric {_ROWS} {_MORE}"
_READ = "SELECT name, labels, bucket, value FROM metric"

# Where many writers write at once, they would wait for each other at a counter's row; so they append rows instead.
_APPEND = f"INSERT INTO metric_delta {_ROWS}"
_READ_APPENDED = """SELECT name, labels, bucket, sum(value) AS value
    FROM (SELECT * FROM metric UNION ALL SELECT * FROM metric_delta) AS added GROUP BY name, labels, bucket"""
_FOLD = f"""WITH taken AS (DELETE FROM metric_delta WHERE ctid = ANY (ARRAY
        (SELECT ctid FROM metric_delta LIMIT :most FOR UPDATE SKIP LOCKED)) RETURNING name, labels, bucket, value),
    added AS (INSERT INTO metric (name, labels, bucket, value)
        SELECT name, labels, bucket, sum(value) FROM taken GROUP BY name, labels, bucket
        ORDER BY name, labels, bucket {_MORE} RETURNING 1)
    SELECT count(*) FROM taken, (SELECT count(*) FROM added) AS done"""


class Tally:
    """The additions of one transaction, collected for one statement."""

    def __init__(self) -> None:
        self._added: dict[tuple[str, str, str], float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._add(name, _text(labels), "", amount)

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one observation to a histogram; each bucket is stored by itself, and summed up when it is exported."""
        text = _text(labels)
        self._add(name, text, _bound(seconds), 1)
        self._add(name, text, "sum", max(0.0, seconds))

    def store(self, tx: Transaction) -> None:
        """Accept a call without additions, and do nothing."""
        if self._added:
            rows = [(*of, amount) for of, amount in self._added.items()]
            add = _APPEND if tx.dialect.has_many_writers else _ADD
            tx.send(add.format(rows=tx.rows(":rows")), rows=encoded(rows))

    def _add(self, name: str, labels: str, bucket: str, amount: float) -> None:
        of = (name, labels, bucket)
        self._added[of] = self._added.get(of, 0.0) + amount


class Observation(NamedTuple):
    """One observation of a histogram, as `Tally.observe` takes it."""

    name: str
    seconds: float
    labels: dict[str, str]


def observe_each(tx: Transaction, observations: Sequence[Observation]) -> None:
    """Add observations of many kinds in one step."""
    tally = Tally()
    for each in observations:
        tally.observe(each.name, each.seconds, **each.labels)
    tally.store(tx)


def count(tx: Transaction, name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter."""
    tally = Tally()
    tally.count(name, amount, **labels)
    tally.store(tx)


def observe(tx: Transaction, name: str, seconds: float, **labels: str) -> None:
    """Add one observation to a histogram."""
    observe_each(tx, [Observation(name, seconds, labels)])


def observe_claims(tx: Transaction, observed: Iterable[tuple[Observation, str, int]]) -> None:
    """Add observations of claims, (observation, task id, lease), each only if this lease of the task was claimed.

    So they can be sent together with the claims, before it is known which of the rows others had locked.
    """
    rows = [
        (each.name, _text(each.labels), bucket, amount, task_id, lease)
        for each, task_id, lease in observed
        for bucket, amount in ((_bound(each.seconds), 1), ("sum", max(0.0, each.seconds)))
    ]
    if rows:
        many = tx.dialect.has_many_writers
        tx.send(
            f"""INSERT INTO {"metric_delta" if many else "metric"} (name, labels, bucket, value)
                SELECT value ->> 0, value ->> 1, value ->> 2, sum(CAST(value ->> 3 AS DOUBLE PRECISION))
                FROM {tx.rows(":rows")} AS added
                    JOIN task_queue ON task_queue.id = value ->> 4 AND lease = CAST(value ->> 5 AS INTEGER)
                WHERE 1 = 1 GROUP BY value ->> 0, value ->> 1, value ->> 2 {"" if many else _MORE}""",
            rows=encoded(rows),
        )


def append_observed(observed: str) -> str:
    """An INSERT of observations, as SQL within a query.  observed: its table of them, with name, labels and seconds.
    Counters may follow it after UNION ALL."""
    bounds = ", ".join(f"({bound}, '{bound}')" for bound in BUCKETS)
    return f"""INSERT INTO metric_delta (name, labels, bucket, value)
        SELECT name, labels, coalesce((SELECT text FROM (VALUES {bounds}) AS bounds (bound, text)
            WHERE seconds <= bound ORDER BY bound LIMIT 1), '+Inf'), count(*) FROM {observed} GROUP BY 1, 2, 3
        UNION ALL SELECT name, labels, 'sum', sum(greatest(0, seconds)) FROM {observed} GROUP BY 1, 2"""


def fold(tx: Transaction, most: int) -> Pending[int]:
    """Sum up the appended rows and delete them; how many there were.  None where counters are changed in place."""
    if not tx.dialect.has_many_writers:
        return Pending(int)
    asked = tx.ask(_FOLD, most=most)
    return Pending(lambda: int(asked.value()))


def read_all(tx: Transaction) -> dict[tuple[str, str], dict[str, float]]:
    """{(name, labels as JSON): {bucket: value}}; a counter has the one bucket ''."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in tx.all(_READ_APPENDED if tx.dialect.has_many_writers else _READ):
        found.setdefault((row["name"], row["labels"]), {})[row["bucket"]] = row["value"]
    return found


def _bound(seconds: float) -> str:
    place = bisect.bisect_left(BUCKETS, seconds)
    return str(BUCKETS[place]) if place < len(BUCKETS) else "+Inf"


def _text(labels: dict[str, str]) -> str:
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))
