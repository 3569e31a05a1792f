"""Where uploads and results lie: objects under keys, in a local folder.

A key is a short path of plain names (`uploads/01J….jpg`), so it can be a file's name, an object's name and a part of
a URL without quoting.  An object is written once, under a fresh name, and never changed: `put` returns only when it
would survive loss of power (temporary file, fsync, rename, fsync of the folder), so a row that names a key is always
written after its object.  All calls block; on an event loop they belong in a thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from typing import Protocol

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}){0,7}")
_TEMPORARY = ".tmp-"  # no key may begin a name with a dot, so nobody can ask for a half-written object


class BadKey(ValueError):
    """The text can't be a key.  Nothing was touched."""


class FileStore(Protocol):
    """What every store of files can do.  FileNotFoundError where there is no such object; BadKey for a bad key."""

    def put(self, key: str, data: bytes) -> None:
        """Store an object durably; replaces one of the same key as a whole."""

    def read(self, key: str) -> bytes:
        """The whole object."""

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is as good as removed."""

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this host, or None where the store is elsewhere."""


class LocalFiles:
    """A FileStore in a folder, which is made with the first object, readable only by its owner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, key: str, data: bytes) -> None:
        target = self._path(key)
        temporary, descriptor = self._new_file_beside(target)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._fsync_folders(target.parent)

    def read(self, key: str) -> bytes:
        return self._path(key).read_bytes()

    def delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # a folder that still holds something stays
            if path.parent != self.folder:
                path.parent.rmdir()

    def local_path(self, key: str) -> Path | None:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {key}.")
        return path

    def _path(self, key: str) -> Path:
        if not is_key(key):
            raise BadKey(f"{key!r} can't be the key of a file.")
        return self.folder.joinpath(*key.split("/"))

    @staticmethod
    def _new_file_beside(target: Path) -> tuple[Path, int]:
        """A fresh file in the target's folder, open for writing, under a name that is no key."""
        # A delete may take the empty folder away before the file is in it, or between mkdir's two looks at it.
        for _ in range(100):
            temporary = target.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        raise FileNotFoundError(f"The folder {target.parent} can't be made.")

    def _fsync_folders(self, folder: Path) -> None:
        """A rename is durable only with its folder, and a new folder only with the one above it."""
        for each in (folder, *folder.parents):
            descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if each == self.folder.parent:
                return


def is_key(text: str) -> bool:
    """Whether the text may be a key: 1-8 names of letters, digits, `_`, `-` and (not first) `.`, joined by `/`."""
    return _KEY.fullmatch(text) is not None


def open_file_store(storage_url: str) -> FileStore:
    """The store behind a `STORAGE_URL`; nothing is touched yet.  Raises SettingFault."""
    scheme, _, rest = storage_url.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return LocalFiles(Path(rest))
    from supervisor.faults import SettingFault

    raise SettingFault(
        f"STORAGE_URL begins with '{scheme}://', but this version stores in file:/// folders only."
    )
