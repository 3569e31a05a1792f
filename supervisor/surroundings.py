"""What whoever looks at the whole sees beside the database: this host's processes, its disks, and the broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from config.settings import Settings
from supervisor.broker_ping import ping_broker

BROKER_PATIENCE_SECONDS = 0.5


def look_around(settings: Settings) -> dict[str, Any]:
    """`processes` and `is_broker_up`, as `supervisor.troubles` judges them beside the overview.  Blocks."""
    return {
        "processes": read_processes(settings.data_dir / "processes.json"),
        "is_broker_up": ping_broker(settings, timeout_seconds=BROKER_PATIENCE_SECONDS),
    }


def read_processes(path: Path) -> list[dict[str, Any]]:
    """Each process of this host as `up` has written it: name, pid, state, restarts, last_exit; nothing without `up`."""
    try:
        processes = json.loads(path.read_bytes())["processes"]
        wanted = ("name", "pid", "state", "restarts", "last_exit")
        return [{name: process[name] for name in wanted} for process in processes]
    except (OSError, ValueError, KeyError, TypeError):
        return []
