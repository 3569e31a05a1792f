"""Pieces of PromQL that panels share.  `$type` and `$job` are the dashboard's variables."""

from __future__ import annotations

JOB = 'job=~"$job"'
LIVING = " > 0"
TYPE = 'job=~"$job",type=~"$type"'


def told(name: str, by: str, selector: str = JOB) -> str:
    """A metric of the database, taken once over all web processes."""
    return f"max by ({by}) ({name}{{{selector}}})"


def quantile(share: float, buckets: str, by: str, selector: str) -> str:
    """A quantile of a recorded rate of buckets, by a label."""
    return f"histogram_quantile({share}, sum by ({by}, le) ({buckets}{{{selector}}}))"


def living(expr: str) -> str:
    """Only the lines of an expression with values: many label sets are 0 or have no observation."""
    return f"({expr}){LIVING}"
