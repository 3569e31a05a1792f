"""Free space on a disk, and whether it is too little to go on.

A full disk is not the fault of the data to be written: the writer waits, or answers with a time for the next try.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from supervisor.core.errors import NoRoom

LEAST_BYTES = 1_000_000_000
FULL_BYTES = 1_000_000
WAITING = "waiting for disk space"  # the stage of a task whose worker waits for it
WAITING_FOR_THE_STORE = "waiting for the file store"
NO_ROOM = "no_room"  # the code of an image child's answer that the disk is full

# The disk, the user's quota on it, and the largest file that a process may write (`ulimit -f`).
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: BaseException) -> bool:
    """Whether this error means that a disk is full."""
    return isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in _NO_ROOM)


def full_disk(folder: Path) -> NoRoom:
    """The sentence about the full disk under this folder."""
    return NoRoom(f"The disk under {folder} is full; free some space. Nothing was stored.")


def free_bytes(folder: Path) -> int:
    """The bytes that we may still write there, or, if the folder does not exist yet, beside it."""
    disk = os.statvfs(_nearest(folder))
    return disk.f_bavail * disk.f_frsize


def room_trouble(folder: Path) -> str | None:
    """A sentence about a disk that is full, or nearly full; None if there is room."""
    nearest = _nearest(folder)
    disk, free = os.statvfs(nearest), free_bytes(nearest)
    if disk.f_files and not disk.f_favail:
        return f"The disk under {nearest} takes no more files (no inodes are left); delete some."
    if free < LEAST_BYTES:
        if free < FULL_BYTES:
            return f"The disk under {nearest} is full; make room."
        return (
            f"The disk under {nearest} has only {free / 1e9:.1f} GB left; make room: nothing is accepted once it is"
            " full."
        )
    return None


def takes_nothing(folder: Path) -> bool:
    """Whether the disk is full: of bytes, or of files."""
    disk = os.statvfs(_nearest(folder))
    return free_bytes(folder) < FULL_BYTES or bool(disk.f_files and not disk.f_favail)


def disk_of(folder: Path) -> int:
    """The number of the disk under a folder, which may not exist yet; folders on one disk have the same number."""
    return _nearest(folder).stat().st_dev


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
