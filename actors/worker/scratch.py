"""Scratch folders: one for each worker in the data folder, one in it for each attempt.

An attempt removes its own folder; a worker that is killed leaves its behind, and the next worker of this data folder
to start removes what belongs to nobody who lives.  Whatever is called from a thread here blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Set
from pathlib import Path

from actors.providers.base import WhenThereIsRoom, at_once

FOLDER = "scratch"


def found_in(data_dir: Path) -> frozenset[str]:
    """Ids of the workers that have a folder now.  Ask before the living are read: a worker registers before it makes
    its folder, so whoever is found here and not among the living read afterwards is dead; the other way round a
    worker that starts at the same moment would lose its folder.  Call it from a thread.
    """
    folder = data_dir / FOLDER
    return frozenset(other.name for other in folder.iterdir()) if folder.exists() else frozenset()


def open_scratch(data_dir: Path, worker_id: str, dead: Set[str]) -> Path:
    """This worker's folder, made; those of the `dead` are gone.  Call it from a thread."""
    folder = data_dir / FOLDER
    own = folder / worker_id
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in dead - {worker_id}:
        shutil.rmtree(folder / other, ignore_errors=True)
    return own


def close_scratch(folder: Path) -> None:
    """Remove a worker's folder.  Call it from a thread."""
    shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """The data as a file, or no file: half of one would take the room that is missing.  Call it from a thread."""
    try:
        path.write_bytes(data)
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextlib.asynccontextmanager
async def folder_of_attempt(
    scratch: Path,
    task_id: str,
    lease: int,
    when_there_is_room: WhenThereIsRoom = at_once,
) -> AsyncIterator[Path]:
    """An attempt's own folder, until the block ends.  A lease is given once, so no two have the same.

    Made here, not in a thread, and so is the end of an empty one: they take microseconds, a thread's turn takes a
    tenth of a start.
    """
    folder = scratch / f"{task_id}-{lease}"

    async def make() -> None:
        folder.mkdir(mode=0o700)

    await when_there_is_room(make)
    try:
        yield folder
    finally:
        try:
            folder.rmdir()
        except OSError:  # it holds something
            await asyncio.to_thread(shutil.rmtree, folder, True)
