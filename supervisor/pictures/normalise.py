"""An uploaded picture made safe and plain: decoded, turned upright, in sRGB, without metadata, encoded anew.

Everything in a file besides its pixels (place, camera, thumbnails, a second file appended to it) is dropped, since only
pixels are written.  The number of pixels in the header is checked before anything is decoded.  Everything here blocks,
needs much memory (4 to 17 bytes a pixel) and runs many parsers on users' files: it belongs in an image child
(`supervisor.pictures.child_program`), never in a process that holds secrets.

Formats differ in how a picture is turned upright.  JPEG, PNG and WebP have the rotation in their EXIF, and
`exif_transpose` applies it; for AVIF, Pillow returns its properties (irot, imir) in the same way.  libheif turns HEIC
while it decodes; an iPhone's EXIF repeats the rotation, and pillow-heif removes it there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import io
from collections.abc import Callable
from typing import BinaryIO, Literal

from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from supervisor.pictures import webp
from supervisor.pictures.jpeg import decoded_without_end
from supervisor.pictures.media_types import HEAD_BYTES, picture_type
from supervisor.pictures.picture_errors import (
    DamagedPicture,
    NotAPicture,
    Picture,
    PictureFault,
    TooManyPixels,
)
from supervisor.pictures.png import MOST_METADATA_BYTES, Placed, as_shown, mend_transparent_grey
from supervisor.pictures.webp import webp_size

# The formats of phones and browsers.  Every further format is one more parser on users' files.  A phone's two pictures
# in one file (MPO) begin as a JPEG and open as one.  A `mif1` file may be AVIF or HEIF: tried in this order, each
# decoder refuses the other's files.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "HEIF")
MOST_PIXELS_A_SIDE = 65_000  # JPEG can't hold more than 65,535

_PLUGINS = {"WEBP": "WebP"}
_JPEG_QUALITY = 92


@functools.cache
def know_formats() -> tuple[str, ...]:
    """Load the decoders, before or with the first picture; the formats that can be decoded here.

    One thread each: a thread's stack counts as memory, and a host with many cores would have no room for a picture.
    """
    from PIL import AvifImagePlugin, PngImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    PngImagePlugin.MAX_TEXT_CHUNK = MOST_METADATA_BYTES  # `as_shown` has left out anything larger
    known = [format_ for format_ in FORMATS if format_ != "HEIF"]
    for format_ in known:
        importlib.import_module(f"PIL.{_PLUGINS.get(format_, format_.capitalize())}ImagePlugin")
    with contextlib.suppress(ImportError):  # the extra `heic`
        import pillow_heif

        pillow_heif.register_heif_opener(
            decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
        )
        known.append("HEIF")
    return tuple(known)


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
    plain = plain_picture(source, most_pixels=most_pixels, before_decoding=before_decoding)
    return encode_plain(plain, target)


def plain_picture(
    source: BinaryIO, *, most_pixels: int = 0, before_decoding: Callable[[int], None] | None = None
) -> Image.Image:
    """The picture of the source, made plain: RGB, or RGBA where something is transparent.  Raises a PictureFault."""
    formats = know_formats()
    decodes = _Bounds(most_pixels, before_decoding)
    try:
        decodes.before_opening(source)
        shown = as_shown(source)
        with Image.open(shown.file, formats=formats) as opened:
            decodes.this_size(shown.size or opened.size)
            mend_transparent_grey(opened)
            image = _decoded(opened, source)
            _check_size(image.size, most_pixels)  # for HEIC it is known only now
            _turn_upright(image)
            return _in_its_place(_plain(image), shown)
    except PictureFault:
        raise
    except UnidentifiedImageError:
        raise _not_a_picture(source, formats) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels("The picture has far more pixels than are accepted.") from None
    except MemoryError:
        raise TooManyPixels("The picture is too large to be decoded here.") from None
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, ValueError, struct.error, …
        raise DamagedPicture("The picture is damaged: it can't be decoded to its end.") from error


class _Bounds:
    """Refuses a picture that is too large, and reports once the size of a picture that is about to be decoded."""

    def __init__(self, most_pixels: int, tell: Callable[[int], None] | None) -> None:
        self._most_pixels, self._tell = most_pixels, tell

    def before_opening(self, source: BinaryIO) -> None:
        """A WebP file costs memory as soon as it is opened."""
        source.seek(0)
        size = webp_size(source.read(webp.HEAD_BYTES))
        source.seek(0)
        if size is not None:
            self.this_size(size)

    def this_size(self, size: tuple[int, int]) -> None:
        """Raises TooManyPixels, and the exceptions of the callback."""
        _check_size(size, self._most_pixels)
        if self._tell is not None:
            tell, self._tell = self._tell, None
            tell(size[0] * size[1])


def _not_a_picture(source: BinaryIO, formats: tuple[str, ...]) -> PictureFault:
    """The fault for bytes that no decoder here can open."""
    source.seek(0)
    type_ = picture_type(source.read(HEAD_BYTES))
    if type_ in ("image/heic", "image/heif"):
        if "HEIF" not in formats:
            return NotAPicture("HEIC pictures can't be read here: Darkroom's extra 'heic' is not installed.")
        return DamagedPicture("The picture is damaged, or a kind of HEIF that is not known here.")
    return NotAPicture("The bytes are not a picture in JPEG, PNG, WebP, AVIF, HEIC, GIF or BMP.")


def _decoded(opened: ImageFile.ImageFile, source: BinaryIO) -> Image.Image:
    """The first picture, in memory."""
    try:
        opened.load()
        return opened
    except OSError:
        if opened.format not in ("JPEG", "MPO"):
            raise
        opened.fp = None  # the caller's
        opened.close()  # frees its memory
        image = decoded_without_end(source)
        if image is None:
            raise
        return image


def _turn_upright(image: Image.Image) -> None:
    """Turned as its metadata says; unreadable metadata is ignored."""
    try:
        image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001  Pillow raises SyntaxError, struct.error, …
        return
    # otherwise Pillow writes the tags anew, and fails at unusual ones
    for name in ("exif", "Raw profile type exif"):
        image.info.pop(name, None)
    ImageOps.exif_transpose(image, in_place=True)  # a copy only if the picture must be turned


def _in_its_place(image: Image.Image, shown: Placed) -> Image.Image:
    """A frame that is smaller than its animation, on a transparent canvas of full size."""
    if shown.size is None or image.size == shown.size:
        return image
    whole = Image.new("RGBA", shown.size)
    whole.paste(image, shown.offset)
    return whole


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
    if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        image = image.convert("RGB")  # many programs leave the fourth byte empty; viewers ignore it then
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
    """The same colours in sRGB, the profile that viewers assume; a broken profile is ignored."""
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


def encode_plain(image: Image.Image, target: BinaryIO) -> Picture:
    """Write a plain picture into the empty target.  Raises the OSError of a full disk."""
    image.info = {}
    extension: Literal["jpg", "png"] = "png" if image.mode == "RGBA" else "jpg"
    # In memory first: Pillow writes to a file by its descriptor, and does not notice when a disk takes only half of it.
    encoded = io.BytesIO()
    if extension == "png":
        image.save(encoded, "PNG", compress_level=3)
    else:
        image.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    with encoded.getbuffer() as data:
        target.write(data)
        target.flush()
        return Picture(image.width, image.height, extension, len(data), hashlib.sha256(data).hexdigest())
