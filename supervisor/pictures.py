"""An uploaded picture made safe and plain: decoded, turned upright, in sRGB, without metadata, encoded anew.

Whatever a file carried beside its pixels (place, camera, thumbnails, a second file glued to its end) is gone, since
only pixels are written.  Sizes are judged before work is done: the pixels that the header promises, and only then
is anything decoded.  Everything here blocks and eats memory (about 10 bytes a pixel); run it
in a thread, few at a time.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import BinaryIO, Literal

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

# What phones and browsers make.  Every further format is one more parser that strangers may feed.
# A phone's two pictures in one file (MPO) begin as a JPEG and open as one.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
MOST_PIXELS_A_SIDE = 65_000  # JPEG can't hold more than 65,535

_JPEG_QUALITY = 92
_PIECE_BYTES = 262_144


class PictureFault(Exception):
    """The upload can't be used; str() is a sentence for whoever sent it."""


class NotAPicture(PictureFault):
    """The bytes are no picture of a known format."""


class TooManyBytes(PictureFault):
    """The file is larger than `LIMITS__IMAGE_BYTES`."""


class TooManyPixels(PictureFault):
    """The picture would have more pixels than `LIMITS__IMAGE_PIXELS`; nothing was decoded."""


class DamagedPicture(PictureFault):
    """The header is a picture's, but what follows can't be decoded."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright picture without metadata.  width, height: pixels.  extension: of its format, without a dot."""

    width: int
    height: int
    extension: Literal["jpg", "png"]
    bytes: int
    sha256: str


def normalise_picture(source: BinaryIO, target: BinaryIO, *, most_pixels: int = 0) -> Picture:
    """Write the picture of the source, made plain, into the target.  A limit of 0 does not bind.

    JPEG without transparency, PNG with it (a garment may be cut out already).  Of an animation, its first frame.
    Both are seekable files; the target is empty.  Raises a PictureFault.
    """
    try:
        with Image.open(source, formats=FORMATS) as opened:
            _check_size(opened.size, most_pixels)
            opened.load()
            plain = _plain(ImageOps.exif_transpose(opened))
    except PictureFault:
        raise
    except UnidentifiedImageError:
        raise NotAPicture("The bytes are not a picture in JPEG, PNG, WebP, AVIF, GIF or BMP.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels("The picture has far more pixels than are accepted.") from None
    except MemoryError:
        raise TooManyPixels("The picture is too large to be decoded here.") from None
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, ValueError, struct.error, …
        raise DamagedPicture("The picture is damaged: it can't be decoded to its end.") from error
    return _encode(plain, target)


def _check_size(size: tuple[int, int], most_pixels: int) -> None:
    width, height = size
    if most_pixels and width * height > most_pixels:
        raise TooManyPixels(
            f"The picture has {width} × {height} pixels; at most {most_pixels:,} are accepted."
        )
    if max(width, height) > MOST_PIXELS_A_SIDE:
        raise TooManyPixels(
            f"A side of the picture has {max(size):,} pixels; at most {MOST_PIXELS_A_SIDE:,} are accepted."
        )


def _plain(image: Image.Image) -> Image.Image:
    """RGB in sRGB, or RGBA where something is transparent; no info, no profile."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a sample: keep the upper eight
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    transparent = image.has_transparency_data
    profile = image.info.get("icc_profile")
    if image.mode in ("P", "PA", "LA", "La", "RGBa", "1"):
        image = image.convert("RGBA" if transparent else "RGB")
    if profile and image.mode in ("RGB", "RGBA", "L", "CMYK"):
        image = _in_srgb(image, profile)
    image = image.convert("RGBA" if transparent else "RGB")
    if transparent and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    return image


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The same colours under the profile that everybody assumes; a broken profile is ignored."""
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    colours = image.convert("RGB") if alpha is not None else image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(
            colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    assert converted is not None  # only an in-place conversion gives None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _encode(image: Image.Image, target: BinaryIO) -> Picture:
    image.info = {}
    extension: Literal["jpg", "png"] = "png" if image.mode == "RGBA" else "jpg"
    if extension == "png":
        image.save(target, "PNG", compress_level=3)
    else:
        image.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    target.seek(0)
    digest = hashlib.sha256()
    while piece := target.read(_PIECE_BYTES):
        digest.update(piece)
    return Picture(image.width, image.height, extension, target.tell(), digest.hexdigest())
