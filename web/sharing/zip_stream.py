"""A ZIP file made piece by piece: what was made is taken and sent before the next piece is read.

Each member is a deflated stream without compression, for pictures and films don't get smaller, and its size and
checksum follow it: such a file can be unpacked from a stream as well as from a disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

MOST_NAME_CHARACTERS = 255


class Readable(Protocol):
    """A file that is open.  size: bytes."""

    size: int

    def read(self, most: int = -1, /) -> bytes: ...


class _Made:
    """The bytes that were written and not yet taken; it can't seek."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None: ...

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


class ZipStream:
    """One file.  Every method gives the bytes that it has made; in memory are one piece and the list of members."""

    def __init__(self) -> None:
        self._made = _Made()
        self._zip = zipfile.ZipFile(self._made, "w", zipfile.ZIP_DEFLATED, compresslevel=0)  # type: ignore[call-overload]

    def member(self, name: str, made_at: datetime, content: Readable, piece_bytes: int) -> Iterator[bytes]:
        """The bytes of one member, piece by piece: each step reads, and blocks."""
        about = zipfile.ZipInfo(name[:MOST_NAME_CHARACTERS], made_at.timetuple()[:6])
        about.compress_type = zipfile.ZIP_DEFLATED
        about._compresslevel = 0  # type: ignore[attr-defined]  # public from Python 3.13 on, where this name works too
        about.external_attr = 0o600 << 16
        about.file_size = content.size  # so that a large one gets the larger form
        with self._zip.open(about, "w") as member:
            while piece := content.read(piece_bytes):
                member.write(piece)
                yield self._made.take()
        yield self._made.take()

    def end(self) -> bytes:
        """The list of members, which ends the file."""
        self._zip.close()
        return self._made.take()
