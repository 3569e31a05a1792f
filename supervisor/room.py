"""Room on a disk: what is left of it for us, and whether that is too little to go on."""

from __future__ import annotations

import os
from pathlib import Path

LEAST_BYTES = 1_000_000_000


def free_bytes(folder: Path) -> int:
    """What we may still write there, or, for a folder that is not made yet, beside it."""
    disk = os.statvfs(_nearest(folder))
    return disk.f_bavail * disk.f_frsize


def room_trouble(folder: Path, least_bytes: int = LEAST_BYTES) -> str | None:
    """A sentence about a disk that is full, or nearly; None when there is room."""
    nearest = _nearest(folder)
    disk, free = os.statvfs(nearest), free_bytes(nearest)
    if disk.f_files and not disk.f_favail:
        return f"The disk under {nearest} takes no more files (no inodes are left); delete some."
    if free < least_bytes:
        how = "is full" if free < 1_000_000 else f"has only {free / 1e9:.1f} GB left"
        return f"The disk under {nearest} {how}; make room: nothing is accepted once it is full."
    return None


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
