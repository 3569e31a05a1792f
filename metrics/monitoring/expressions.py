"""Pieces of PromQL that panels share.  `$type` and `$job` are the dashboard's variables."""

from __future__ import annotations

JOB = 'job=~"$job"'
LIVING = " > 0"
TYPE = 'job=~"$job",type=~"$type"'


def told(name: str, by: str, selector: str = JOB) -> str:
    """What every web process reads from the database, once."""
    return f"max by ({by}) ({name}{{{selector}}})"


def quantile(share: float, buckets: str, by: str, selector: str) -> str:
    """A quantile of a recorded rate of buckets, by a label."""
    return f"histogram_quantile({share}, sum by ({by}, le) ({buckets}{{{selector}}}))"


def living(expr: str) -> str:
    """The lines of an expression that draw something: of label sets at 0, and of no observation, there are many."""
    return f"({expr}){LIVING}"
