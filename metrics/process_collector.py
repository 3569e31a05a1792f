"""The processes of `darkroom up`, and how often it had to restart each.

Read from its state file in DATA_DIR.  A part that runs alone has no such file, and then there are no such metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.registry import Collector

from metrics.catalogue import Family, Kind, Label
from metrics.families import Metric, empty_metric, numbers
from supervisor.processes.process_states import read_state


@dataclass(frozen=True)
class Process:
    """One line of the file."""

    is_ready: bool
    restarts: float


class Processes(Collector):
    """The processes in the file, zeros included.  path: {data_dir}/processes.json."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def describe(self) -> Iterator[Metric]:
        return map(empty_metric, (_restarts(()), _up(())))

    def collect(self) -> Iterator[Metric]:
        processes = read_processes(self._path)
        names = tuple(processes)
        yield numbers(_restarts(names), {(name,): each.restarts for name, each in processes.items()})
        yield numbers(_up(names), {(name,): float(each.is_ready) for name, each in processes.items()})


def read_processes(path: Path) -> dict[str, Process]:
    """{name: process}; empty without a file from `up`."""
    try:
        return {
            str(process["name"]): Process(process["state"] == "ready", float(process["restarts"]))
            for process in (read_state(path) or {})["processes"]
        }
    except (ValueError, KeyError, TypeError):
        return {}


def _restarts(names: tuple[str, ...]) -> Family:
    return _family(
        "darkroom_process_restarts_total",
        "counter",
        "Restarts of a process since its supervisor started.",
        names,
    )


def _up(names: tuple[str, ...]) -> Family:
    return _family("darkroom_process_up", "gauge", "1 while a supervised process is ready for work.", names)


def _family(name: str, kind: Kind, help_: str, processes: tuple[str, ...]) -> Family:
    return Family(name, kind, help_, (Label("process", processes),))
