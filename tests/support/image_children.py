"""A pool of image children for tests."""

from __future__ import annotations

from pathlib import Path


def children() -> set[int]:
    """Our child processes, zombies too, but for what other tests' modules have started and keep."""
    path = Path("/proc/self/task")
    found = {int(pid) for thread in path.iterdir() for pid in _read(thread / "children").split()}
    return found - _OF_OTHERS


_OF_OTHERS: set[int] = set()


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:  # that thread has ended since
        return ""
