"""Objects as files of a local folder: durable by temporary file, fsync, rename, fsync of the folders."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from supervisor.objects.disk_space import free_bytes, full_disk, is_full, room_trouble
from supervisor.objects.object_store import PIECE_BYTES, Listed, NoSuchPart, StoreAway, checked_key

_TEMPORARY = ".tmp-"  # keys have no names that begin with a dot, so a half-written object can't be requested


class LocalFiles:
    """A FileStore in a folder, which is made with the first object, readable only by its owner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, file: BinaryIO) -> None:
        try:
            self._put(self._path(key), file)
        except OSError as error:
            if is_full(error):
                raise full_disk(self.folder) from error
            why = error.strerror or type(error).__name__
            raise StoreAway(f"The folder {self.folder} can't be written ({why}); mend it.") from error

    def _put(self, target: Path, file: BinaryIO) -> None:
        temporary, descriptor = self._new_file_beside(target)
        try:
            with os.fdopen(descriptor, "wb") as written:
                file.seek(0)
                shutil.copyfileobj(file, written, PIECE_BYTES)
                written.flush()
                os.fsync(descriptor)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._fsync_folders(target.parent)

    def open(self, key: str, first: int = 0, last: int | None = None) -> _Part:
        return _Part(self._path(key), first, last)

    def delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a folder that is not empty stays
            if path.parent != self.folder:
                path.parent.rmdir()

    def local_path(self, key: str) -> Path | None:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {key}.")
        return path

    def listing(self, folder: str, after: str = "") -> Iterator[Listed]:
        now = time.time()
        for key, entry in _files_under(self.folder / folder, f"{folder}/", after):
            if not entry.name.startswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    yield Listed(key, now - entry.stat().st_mtime)

    def tidy(self, older_than_seconds: float) -> int:
        before, removed = time.time() - older_than_seconds, 0
        for _, entry in _files_under(self.folder, "", ""):
            if entry.name.startswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime < before:
                        os.unlink(entry.path)
                        removed += 1
        return removed

    def examine(self) -> str:
        nearest = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise PermissionError(f"{nearest} can't be written; mend its owner or mode.")
        if trouble := room_trouble(nearest):
            raise OSError(trouble)
        return f"{self.folder}, {free_bytes(nearest) / 1e9:.0f} GB free"

    def _path(self, key: str) -> Path:
        return self.folder.joinpath(*checked_key(key).split("/"))

    @staticmethod
    def _new_file_beside(target: Path) -> tuple[Path, int]:
        """A fresh file in the target's folder, open for writing, with a name that can't be a key."""
        # A delete may remove the empty folder before the file is in it, or between mkdir's two checks.
        for _ in range(100):
            temporary = target.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        raise FileNotFoundError(f"The folder {target.parent} can't be made.")

    def _fsync_folders(self, folder: Path) -> None:
        """A rename is durable only after a sync of its folder, and a new folder only after a sync of its parent."""
        for each in (folder, *folder.parents):
            descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if each == self.folder.parent:
                return


class _Part:
    """An OpenFile of the local folder."""

    def __init__(self, path: Path, first: int, last: int | None) -> None:
        self._path = path
        self._file = path.open("rb")
        self.size = os.fstat(self._file.fileno()).st_size
        self.first = max(0, self.size + first) if first < 0 else first
        self.last = self.size - 1 if last is None else min(last, self.size - 1)
        if self.first > self.last and self.size:
            self._file.close()
            raise NoSuchPart(self.size)
        self._file.seek(self.first)

    def read(self, most: int = -1, /) -> bytes:
        left = self.last + 1 - self._file.tell()
        try:
            return self._file.read(left if most < 0 else min(most, left))
        except OSError as error:
            raise StoreAway(f"{self._path} can't be read ({error.strerror}); mend its disk.") from error

    def close(self) -> None:
        self._file.close()


def _files_under(folder: Path, prefix: str, after: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(key, entry) of each file below the folder whose key comes after that one, in the order of keys."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((f"{entry.name}/" if entry.is_dir() else entry.name, entry) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, entry in found:
        key = prefix + name
        if name.endswith("/"):
            if key > after or after.startswith(key):
                yield from _files_under(folder / entry.name, key, after)
        elif key > after:
            yield key, entry
