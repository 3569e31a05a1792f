"""A JPEG file without its end marker: whole for every viewer, but truncated for Pillow.

Some cameras and programs omit the last two bytes, and an upload may lose them; viewers ignore that.  If Pillow ignored
it too, a file that was cut in its middle would become a picture with a grey half, since libjpeg only warns in both
cases.  The difference: bytes that follow a whole picture change nothing in it, but in a cut picture they are decoded as
its missing part.  So the file is decoded twice, with the end marker alone and with other bytes before it.
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
    """The picture of a JPEG file that lacks only its end marker; None if more is missing.

    Raises the decoders' exceptions.
    """
    source.seek(0)
    data = source.read().rstrip(b"\xff")  # half of a marker has no meaning
    picture, other = _decoded(data + _END), _decoded(data + _OTHER_BYTES + _END)
    return picture if _are_equal(picture, other) else None


def _decoded(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
        opened.load()
        return opened


def _are_equal(one: Image.Image, other: Image.Image) -> bool:
    """Compared in strips, so that no further picture of this size is needed."""
    if (one.mode, one.size) != (other.mode, other.size):
        return False
    strips = ((0, top, one.width, min(top + _ROWS, one.height)) for top in range(0, one.height, _ROWS))
    return all(one.crop(strip).tobytes() == other.crop(strip).tobytes() for strip in strips)
