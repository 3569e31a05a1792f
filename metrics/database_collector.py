"""The metrics of the database: the present state, and the workers' counters.

If the database fails or is slow, the scrape goes on without these series: a gap is right, while zeros would mean that
no task waits and that every counter was reset.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client.registry import Collector

from config.settings import Settings
from metrics.catalogue import (
    BREAKER_STATES,
    CLOCK_SKEW,
    DATABASE_FULL,
    DATABASE_ROUNDTRIP,
    DATABASE_UP,
    STUCK_REASONS,
    Family,
    LabelValues,
    families_of_the_database,
)
from metrics.families import Metric, empty_metric, histogram, numbers
from metrics.label_sets import Tallies, by_label_set
from metrics.single_flight import SingleFlight
from supervisor.database.interface.database import Database, Transaction
from supervisor.processes.host_state import clock_ahead_seconds
from supervisor.store.counters import counters
from supervisor.store.operators import database_space, gauges
from supervisor.store.queue import wake_counters

FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 2.0  # well within Prometheus's default time-out of 10 s

Values = dict[str, dict[LabelValues, float]]

_READ = (DATABASE_ROUNDTRIP, CLOCK_SKEW, DATABASE_FULL)  # beside the families

log = logging.getLogger("darkroom.metrics")


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The data for one scrape.  roundtrip_seconds: of the smallest possible read."""

    now: gauges.Gauges
    added_up: Tallies
    roundtrip_seconds: float
    skew_seconds: float
    is_full: bool


class DatabaseCollector(Collector):
    """The families of the catalogue, read at each scrape."""

    def __init__(
        self, database: Database, settings: Settings, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._settings = settings
        self._families = families_of_the_database(settings)
        self._patience_seconds = patience_seconds
        self._snapshots: SingleFlight[Snapshot] = SingleFlight(
            lambda: read_snapshot(database, settings), fresh_seconds=FRESH_SECONDS
        )

    def describe(self) -> Iterator[Metric]:
        """Names, HELP and TYPE, without a query."""
        return map(empty_metric, (DATABASE_UP, *_READ, *self._families))

    def collect(self) -> Iterator[Metric]:
        """Every family; without values, except `up`, if the database could not be read in time.  Blocks."""
        try:
            snapshot = self._snapshots.latest(self._patience_seconds)
        except TimeoutError:
            log.warning("the database did not answer in %g s; metrics go without it", self._patience_seconds)
            return self._missing()
        except Exception as error:  # noqa: BLE001 - whatever ails the database, the scrape goes on
            log.warning("the database can't be read (%s); metrics go without it", error)
            return self._missing()
        return self._shown(snapshot)

    def _missing(self) -> Iterator[Metric]:
        yield numbers(DATABASE_UP, {(): 0.0})
        yield from map(empty_metric, (*_READ, *self._families))

    def _shown(self, snapshot: Snapshot) -> Iterator[Metric]:
        tallied = by_label_set(self._families, snapshot.added_up)
        gauged = gauge_values(self._families, snapshot.now, self._settings.providers)
        yield numbers(DATABASE_UP, {(): 1.0})
        yield numbers(DATABASE_ROUNDTRIP, {(): snapshot.roundtrip_seconds})
        yield numbers(CLOCK_SKEW, {(): snapshot.skew_seconds})
        yield numbers(DATABASE_FULL, {(): float(snapshot.is_full)})
        for family in self._families:
            match family.kind:
                case "gauge":
                    yield numbers(family, gauged[family.name])
                case "counter":
                    counted = {
                        labels: sum(of.values()) / family.divisor
                        for labels, of in tallied[family.name].items()
                    }
                    yield numbers(family, counted)
                case "histogram":
                    yield histogram(family, tallied[family.name])


def read_snapshot(database: Database, settings: Settings) -> Snapshot:
    """Everything from one moment, and before that the duration of a trivial read."""
    started = time.perf_counter()
    database.glance(wake_counters.read)
    roundtrip_seconds = time.perf_counter() - started
    before = time.time()
    now, added_up = database.read(lambda tx: read_values(tx, settings))
    skew_seconds = clock_ahead_seconds(now.at, before, time.time())
    is_full = database_space.refusal(database) == "full"
    return Snapshot(now, added_up, roundtrip_seconds, skew_seconds, is_full)


def read_values(tx: Transaction, settings: Settings) -> tuple[gauges.Gauges, Tallies]:
    """The present state and the counters."""
    return gauges.read(tx, settings), counters.read_all(tx)


def gauge_values(families: tuple[Family, ...], now: gauges.Gauges, providers: Iterable[str]) -> Values:
    """{name: {label set: value}}; types without settings are added up under one label set."""
    named = {family.name: family for family in families}
    values: Values = {family.name: {} for family in families if family.kind == "gauge"}

    def add(name: str, value: float, /, **labels: str) -> None:
        closed = named[name].closed(labels)
        values[name][closed] = values[name].get(closed, 0.0) + value

    for (type_, status), count in now.open_tasks.items():
        add("darkroom_tasks", count, type=type_, status=status)
        if status == "pending":
            add("darkroom_queue_depth", count - now.not_due.get(type_, 0), type=type_)
        else:
            add("darkroom_running_tasks", count, type=type_)
    for type_, seconds in now.oldest_seconds.items():
        add("darkroom_oldest_pending_seconds", seconds, type=type_)
    for reason in STUCK_REASONS:
        add("darkroom_stuck_tasks", now.stuck.get(reason, 0), reason=reason)
    for state, count in dataclasses.asdict(gauges.slots(now.alive)).items():
        add("darkroom_worker_slots", count, state=state)
    for (name, state), amount in now.offers.items():
        add("darkroom_offers", amount, name=name, state=state)
    for name, amount in now.needed.items():
        add("darkroom_needed", amount, name=name)
    for name, seconds in now.oldest_needed_seconds.items():
        add("darkroom_needed_oldest_pending_seconds", seconds, name=name)
    for type_, count in now.unplaceable.items():
        add("darkroom_unplaceable_tasks", count, type=type_)
    for state, count in {**gauges.workers_by_state(now.alive), "dead": now.dead_workers}.items():
        add("darkroom_workers", count, state=state)
    add("darkroom_silent_workers", len(now.alive.silent))
    ages = [each.silent_seconds for each in (*now.alive.fresh, *now.alive.silent)]
    add("darkroom_worker_beat_seconds", min(ages, default=0.0), worker="youngest")
    add("darkroom_worker_beat_seconds", max(ages, default=0.0), worker="oldest")
    beat = now.alive.dispatcher.silent_seconds
    add("darkroom_dispatcher_beat_seconds", math.inf if beat is None else beat)
    for provider in providers:
        state = now.breakers.get(provider, "closed")
        add("darkroom_provider_up", float(state != "open"), provider=provider)
        for each in BREAKER_STATES:
            add("darkroom_breaker_state", float(each == state), provider=provider, state=each)
        add("darkroom_breaker_open_seconds", now.breaker_open_seconds.get(provider, 0.0), provider=provider)
    for status, seconds in now.unmoved_seconds.items():
        add("darkroom_unmoved_seconds", seconds, status=status)
    add("darkroom_deadly_tasks", now.deadly_tasks)
    for kind, count in now.troubled_users.items():
        add("darkroom_troubled_users", count, kind=kind)
    for state, count in now.webhooks.items():
        add("darkroom_webhooks", count, state=state)
    add("darkroom_oldest_webhook_seconds", now.oldest_webhook_seconds)
    add("darkroom_last_sweep_timestamp_seconds", _seconds_since_1970(now.last_sweep))
    return values


def _seconds_since_1970(time: str | None) -> float:
    return 0.0 if time is None else datetime.fromisoformat(time).timestamp()
