"""The interface of the file store: objects under keys, in a local folder or in an S3 bucket.

A key is a short path of plain names (`uploads/01J….jpg`), so it can be a file's name, an object's name and a part of
a URL without quoting.  An object is written once, under a fresh name, and never changed: `put` returns only when the
object would survive a power failure, so a row that names a key is always written after its object.  Content is read and
written in pieces, so no whole object is held in memory.  All calls block; call them in a thread, not on an event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from supervisor.core.errors import StoreAway as StoreAway

PIECE_BYTES = 262_144  # bytes read at once: a slow reader costs no more memory than this

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}(/[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}){0,7}")


class BadKey(ValueError):
    """The text can't be a key.  Nothing was touched."""


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing.  age_seconds: since it was written, by the store's own clock."""

    key: str
    age_seconds: float


class NoSuchPart(ValueError):
    """The part begins behind the end of the file.  size: bytes of the whole file."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.")
        self.size = size


class OpenFile(Protocol):
    """An object, or a part of it, being read.  size: bytes of the whole object; first, last: the part's bounds."""

    size: int
    first: int
    last: int

    def read(self, most: int = -1, /) -> bytes:
        """The next bytes of the part, at most so many; empty at its end.  Raises StoreAway."""

    def close(self) -> None:
        """Return the connection; the object can't be read any further."""


class FileStore(Protocol):
    """The methods of every file store.

    Raises FileNotFoundError for a missing object, BadKey for a bad key, StoreAway or OSError if the store can't be used
    now.
    """

    def put(self, key: str, file: BinaryIO) -> None:
        """Store a seekable file from its start, durably; replaces an object of the same key as a whole.

        Raises StoreAway, and NoRoom, which is one.
        """

    def open(self, key: str, first: int = 0, last: int | None = None) -> OpenFile:
        """The object's bytes from `first` (below zero: so many before its end) to `last`, which is included.

        Raises NoSuchPart for a part that begins after the end.
        """

    def delete(self, key: str) -> None:
        """Remove the object; a missing one is no error."""

    def local_path(self, key: str) -> Path | None:
        """The object as a file of this host; None if the store is elsewhere."""

    def listing(self, folder: str, after: str = "") -> Iterator[Listed]:
        """Every object whose key begins with this folder and comes after that key, in the order of keys."""

    def tidy(self, older_than_seconds: float) -> int:
        """Remove unfinished files of processes that died during a put; how many."""

    def examine(self) -> str:
        """Test the store without changing its objects; a description of its kind and place.

        Raises StoreAway, OSError.
        """


def is_key(text: str) -> bool:
    """Whether the text may be a key: 1-8 names of letters, digits, `_`, `-` and (not first) `.`, joined by `/`."""
    return _KEY.fullmatch(text) is not None


def checked_key(key: str) -> str:
    """The key.  Raises BadKey for a text that can't be a key."""
    if not is_key(key):
        raise BadKey(f"{key!r} can't be the key of a file.")
    return key


def copy_to(files: FileStore, key: str, target: Path) -> None:
    """A copy of the object as a local file."""
    opened = files.open(key)
    try:
        with target.open("wb") as file:
            while piece := opened.read(PIECE_BYTES):
                file.write(piece)
    except BaseException:
        target.unlink(missing_ok=True)  # a half-written file would take space on a disk that may be full
        raise
    finally:
        opened.close()
