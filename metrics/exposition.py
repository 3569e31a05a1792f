"""The text of /metrics: every name of docs/operating.md, from the first scrape on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from config.settings import Settings
from metrics.broker_probe import BrokerProbe
from metrics.database_collector import DatabaseCollector
from metrics.disk_collector import Disks
from metrics.process_collector import Processes
from supervisor.database.interface.database import Database
from supervisor.processes.process_states import state_path


class Exposition:
    """The metrics of database, broker, disks and supervisor as text, with a process's own counters.

    Nothing is read before the first `render`, and no state is kept here that a restart could lose.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(DatabaseCollector(database, settings))
        self._registry.register(BrokerProbe(settings))
        self._registry.register(Disks(settings))
        self._registry.register(Processes(state_path(settings.data_dir)))

    def render(self, own: Iterable[CollectorRegistry] = ()) -> bytes:
        """The text format 0.0.4.  own: registries of the calling process.  Blocks: call it in a thread."""
        return b"".join(generate_latest(_WithoutCreated(registry)) for registry in (self._registry, *own))


class _WithoutCreated(Collector):
    """A registry without the `_created` series, which this text format could only show as unknown names."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            created = metric.name + "_created"
            metric.samples = [sample for sample in metric.samples if sample.name != created]
            yield metric
