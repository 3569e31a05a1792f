"""Small real pictures."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def picture(colour: str = "red", kind: str = "PNG", size: tuple[int, int] = (40, 30), **more: Any) -> bytes:
    """The bytes of a picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **more)
    return out.getvalue()
