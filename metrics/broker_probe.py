"""Whether the broker answers, tested at the scrape: without it claims wait, and no other metric shows that at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.registry import Collector

from config.settings import Settings
from metrics.catalogue import Family
from metrics.families import Metric, empty_metric, numbers
from metrics.single_flight import SingleFlight
from supervisor.broker.broker_ping import ping_broker

UP = Family("darkroom_broker_up", "gauge", "1 while the broker answers this process in time.")
ROUNDTRIP = Family(
    "darkroom_broker_roundtrip_seconds",
    "gauge",
    "How long connecting to the broker and one PING took at the last look.",
)
FRESH_SECONDS = 1.0
# Hundreds of times the usual time of an answer; a scrape must not wait long for a missing one.
PATIENCE_SECONDS = 0.4
PING_SECONDS = 1.0


class BrokerProbe(Collector):
    """Two gauges.  The round trip has no value while the broker does not answer."""

    def __init__(self, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._pings = SingleFlight(
            _timed(lambda: ping_broker(settings, timeout_seconds=PING_SECONDS)),
            fresh_seconds=FRESH_SECONDS,
        )

    def describe(self) -> Iterator[Metric]:
        return map(empty_metric, (UP, ROUNDTRIP))

    def collect(self) -> Iterator[Metric]:
        try:
            seconds = self._pings.latest(self._patience_seconds)
        except TimeoutError:
            seconds = None
        yield numbers(UP, {(): float(seconds is not None)})
        yield empty_metric(ROUNDTRIP) if seconds is None else numbers(ROUNDTRIP, {(): seconds})


def _timed(ping: Callable[[], bool]) -> Callable[[], float | None]:
    """The duration of a PING in seconds; None without an answer."""

    def timed() -> float | None:
        started = time.perf_counter()
        return time.perf_counter() - started if ping() else None

    return timed
