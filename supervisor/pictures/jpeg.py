"""A JPEG file without its end marker: whole for every viewer, and cut off for Pillow.

Cameras and programs leave the last two bytes out, and an upload loses them; viewers put them there in thought.  The
same would turn a file that was cut in its middle into one with a grey half, since libjpeg calls both a warning, which
nobody hears.  What tells them apart: bytes that follow a whole picture change nothing in it, while in one that was cut
they are taken for its missing part.  So it is decoded twice, with the end marker alone and with other bytes before it.
Source of the markers: ITU-T T.81, annex B.
"""

from __future__ import annotations

import io
import random
from typing import BinaryIO

from PIL import Image

_END = b"\xff\xd9"
_OTHER_BYTES = bytes(random.Random(1).choices(range(1, 255), k=4096))  # no 0xFF, which begins a marker
_ROWS = 64


def decoded_without_end(source: BinaryIO) -> Image.Image | None:
    """The picture of a JPEG file whose end marker is missing; None when more than that is.

    Raises what decoders raise.
    """
    source.seek(0)
    data = source.read().rstrip(b"\xff")  # half of a marker says nothing
    picture, other = _decoded(data + _END), _decoded(data + _OTHER_BYTES + _END)
    return picture if _are_equal(picture, other) else None


def _decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
        opened.load()
        return opened


def _are_equal(one: Image.Image, other: Image.Image) -> bool:
    """In strips, so that no further picture of this size is made."""
    if (one.mode, one.size) != (other.mode, other.size):
        return False
    strips = ((0, top, one.width, min(top + _ROWS, one.height)) for top in range(0, one.height, _ROWS))
    return all(one.crop(strip).tobytes() == other.crop(strip).tobytes() for strip in strips)
