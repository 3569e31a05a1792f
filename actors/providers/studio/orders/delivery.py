"""Handing over a finished picture: a whole file under its name, or nothing.  Its thumbnail lies beside it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from supervisor.pictures.thumbnails import write_thumbnail

JPEG_QUALITY = 90


@dataclass(frozen=True)
class Delivered:
    """n: which of the order's pictures this is, from 0.  thumbnail: {"path", "width", "height"}, or None."""

    n: int
    path: Path
    width: int
    height: int
    thumbnail: dict[str, Any] | None


def deliver(picture: Image.Image, folder: Path, n: int) -> Delivered:
    """Write picture n into `folder` as `n.jpg`, or as `n.png` if it is RGBA.  The file gets its name by a rename, so a
    reader always sees the whole file."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{n}.png" if picture.mode == "RGBA" else f"{n}.jpg"
    path, unfinished = folder / name, folder / f".{name}.{os.getpid()}"
    encoded = io.BytesIO()  # Pillow itself does not notice a file that takes only half of what it writes
    if picture.mode == "RGBA":
        picture.save(encoded, format="PNG", compress_level=4)  # half the time of 6, for a few bytes more
    else:
        picture.save(encoded, format="JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    try:
        unfinished.write_bytes(encoded.getbuffer())
    except BaseException:
        unfinished.unlink(missing_ok=True)  # a half-written file would take space on a disk that may be full
        raise
    unfinished.replace(path)
    thumbnail = write_thumbnail(picture, folder / f"{n}-thumbnail.webp")
    return Delivered(n, path, picture.width, picture.height, thumbnail)
