"""Reading the user's pictures: upright, in sRGB-like RGB or RGBA, bounded in pixels.  Pillow only."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageOps

from actors.providers.studio.orders.faults import ImageUnusable

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")  # a phone's MPO is read as JPEG
# The default of LIMITS__IMAGE_PIXELS; decoding is what costs memory, so the header decides.
MAX_PIXELS = 40_000_000
MIN_SIDE = 64
MAX_ASPECT = 8


def read_picture(path: Path, *, size: int | None, which: str, grow: bool = True) -> Image.Image:
    """The picture at `path`, upright, RGB (or RGBA if it is see-through), its long side `size` pixels.
    size: None keeps its own.  which: what to call it in a sentence for the user, such as "first".  grow: whether a
    smaller picture is made as large as that.
    Raises ImageUnusable if it is not a picture, is cut off, too small or too large."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            _check_bounds(file.size, which)
            if size is not None:
                file.draft("RGB", (size, size))  # a JPEG is decoded at a half or quarter where that suffices
            picture = _plain(ImageOps.exif_transpose(file))
    except ImageUnusable:
        raise
    except Exception as error:  # decoders raise nearly anything: OSError, SyntaxError, struct.error …
        message = f"The {which} picture can't be read; send a whole JPEG, PNG or WebP file."
        raise ImageUnusable(message) from error
    if size is None or (not grow and max(picture.size) <= size):
        return picture
    scale = size / max(picture.size)
    fitted = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(fitted, Image.Resampling.LANCZOS)


def _check_bounds(size: tuple[int, int], which: str) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageUnusable(f"The {which} picture has more than {MAX_PIXELS:,} pixels.")
    if max(size) > MAX_ASPECT * min(size):
        raise ImageUnusable(
            f"The {which} picture is too narrow; one side is over {MAX_ASPECT} times the other."
        )
    if min(size) < MIN_SIDE:
        raise ImageUnusable(f"The {which} picture is too small; each side needs at least {MIN_SIDE} pixels.")


def _plain(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA where some pixel is see-through."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    clear = picture.convert("RGBA")
    return clear if min(clear.getchannel("A").tobytes()) < 255 else clear.convert("RGB")


def on_white(picture: Image.Image) -> Image.Image:
    """RGB: a see-through picture is laid on white."""
    if picture.mode != "RGBA":
        return picture
    white = Image.new("RGB", picture.size, "white")
    white.paste(picture, mask=picture.getchannel("A"))
    return white
