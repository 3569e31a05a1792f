"""Free space on the disks of the data: a full disk stops the system."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client.registry import Collector

from config.settings import Settings
from metrics.catalogue import Family, Label
from metrics.families import Metric, empty_metric, numbers
from metrics.single_flight import SingleFlight
from supervisor.database.sqlite.sqlite_database import sqlite_file

_PATH = (Label("path", ()),)  # those of the disks below that belong to this host
FREE = Family("darkroom_disk_free_bytes", "gauge", "Bytes left for us on the disk that holds this.", _PATH)
SIZE = Family("darkroom_disk_size_bytes", "gauge", "Bytes that the disk that holds this can take.", _PATH)
FRESH_SECONDS = 1.0
PATIENCE_SECONDS = 2.0


class Disks(Collector):
    """Free and total size by path: `database` and `files`.  Data on other hosts has no value."""

    def __init__(self, settings: Settings) -> None:
        folders = folders_on_this_host(settings)
        # A network disk may hang, and the scrape must not wait for it.
        self._room = SingleFlight(lambda: _room(folders), fresh_seconds=FRESH_SECONDS)

    def describe(self) -> Iterator[Metric]:
        return map(empty_metric, (FREE, SIZE))

    def collect(self) -> Iterator[Metric]:
        try:
            room = self._room.latest(PATIENCE_SECONDS)
        except TimeoutError:
            room = {}
        yield numbers(FREE, {(path,): float(free) for path, (free, _) in room.items()})
        yield numbers(SIZE, {(path,): float(size) for path, (_, size) in room.items()})


def folders_on_this_host(settings: Settings) -> dict[str, Path]:
    """{path: its folder}."""
    folders = {}
    if settings.database_url.startswith("sqlite:///"):
        folders["database"] = sqlite_file(settings.database_url)[0].parent
    if settings.storage_url.startswith("file://"):
        folders["files"] = Path(settings.storage_url.removeprefix("file://"))
    return folders


def _room(folders: Mapping[str, Path]) -> dict[str, tuple[int, int]]:
    """{path: (free bytes, size in bytes)}; for a missing folder, its nearest existing parent is used."""
    found = {}
    for path, folder in folders.items():
        nearest = next((each for each in (folder, *folder.parents) if each.exists()), None)
        if nearest is not None:
            disk = os.statvfs(nearest)
            found[path] = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
    return found
