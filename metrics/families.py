"""A family of the catalogue with its values, for prometheus_client."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from metrics.catalogue import Family, LabelValues
from supervisor.store.counters.counters import BUCKETS

Buckets = Mapping[str, float]  # as in the `metric` table: each bucket by itself, the sum under "sum"
Metric = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


def empty_metric(family: Family) -> Metric:
    """The family with HELP and TYPE only."""
    match family.kind:
        case "gauge":
            return GaugeMetricFamily(family.name, family.help, labels=family.label_names)
        case "counter":
            return CounterMetricFamily(family.name, family.help, labels=family.label_names)
        case "histogram":
            return HistogramMetricFamily(family.name, family.help, labels=family.label_names)


def numbers(family: Family, values: Mapping[LabelValues, float]) -> Metric:
    """A gauge or counter; known label sets without a value are 0."""
    metric = empty_metric(family)
    assert not isinstance(metric, HistogramMetricFamily)
    for labels, value in (dict.fromkeys(family.known_label_sets(), 0.0) | dict(values)).items():
        metric.add_metric(labels, value)
    return metric


def histogram(family: Family, values: Mapping[LabelValues, Buckets]) -> Metric:
    """A histogram; known label sets without an observation are 0 throughout."""
    metric = empty_metric(family)
    assert isinstance(metric, HistogramMetricFamily)
    nothing: Buckets = {}
    for labels, buckets in (dict.fromkeys(family.known_label_sets(), nothing) | dict(values)).items():
        metric.add_metric(labels, cumulative(buckets), sum_value=buckets.get("sum", 0.0))
    return metric


def cumulative(buckets: Buckets) -> list[tuple[str, float]]:
    """[(upper bound, observations up to it)], the last bound +Inf.

    Observations of a bound that BUCKETS no longer has count for the next higher one, so a release may change the
    bounds.
    """
    counts = [0.0] * (len(BUCKETS) + 1)
    for bound, count in buckets.items():
        if bound != "sum":
            counts[bisect.bisect_left(BUCKETS, float(bound))] += count
    bounds = [*(str(float(bound)) for bound in BUCKETS), "+Inf"]
    return list(zip(bounds, itertools.accumulate(counts), strict=True))
