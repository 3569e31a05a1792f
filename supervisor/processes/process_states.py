"""What the kernel says of a process (Linux's one letter), and what `darkroom up` says of those that it keeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

ZOMBIE, STOPPED = "Z", "T"


def state_of(pid: int) -> str:
    """The letter of proc(5); empty for one that is gone, or where there is no /proc."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return said.rpartition(")")[2].split()[0]


def lives(pid: int) -> bool:
    """Whether there is such a process, and more of it than what nobody has waited for yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    # A zombie is dead: whoever inherits a killed `up`'s children may take its time.
    return state_of(pid) != ZOMBIE


def state_path(data_dir: Path) -> Path:
    """Where the `darkroom up` of this folder writes how its processes are."""
    return data_dir / "processes.json"


def read_state(path: Path) -> dict[str, Any] | None:
    """{"supervisor", "processes", "renewal"} as `ProcessSupervisor` wrote it; None where no `up` has."""
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
    """The process of this folder's `darkroom up`, where it is stopped (by a Ctrl-Z, say); None where it is not."""
    pid = running_up(data_dir)
    return pid if pid is not None and state_of(pid) == STOPPED else None


def to_be_started(data_dir: Path, alone: str = "") -> str:
    """What to do about a part that is missing, as the end of a sentence.  alone: the command that runs it alone."""
    pid = running_up(data_dir)
    if pid is None:
        return "start `darkroom up`" + (f" or `{alone}`" if alone else "")
    if stopped_up(data_dir):
        return f"`darkroom up` (process {pid}) is stopped: `kill -CONT {pid}` lets it go on and start what is missing"
    return (
        f"`darkroom up` (process {pid}) runs here, ends a part that is frozen after 15 s and starts what is missing:"
        " its log says why it has not"
    )
