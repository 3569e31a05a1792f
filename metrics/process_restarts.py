"""How often `darkroom up` had to start each of its processes again, from the file that it keeps in DATA_DIR.

A part that runs alone has no such file, and then there is no process to speak of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.registry import Collector

from metrics.catalogue import Family, Label
from metrics.families import Metric, empty_metric, numbers

NAME = "darkroom_process_restarts_total"
HELP = "Restarts of a process by its supervisor since that started."


class ProcessRestarts(Collector):
    """The names and counts that the file holds, zeros included.  path: {data_dir}/processes.json."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def describe(self) -> Iterator[Metric]:
        yield empty_metric(_family(()))

    def collect(self) -> Iterator[Metric]:
        restarts = read_restarts(self._path)
        yield numbers(_family(tuple(restarts)), {(name,): count for name, count in restarts.items()})


def read_restarts(path: Path) -> dict[str, float]:
    """{process: restarts}; nothing if there is no such file or it is not one that `up` wrote."""
    try:
        state = json.loads(path.read_bytes())
        return {str(process["name"]): float(process["restarts"]) for process in state["processes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _family(processes: tuple[str, ...]) -> Family:
    return Family(NAME, "counter", HELP, (Label("process", processes),))
