"""The state of this host besides the database: its processes, its disks, and the broker."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from config.settings import Settings
from supervisor.broker.broker_ping import ping_broker
from supervisor.database.sqlite.sqlite_database import sqlite_file
from supervisor.objects.disk_space import disk_of, room_trouble, takes_nothing
from supervisor.processes.process_states import read_state, state_path, stopped_up

BROKER_PATIENCE_SECONDS = 0.5


def look_around(settings: Settings) -> dict[str, Any]:
    """The input of `supervisor.health.troubles` besides the overview.  Blocks.

    `processes`, `disks` (those without enough room), `is_broker_up`, `stopped_up` (a process).
    """
    return {
        "processes": read_processes(state_path(settings.data_dir)),
        "disks": list(troubled_disks(settings)),
        "is_broker_up": is_broker_up(settings),
        "stopped_up": stopped_up(settings.data_dir),
    }


def is_broker_up(settings: Settings) -> bool:
    """Whether the broker answers within half a second.  Blocks."""
    return ping_broker(settings, timeout_seconds=BROKER_PATIENCE_SECONDS)


def clock_ahead_seconds(theirs: str, before: float, after: float) -> float:
    """Seconds by which this host's clock is certainly ahead of the database's; below 0 where it is behind.

    theirs: the database's time, read between `before` and `after`, which are this host's seconds since 1970.
    """
    ahead = (before + after) / 2 - datetime.datetime.fromisoformat(theirs).timestamp()
    unsure = (after - before) / 2
    return max(0.0, ahead - unsure) if ahead > 0 else min(0.0, ahead + unsure)


def troubled_disks(settings: Settings) -> Iterator[dict[str, Any]]:
    """Our folders on this host with a full or nearly full disk: path, a sentence, whether it is full."""
    folders = {settings.data_dir}
    if settings.database_url.startswith("sqlite:///"):
        folders.add(sqlite_file(settings.database_url)[0].parent)
    if settings.storage_url.startswith("file://"):
        folders.add(Path(settings.storage_url.removeprefix("file://")))
    for folder in {disk_of(folder): folder for folder in sorted(folders, reverse=True)}.values():
        text = room_trouble(folder)
        if text is not None:
            yield {"path": str(folder), "text": text, "is_full": takes_nothing(folder)}


def read_processes(path: Path) -> list[dict[str, Any]]:
    """The processes of this host, from `up`'s state file: name, pid, state, restarts, last_exit; empty without `up`."""
    wanted = ("name", "pid", "state", "restarts", "last_exit")
    try:
        return [{name: process[name] for name in wanted} for process in (read_state(path) or {})["processes"]]
    except (KeyError, TypeError):
        return []
