"""Small real pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import struct
import zlib
from typing import Any

from PIL import Image

from supervisor.pictures.normalise import (
    Picture,
    normalise_picture,
)


def picture(colour: str = "red", kind: str = "PNG", size: tuple[int, int] = (40, 30), **more: Any) -> bytes:
    """The bytes of a picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **more)
    return out.getvalue()


def one_pixel_png(grey: int) -> bytes:
    """A real picture of one pixel.  grey: 0 … 255."""
    out = io.BytesIO()
    Image.new("L", (1, 1), grey).save(out, "PNG")
    return out.getvalue()


@dataclasses.dataclass(frozen=True)
class Made:
    """A plain picture, and its written form."""

    picture: Picture
    data: bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.picture, name)


def normalised(data: bytes, **limits: int) -> Made:
    target = io.BytesIO()
    picture = normalise_picture(io.BytesIO(data), target, **limits)
    assert picture.bytes == len(target.getvalue())
    assert picture.sha256 == hashlib.sha256(target.getvalue()).hexdigest()
    return Made(picture, target.getvalue())


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\x00" * 1000)) + chunk(b"IEND", b"")
