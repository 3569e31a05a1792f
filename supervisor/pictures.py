"""An uploaded picture made safe and plain: decoded, turned upright, in sRGB, without metadata, encoded anew.

Whatever a file carried beside its pixels (place, camera, thumbnails, a second file glued to its end) is gone, since
only pixels are written.  Sizes are judged before work is done: the pixels that the header promises, and only then
is anything decoded.  Everything here blocks, eats memory (4 to 16 bytes a pixel) and runs the code of many parsers on
what strangers send: it belongs in an image child (`supervisor.image_child`), never in a process that holds secrets.
"""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Callable
from typing import BinaryIO, Literal

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from supervisor.picture_faults import DamagedPicture, NotAPicture, Picture, PictureFault, TooManyPixels

# What phones and browsers make.  Every further format is one more parser that strangers may feed.
# A phone's two pictures in one file (MPO) begin as a JPEG and open as one.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
MOST_PIXELS_A_SIDE = 65_000  # JPEG can't hold more than 65,535

_PLUGINS = {"WEBP": "WebP"}
_JPEG_QUALITY = 92


def know_formats() -> None:
    """Load what decodes each of them, before the first picture comes."""
    for format_ in FORMATS:
        importlib.import_module(f"PIL.{_PLUGINS.get(format_, format_.capitalize())}ImagePlugin")


def normalise_picture(
    source: BinaryIO,
    target: BinaryIO,
    *,
    most_pixels: int = 0,
    before_decoding: Callable[[int], None] | None = None,
) -> Picture:
    """Write the picture of the source, made plain, into the target.  A limit of 0 does not bind.

    JPEG without transparency, PNG with it (a garment may be cut out already).  Of an animation, its first frame.
    Both are seekable files; the target is empty.  before_decoding: told the number of pixels, may wait or raise.
    Raises a PictureFault, or the OSError of a target that is full.
    """
    try:
        with Image.open(source, formats=FORMATS) as opened:
            _check_size(opened.size, most_pixels)
            if before_decoding is not None:
                before_decoding(opened.width * opened.height)
            opened.load()
            ImageOps.exif_transpose(opened, in_place=True)  # a copy only of what must be turned
            plain = _plain(opened)
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
    wanted = "RGBA" if transparent else "RGB"
    image = image if image.mode == wanted else image.convert(wanted)  # the same mode would be a copy
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
    # In memory first: Pillow writes to a file by its number, and a disk that takes only half of it goes unnoticed.
    encoded = io.BytesIO()
    if extension == "png":
        image.save(encoded, "PNG", compress_level=3)
    else:
        image.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    with encoded.getbuffer() as data:
        target.write(data)
        target.flush()
        return Picture(image.width, image.height, extension, len(data), hashlib.sha256(data).hexdigest())
