"""The `metric` table's rows, mapped to the closed label sets of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from metrics.catalogue import Family, LabelValues
from metrics.families import Buckets

Tallies = Mapping[tuple[str, str], Buckets]  # as `store.counters.counters.read_all` yields them


def by_label_set(
    families: Iterable[Family], tallies: Tallies
) -> dict[str, dict[LabelValues, dict[str, float]]]:
    """{name: {label set: {bucket: value}}} for these families; rows with the same label set are added up."""
    known = {family.name: family for family in families}
    found: dict[str, dict[LabelValues, dict[str, float]]] = {name: {} for name in known}
    for (name, labels), buckets in tallies.items():
        if name not in known:
            continue
        summed = found[name].setdefault(known[name].closed(json.loads(labels)), {})
        for bucket, value in buckets.items():
            summed[bucket] = summed.get(bucket, 0.0) + value
    return found
