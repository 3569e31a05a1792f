"""A small picture beside each finished one, for lists and cards: WebP, 480 pixels on its long side.

A smaller picture keeps its size; transparency is kept.  The process that has the picture decoded makes the thumbnail.
The picture was paid for, the thumbnail was not: an error here only leaves the picture without a thumbnail.
"""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

LONG_SIDE = 480  # a card is about 260 CSS pixels wide, on screens of two dots a pixel
QUALITY = 60  # 16 KB for the studio's pictures: a hundred cards are less than 2 MB
METHOD = 2  # half the time of Pillow's 4, for a twentieth more bytes


def write_thumbnail(picture: Image.Image, path: Path) -> dict[str, Any] | None:
    """{"path", "width", "height"} of the picture's thumbnail, a whole file at `path`; None when it can't be made.

    picture: RGB or RGBA.  path: ends in `.webp`; its folder exists.
    """
    try:
        small = _small(picture)
        encoded = io.BytesIO()
        small.save(encoded, "WEBP", quality=QUALITY, method=METHOD)
        path.write_bytes(encoded.getbuffer())
    except Exception as error:  # noqa: BLE001  encoders raise nearly anything, and a full disk is no reason either
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        print(f"A picture is left without its thumbnail: {error!r}", file=sys.stderr)
        return None
    return {"path": str(path), "width": small.width, "height": small.height}


def _small(picture: Image.Image) -> Image.Image:
    scale = LONG_SIDE / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.HAMMING, reducing_gap=2.0)
