"""The part of a PNG file that viewers show: without animation, and without large metadata.

Two features of a valid file can stop Pillow from reading that picture:

- Beside its pixels a file may hold compressed texts and a colour profile of any size (a workflow, an editor's
  history).  Pillow reports a damaged file if one of them is longer than MAX_TEXT_CHUNK, or all texts together are
  longer than MAX_TEXT_MEMORY.  Here they share one limit; texts above it are left out, so a decompression bomb does no
  harm.
- An animation may have a default image outside of it, which only programs without animation support show; browsers
never show it.

Such a file is written anew, in memory, with only the needed parts; every other file is left as it is.
Source: PNG specification, third edition (2025), sections 5.3, 11.3.3 and 11.3.6.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL import ImageFile

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_METADATA_BYTES = 16 * 1024 * 1024  # size of all texts and the profile together, decompressed

_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_TEXT = (b"tEXt", *_COMPRESSED)
_STEPS = {"L;2": 85, "L;4": 17}  # from a grey of 2 or 4 bits to one of 8


@dataclass(frozen=True, slots=True)
class Chunk:
    """kind: its four letters.  at: where its content begins."""

    kind: bytes
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Placed:
    """A PNG file of one picture, and its place in the whole: where the first frame of an animation is smaller."""

    file: BinaryIO
    size: tuple[int, int] | None = None
    offset: tuple[int, int] = (0, 0)


def as_shown(source: BinaryIO) -> Placed:
    """The file for Pillow to read: the source itself, unless it is a PNG with such features."""
    source.seek(0)
    is_png = source.read(len(SIGNATURE)) == SIGNATURE
    chunks = list(_chunks(source)) if is_png else []
    frame = _first_frame(source, chunks)
    unwanted = _too_long(source, chunks)
    is_animated = any(chunk.kind == b"acTL" for chunk in chunks)
    source.seek(0)
    if not (is_animated or unwanted) or chunks[0].kind != b"IHDR" or chunks[0].length != 13:
        return Placed(source)
    written = [chunk for chunk in chunks if chunk.kind not in _ANIMATION and chunk not in unwanted]
    if frame is None:
        return Placed(_written(source, written, None))
    width, height = struct.unpack(">II", _content(source, chunks[0], 8))
    frame_width, frame_height, left, top = struct.unpack(">IIII", frame.head[4:20])
    if left + frame_width > width or top + frame_height > height:
        return Placed(_written(source, written, None))  # not a valid animation
    return Placed(_written(source, written, frame), (width, height), (left, top))


def mend_transparent_grey(opened: ImageFile.ImageFile) -> None:
    """Pillow converts a PNG with 4 or 16 greys to 8 bits, but leaves the transparent grey at the file's value."""
    grey = opened.info.get("transparency")
    if opened.format == "PNG" and isinstance(grey, int) and opened.tile:
        opened.info["transparency"] = grey * _STEPS.get(str(opened.tile[0].args), 1)


@dataclass(frozen=True, slots=True)
class _Frame:
    """The first picture of an animation whose default image is hidden.  head: the content of its fcTL."""

    head: bytes
    data: tuple[Chunk, ...]


def _chunks(source: BinaryIO) -> Iterator[Chunk]:
    """All chunks up to the end of the picture, or of the file."""
    end = source.seek(0, io.SEEK_END)
    at = len(SIGNATURE)
    while at + 8 <= end:
        source.seek(at)
        length, kind = struct.unpack(">I4s", source.read(8))
        yield Chunk(kind, at + 8, min(length, end - at - 8))
        if kind == b"IEND":
            return
        at += 12 + length


def _first_frame(source: BinaryIO, chunks: Sequence[Chunk]) -> _Frame | None:
    """The first frame, if it is not the file's default image."""
    kinds = [chunk.kind for chunk in chunks]
    if not {b"acTL", b"IDAT", b"fcTL"} <= set(kinds) or kinds.index(b"fcTL") < kinds.index(b"IDAT"):
        return None
    begins = kinds.index(b"fcTL")
    following = itertools.takewhile(lambda chunk: chunk.kind != b"fcTL", chunks[begins + 1 :])
    data = tuple(chunk for chunk in following if chunk.kind == b"fdAT")
    if not data or chunks[begins].length != 26:
        return None  # not a valid animation: viewers show the default image
    return _Frame(_content(source, chunks[begins], 26), data)


def _too_long(source: BinaryIO, chunks: Sequence[Chunk]) -> frozenset[Chunk]:
    """The metadata chunks beyond MOST_METADATA_BYTES, in the order of the file."""
    metadata, left = [chunk for chunk in chunks if chunk.kind in _TEXT], MOST_METADATA_BYTES
    for n, chunk in enumerate(metadata):
        left -= _unfolded(source, chunk, left)
        if left < 0:
            return frozenset(metadata[n:])
    return frozenset()


def _unfolded(source: BinaryIO, chunk: Chunk, most: int) -> int:
    """The decompressed length of a text or profile; just above `most` if it is longer than that."""
    if chunk.kind not in _COMPRESSED or chunk.length > most:
        return chunk.length
    name, _, rest = _content(source, chunk, chunk.length).partition(b"\0")
    if chunk.kind == b"iTXt":
        if rest[:1] != b"\1":
            return chunk.length
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        rest = rest[1:]
    try:
        unfolder = zlib.decompressobj()
        return len(name) + len(unfolder.decompress(rest, most + 1))
    except zlib.error:  # Pillow reads it as empty
        return chunk.length


def _content(source: BinaryIO, chunk: Chunk, length: int) -> bytes:
    source.seek(chunk.at)
    return source.read(min(length, chunk.length))


def _written(source: BinaryIO, chunks: Sequence[Chunk], frame: _Frame | None) -> BinaryIO:
    """A file of these chunks; with a frame's size and pixels in place of the picture's own."""
    target = io.BytesIO()
    target.write(SIGNATURE)
    for chunk in chunks:
        if frame is not None and chunk.kind == b"IHDR":
            _write(target, b"IHDR", frame.head[4:12] + _content(source, chunk, 13)[8:])
        elif frame is None or chunk.kind != b"IDAT":
            source.seek(chunk.at - 8)
            target.write(source.read(chunk.length + 12))  # unchanged, with its checksum
        elif frame.data:
            for part in frame.data:
                _write(target, b"IDAT", _content(source, part, part.length)[4:])
            frame = _Frame(frame.head, ())
    target.seek(0)
    return target


def _write(target: BinaryIO, kind: bytes, content: bytes) -> None:
    target.write(struct.pack(">I", len(content)) + kind + content)
    target.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))
