"""Scratch folders: one for each worker in the data folder, one in it for each attempt that needs one.

An attempt removes its own folder.  A killed worker leaves its folder behind, and the next worker that starts on this
data folder removes the folders of dead workers.  Functions here that must be called in a thread block.

An attempt's folder is made at the first use of its path.  An attempt that only submits or polls a job writes no file,
and on a busy disk a folder may cost its process tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from pathlib import Path
from typing import Protocol, TypeVar

from supervisor.objects.disk_space import is_full

FOLDER = "scratch"

T = TypeVar("T")


class WhenThereIsRoom(Protocol):
    """Calls an act that writes to a disk, and repeats it while the disk is full."""

    async def __call__(self, act: Callable[[], Awaitable[T]], /) -> T: ...


async def at_once(act: Callable[[], Awaitable[T]], /) -> T:
    """Does not wait: a full disk raises its error."""
    return await act()


class Scratch:
    """The folder of one attempt, or of one poll.  path: its place once it is made."""

    def __init__(self, path: Path, when_there_is_room: WhenThereIsRoom = at_once) -> None:
        self._path, self._when = path, when_there_is_room
        self._is_wanted = self._is_made = False

    @property
    def folder(self) -> Path:
        """The path; the folder is made now, or, if the disk is full, as soon as there is room."""
        self._is_wanted = True
        try:
            self._make()
        except OSError as error:
            if not is_full(error):
                raise
        return self._path

    async def when_there_is_room(self, act: Callable[[], Awaitable[T]], /) -> T:
        """The result of the act, which may write into the folder and is repeated while the disk is full."""

        async def act_in_it() -> T:
            if self._is_wanted:
                self._make()
            return await act()

        return await self._when(act_in_it)

    def _make(self) -> None:
        if not self._is_made:
            self._path.mkdir(mode=0o700, exist_ok=True)
            self._is_made = True

    async def remove(self) -> None:
        """Delete the folder with its content; it is not made again."""
        self._is_made = True
        if not self._is_wanted:
            return
        try:
            # Not in a thread: for an empty folder it takes microseconds, while a thread would take a tenth of a start.
            self._path.rmdir()
        except FileNotFoundError:
            pass
        except OSError:  # it holds something
            await asyncio.to_thread(shutil.rmtree, self._path, True)


def found_in(data_dir: Path) -> frozenset[str]:
    """Ids of the workers that have a folder now.  Call it before live workers are read: a worker registers before it
    makes its folder, so a worker that is found here and is not live afterwards is dead.  In the other order, a worker
    that starts at the same moment would lose its folder.  Call it in a thread.
    """
    folder = data_dir / FOLDER
    return frozenset(other.name for other in folder.iterdir()) if folder.exists() else frozenset()


def open_scratch(data_dir: Path, worker_id: str, dead: Set[str]) -> Path:
    """Make this worker's folder and delete those of the `dead`.  Call it in a thread."""
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
    """Write the data as a file, or leave no file: half a file would take up missing space.  Call it in a thread."""
    try:
        path.write_bytes(data)
    except OSError:
        path.unlink(missing_ok=True)
        raise


@contextlib.asynccontextmanager
async def scratch_of(
    worker_folder: Path, name: str, when_there_is_room: WhenThereIsRoom = at_once
) -> AsyncIterator[Scratch]:
    """Scratch space until the block ends.  name: unique, for example from a lease, which is used once."""
    scratch = Scratch(worker_folder / name, when_there_is_room)
    try:
        yield scratch
    finally:
        await scratch.remove()
