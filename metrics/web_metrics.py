"""The metrics of one web process: requests, streams, deliveries.  In its own registry, lost with the process.

Several web processes are several targets; nothing here is shared between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DELIVERY_BUCKETS = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 5, 15, 60)
REFUSALS = ("no_credits", "open_tasks", "queue_full", "blocked")
LOOPS = ("bulk", "pings", "revocations", "notices")
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})


class Delivered(Protocol):
    """An event to count.  committed_at: seconds since 1970; delivered: whether its time is counted already."""

    committed_at: float
    delivered: bool


class _Registry(CollectorRegistry):
    """A registry that calls `before` each time it is read."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self._before = before

    def collect(self) -> Iterator[Metric]:
        self._before()
        yield from super().collect()


class WebMetrics:
    """Counters, gauges and histograms of this process, under `registry`."""

    def __init__(self) -> None:
        self.registry = _Registry(self._make_known_series)
        self._requests = Histogram(
            "darkroom_http_request_seconds",
            "Time from a request's head to the end of its answer; of a stream, to its first byte.",
            ["route", "method", "status"],
            buckets=_REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._request_series: dict[tuple[str, str, int], Histogram] = {}
        self._known_answers: list[tuple[str, str, int]] = []
        self.feed_clients = Gauge(
            "darkroom_feed_clients", "Event streams that are open in this process.", registry=self.registry
        )
        self.feed_events = Counter(
            "darkroom_feed_events",
            "Changes written to event streams, one per stream.",
            registry=self.registry,
        )
        self.feed_delivery = Histogram(
            "darkroom_feed_delivery_seconds",
            "Time from a change's commit to its bytes being handed to the first stream's socket.",
            buckets=_DELIVERY_BUCKETS,
            registry=self.registry,
        )
        self.feeds_opened = Counter(
            "darkroom_feeds_opened",
            "Event streams that were opened; clients that come back all the time open many.",
            registry=self.registry,
        )
        self.orders_refused = Counter(
            "darkroom_orders_refused",
            "Orders refused for the user's credits (402), a block (403), a limit (429), or a full queue (503).",
            ["reason"],
            registry=self.registry,
        )
        for reason in REFUSALS:
            self.orders_refused.labels(reason)
        self.loop_failures = Counter(
            "darkroom_loop_failures",
            "Failures of loops that run beside the requests; each goes on by itself.",
            ["loop"],
            registry=self.registry,
        )
        for loop in LOOPS:
            self.loop_failures.labels(loop)
        self.hears_changes = True  # until the tailer says otherwise
        self.listener_up = Gauge(
            "darkroom_listener_up",
            "1 while this process is notified of changes as they are made.",
            registry=self.registry,
        )

    def tell_listening(self, is_listening: bool) -> None:
        """Set whether this process receives changes."""
        self.hears_changes = is_listening
        self.listener_up.set(int(is_listening))

    def count_deliveries(self, events: Sequence[Delivered], streams: int) -> None:
        """Count events that so many streams took; each event's time is that of its first delivery."""
        self.feed_events.inc(len(events) * streams)
        now = time.time()
        for event in events:
            if not event.delivered:
                event.delivered = True
                self.feed_delivery.observe(max(0.0, now - event.committed_at))

    def know_route(self, route: str, method: str, status: int) -> None:
        """Let the series of a possible answer start at 0."""
        self._known_answers.append((route, method, status))

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request.  route: its pattern, never the path itself."""
        self._series(route, method if method in _METHODS else "OTHER", status).observe(seconds)

    def _make_known_series(self) -> None:
        """All of them take longer than the rest of the application, and until somebody looks nobody misses them."""
        for answer in self._known_answers:
            self._series(*answer)

    def _series(self, route: str, method: str, status: int) -> Histogram:
        key = (route, method, status)
        series = self._request_series.get(key)
        if series is None:
            series = self._request_series[key] = self._requests.labels(route, method, str(status))
        return series
