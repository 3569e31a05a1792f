"""Scratch folders: one for each worker in the data folder, one in it for each attempt that needs one.

An attempt removes its own folder; a worker that is killed leaves its behind, and the next worker of this data folder
to start removes what belongs to nobody who lives.  Whatever is called from a thread here blocks.

An attempt's folder is made when somebody first asks where it is.  Who only hands a job in, or asks about one, writes
nothing, and where other programs write to the same disk a folder may cost its process tens of milliseconds.
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
    """Does something that writes to a disk, and does it again while the disk is full."""

    async def __call__(self, act: Callable[[], Awaitable[T]], /) -> T: ...


async def at_once(act: Callable[[], Awaitable[T]], /) -> T:
    """Waits for nothing: where a disk is full its error is raised."""
    return await act()


class Scratch:
    """The folder of one attempt, or of one poll.  path: where it is once it is made."""

    def __init__(self, path: Path, when_there_is_room: WhenThereIsRoom = at_once) -> None:
        self._path, self._when = path, when_there_is_room
        self._is_wanted = self._is_made = False

    @property
    def folder(self) -> Path:
        """Where to write; made, unless the disk is full: then it is made as soon as there is room."""
        self._is_wanted = True
        try:
            self._make()
        except OSError as error:
            if not is_full(error):
                raise
        return self._path

    async def when_there_is_room(self, act: Callable[[], Awaitable[T]], /) -> T:
        """What the act, which may write into the folder, returns; it is done again while the disk is full."""

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
        """The folder is gone, with what it held, and is not made again."""
        self._is_made = True
        if not self._is_wanted:
            return
        try:
            # Not in a thread: of an empty folder it takes microseconds, a thread's turn takes a tenth of a start.
            self._path.rmdir()
        except FileNotFoundError:
            pass
        except OSError:  # it holds something
            await asyncio.to_thread(shutil.rmtree, self._path, True)


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
async def scratch_of(
    worker_folder: Path, name: str, when_there_is_room: WhenThereIsRoom = at_once
) -> AsyncIterator[Scratch]:
    """Scratch space until the block ends.  name: nobody else's, for instance after a lease, which is given once."""
    scratch = Scratch(worker_folder / name, when_there_is_room)
    try:
        yield scratch
    finally:
        await scratch.remove()
