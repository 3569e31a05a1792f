"""Where uploads and results lie: objects under keys, in a local folder or in an S3 bucket.

A key is a short path of plain names (`uploads/01J….jpg`), so it can be a file's name, an object's name and a part of
a URL without quoting.  An object is written once, under a fresh name, and never changed: `put` returns only when it
would survive loss of power, so a row that names a key is always written after its object.  Content goes in and out in
pieces, so nobody holds a whole object in memory.  All calls block; on an event loop they belong in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from supervisor.core.errors import StoreAway as StoreAway

PIECE_BYTES = 262_144  # what is read at once: the pace of a slow reader costs no more memory than this

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}){0,7}")


class BadKey(ValueError):
    """The text can't be a key.  Nothing was touched."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing.  age_seconds: since it was written, by the store's own clock."""

    key: str
    age_seconds: float


class OpenFile(Protocol):
    """An object, or a part of it, being read.  size: bytes of the whole object; first, last: the part's bounds."""

    size: int
    first: int
    last: int

    def read(self, most: int = -1, /) -> bytes:
        """The next bytes of the part, at most so many; nothing at its end.  Raises StoreAway."""

    def close(self) -> None:
        """Give the connection back; reading on is not possible."""


class FileStore(Protocol):
    """What every store of files can do.

    FileNotFoundError where there is no such object, BadKey for a bad key, StoreAway or OSError where the store can't
    be used just now.
    """

    def put(self, key: str, file: BinaryIO) -> None:
        """Store a seekable file from its start, durably; replaces an object of the same key as a whole.

        Raises StoreAway, and NoRoom, which is one.
        """

    def open(self, key: str, first: int = 0, last: int | None = None) -> OpenFile:
        """The object's bytes from `first` (below zero: so many before its end) to `last`, which is included.

        Raises ValueError for a part that begins behind the end.
        """

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is as good as removed."""

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this host, or None where the store is elsewhere."""

    def listing(self, folder: str, after: str = "") -> Iterator[Listed]:
        """Every object whose key begins with this folder and comes after that key, in the order of keys."""

    def tidy(self, older_than_seconds: float) -> int:
        """Remove what puts have left behind whose process died; how much there was."""

    def examine(self) -> str:
        """Try the store, without changing an object of ours; what and where it is, in words.

        Raises StoreAway, OSError.
        """


def is_key(text: str) -> bool:
    """Whether the text may be a key: 1-8 names of letters, digits, `_`, `-` and (not first) `.`, joined by `/`."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key.  Raises BadKey for a text that can't be one."""
    if not is_key(key):
        raise BadKey(f"{key!r} can't be the key of a file.")
    return key


def copy_to(files: FileStore, key: str, target: Path) -> None:
    """The object as a file of one's own."""
    opened = files.open(key)
    try:
        with target.open("wb") as file:
            while piece := opened.read(PIECE_BYTES):
                file.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)  # half of it would take room, on a disk that may be full
        raise
    finally:
        opened.close()
