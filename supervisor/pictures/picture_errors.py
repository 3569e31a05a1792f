"""The faults of a picture, and the description of a plain one.  Loads no image library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class PictureFault(Exception):
    """The upload can't be used; str() is a sentence for its sender."""


class NotAPicture(PictureFault):
    """The bytes are not a picture of a known format."""


class TooManyBytes(PictureFault):
    """The file is larger than `LIMITS__IMAGE_BYTES`."""


class TooManyPixels(PictureFault):
    """The picture would have more pixels than `LIMITS__IMAGE_PIXELS`; nothing was decoded."""


class DamagedPicture(PictureFault):
    """The header belongs to a picture, but the rest can't be decoded."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture without metadata.  width, height: pixels.  extension: of its format, without a dot."""

    width: int
    height: int
    extension: Literal["jpg", "png"]
    bytes: int
    sha256: str
