"""The kernel's state of a process (Linux's letter), and the state file of `darkroom up` about its processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

ZOMBIE, STOPPED = "Z", "T"


def state_of(pid: int) -> str:
    """The letter of proc(5); empty if the process is gone, or if there is no /proc."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return said.rpartition(")")[2].split()[0]


def lives(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        return True
    # A zombie is dead: the process that adopts a killed `up`'s children may reap them late.
    return state_of(pid) != ZOMBIE


def state_path(data_dir: Path) -> Path:
    """The state file of this folder's `darkroom up`."""
    return data_dir / "processes.json"


def read_state(path: Path) -> dict[str, Any] | None:
    """{"supervisor", "processes", "renewal"} as `ProcessSupervisor` wrote it; None if no `up` has written it."""
    try:
        state = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def running_up(data_dir: Path) -> int | None:
    """The process of the `darkroom up` that runs on this folder."""
    try:
        pid = int((read_state(state_path(data_dir)) or {})["supervisor"]["pid"])
    except (ValueError, KeyError):
        return None
    return pid if lives(pid) else None


def stopped_up(data_dir: Path) -> int | None:
    """The process of this folder's `darkroom up` if it is stopped (for example by Ctrl-Z); else None."""
    pid = running_up(data_dir)
    return pid if pid is not None and state_of(pid) == STOPPED else None


def to_be_started(data_dir: Path, alone: str = "") -> str:
    """What to do about a missing part, as the end of a sentence.  alone: the command that runs the part alone."""
    pid = running_up(data_dir)
    if pid is None:
        return "start `darkroom up`" + (f" or `{alone}`" if alone else "")
    if stopped_up(data_dir):
        return f"`darkroom up` (process {pid}) is stopped: `kill -CONT {pid}` lets it go on and start what is missing"
    return (
        f"`darkroom up` (process {pid}) runs here, ends a part that is frozen after 15 s and starts what is missing:"
        " its log says why it has not"
    )
