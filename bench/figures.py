"""Quantiles and a table: how benches report."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Quantiles:
    """Of a sample, in the sample's unit."""

    p50: float
    p90: float
    p99: float
    most: float

    @classmethod
    def of(cls, sample: Sequence[float]) -> Quantiles:
        """Inclusive quantiles; at least two values."""
        cuts = statistics.quantiles(sample, n=100, method="inclusive")
        return cls(cuts[49], cuts[89], cuts[98], max(sample))

    def __str__(self) -> str:
        return f"p50 {self.p50:.2f}  p90 {self.p90:.2f}  p99 {self.p99:.2f}  max {self.most:.2f} ms"
