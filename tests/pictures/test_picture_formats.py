"""Every undamaged picture is accepted, in any format that phones, browsers and programs write: first frame, upright.

The pictures have a red corner, which shows a wrong turn or a wrong frame.
"""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from supervisor.pictures import png
from supervisor.pictures.media_types import HEAD_BYTES, picture_type
from supervisor.pictures.normalise import DamagedPicture, NotAPicture, know_formats
from supervisor.pictures.webp import webp_size
from tests.support.pictures import Made, normalised
from tests.support.repository import ROOT

ORIENTATION = 0x0112
know_formats()


def drawn(size: tuple[int, int] = (96, 64), rest: str = "blue") -> Image.Image:
    """Noise over one colour, with a red corner at the top left."""
    noise = Image.effect_noise(size, 20).convert("RGB")
    image = Image.blend(Image.new("RGB", size, rest), noise, 0.2)
    image.paste((255, 0, 0), (0, 0, size[0] // 3, size[1] // 3))
    return image


def encoded(image: Image.Image, format_: str, **more: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **more)
    return out.getvalue()


def is_drawn(made: Made, size: tuple[int, int] = (96, 64), rest: int = 2) -> bool:
    """Whether it is the drawn picture, upright.  rest: the channel of the rest's colour."""
    image = Image.open(io.BytesIO(made.data)).convert("RGB")
    corner, other = image.getpixel((5, 5)), image.getpixel((size[0] - 5, size[1] - 5))
    assert isinstance(corner, tuple) and isinstance(other, tuple)
    is_red = corner[0] > 180 and max(corner[1:]) < 80
    return image.size == (made.width, made.height) == size and is_red and np.argmax(other) == rest


# ── HEIC and AVIF ──


@pytest.mark.parametrize("format_", ["HEIF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_and_avif_are_turned_upright_once(format_: str, orientation: int) -> None:
    """Both files say it twice, in the format's own properties and in EXIF, as those of phones do."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    upright = drawn()
    held = upright if undo is None else upright.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(held, format_, exif=exif.tobytes())
    assert data.count(b"irot") + data.count(b"imir") >= (orientation != 1)
    assert is_drawn(normalised(data))


def test_an_orientation_that_only_the_exif_of_a_heic_names_is_ignored_as_its_standard_says() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    data = bytearray(encoded(drawn(), "HEIF", exif=exif.tobytes()))
    order = ">" if exif.tobytes()[6:8] == b"MM" else "<"
    place = data.index(struct.pack(order + "HHI", ORIENTATION, 3, 1)) + 8
    data[place : place + 2] = struct.pack(order + "H", 6)
    assert b"irot" not in data and is_drawn(normalised(bytes(data)))


def test_a_heic_of_ten_bits_of_tiles_or_with_its_main_picture_second_is_taken() -> None:
    deep = io.BytesIO()
    samples = np.asarray(drawn()).astype(np.uint16) * 257
    pillow_heif.from_bytes(mode="RGB;16", size=(96, 64), data=samples.tobytes()).save(deep, quality=90)
    assert is_drawn(normalised(deep.getvalue()))
    second = io.BytesIO()
    both = pillow_heif.from_pillow(drawn(rest="green"))
    both.add_from_pillow(drawn())
    both.save(second, primary_index=1)
    assert is_drawn(normalised(second.getvalue()))
    tiles = drawn((300, 200))
    pillow_heif.options.GRID_TILE_SIZE = 128
    try:
        assert is_drawn(normalised(encoded(tiles, "HEIF")), (300, 200))
    finally:
        pillow_heif.options.GRID_TILE_SIZE = 0


@pytest.mark.parametrize("format_", ["HEIF", "AVIF"])
def test_transparency_and_foreign_colours_of_heic_and_avif_are_kept(format_: str) -> None:
    clear = drawn().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    made = normalised(encoded(clear, format_))
    image = Image.open(io.BytesIO(made.data))
    assert made.extension == "png" and image.mode == "RGBA"
    assert [round(image.getpixel((50, y))[3], -2) for y in (2, 61)] == [0, 200]  # type: ignore[index]
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert is_drawn(normalised(encoded(drawn(), format_, icc_profile=lab)))


def test_a_heic_is_known_by_its_brands_and_a_film_is_not_taken_for_one() -> None:
    assert picture_type(encoded(drawn(), "HEIF")[:HEAD_BYTES]) == "image/heic"
    assert picture_type(encoded(drawn(), "AVIF")[:HEAD_BYTES]) == "image/avif"
    assert picture_type(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "image/heic"
    assert picture_type(b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafavif") == "image/avif"
    assert picture_type(b"\0\0\0\x14ftypmif1\0\0\0\0mif1") == "image/heif"
    assert picture_type(b"\0\0\0\x18ftypisom\0\0\0\0isommp42") is None
    assert picture_type(b"\0\0\0\x14ftypisom\0\0\0\0mp42heic") is None  # after the box's end


def test_half_of_a_heic_is_damaged_and_rubbish_with_its_name_too() -> None:
    data = encoded(drawn((300, 200)), "HEIF")
    for broken in (data[: len(data) // 2], data[:HEAD_BYTES], data[:32] + bytes(2000)):
        with pytest.raises(DamagedPicture):
            normalised(broken)


def test_without_the_extra_a_heic_is_refused_with_its_name() -> None:
    program = (
        "import io, sys; sys.modules['pillow_heif'] = None\n"
        "from supervisor.pictures.normalise import normalise_picture\n"
        "try: normalise_picture(io.BytesIO(sys.stdin.buffer.read()), io.BytesIO())\n"
        "except Exception as fault: print(type(fault).__name__, fault)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=encoded(drawn(), "HEIF"),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
    )
    assert ran.stdout.startswith(b"NotAPicture") and b"'heic'" in ran.stdout, ran.stderr


# ── metadata that can't be read, or not be written anew ──


def _exif_of(*tags: tuple[int, int, bytes]) -> bytes:
    """tags: (number, type, four bytes of value), of one value each, but for texts of four letters."""
    entries = b"".join(
        struct.pack("<HHI", number, type_, 4 if type_ == 2 else 1) + value for number, type_, value in tags
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


_TURNED = (ORIENTATION, 3, b"\3\0\0\0")
_UNUSUAL = {
    "a text for a resolution": (0x011A, 2, b"72 \0"),
    "a text for a unit": (0x0128, 2, b"inc\0"),
    "a negative number": (0x0103, 9, b"\xff\xff\xff\xff"),
    "bytes for a width": (0x0100, 7, b"\1\0\0\0"),
}


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tag", _UNUSUAL)
def test_a_photo_with_an_unusual_tag_is_turned_upright_and_no_damage(format_: str, tag: str) -> None:
    exif = _exif_of(_UNUSUAL[tag], _TURNED)
    turned = drawn().transpose(Image.Transpose.ROTATE_180)
    assert is_drawn(normalised(encoded(turned, format_, exif=_head_of(format_) + exif)))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"junk", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff"])
def test_exif_that_can_not_be_read_is_no_damage_to_a_picture(format_: str, exif: bytes) -> None:
    assert is_drawn(normalised(encoded(drawn(), format_, exif=_head_of(format_) + exif)))


def _head_of(format_: str) -> bytes:
    return b"" if format_ == "WEBP" else b"Exif\0\0"


# ── animations ──


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "AVIF", "PNG"])
def test_an_animation_is_its_first_frame(format_: str) -> None:
    frames = [drawn(rest="green"), drawn(rest="green")]
    data = encoded(drawn(), format_, save_all=True, append_images=frames, duration=100)
    assert is_drawn(normalised(data))


def test_the_hidden_picture_of_an_animated_png_is_not_its_first_frame() -> None:
    data = encoded(
        drawn(rest="green"), "PNG", save_all=True, default_image=True,
        append_images=[drawn(), drawn(rest="green")], duration=100,
    )  # fmt: skip
    assert is_drawn(normalised(data))


def test_a_first_frame_that_is_smaller_lies_in_its_place_and_not_on_the_hidden_picture() -> None:
    small = encoded(Image.new("RGB", (20, 10), "red"), "PNG")
    pixels = b"".join(body for kind, body in chunks_of(small) if kind == b"IDAT")
    control = struct.pack(">IIIIIHHBB", 0, 20, 10, 30, 40, 1, 10, 0, 1)
    animation = [(b"fcTL", control), (b"fdAT", struct.pack(">I", 1) + pixels)]
    hidden = chunks_of(encoded(Image.new("RGB", (96, 64), "green"), "PNG"))
    data = png_of([hidden[0], (b"acTL", struct.pack(">II", 1, 0)), *hidden[1:-1], *animation, hidden[-1]])
    made = normalised(data)
    image = Image.open(io.BytesIO(made.data))
    assert (made.width, made.height, image.mode) == (96, 64, "RGBA")
    assert image.getpixel((35, 45)) == (255, 0, 0, 255)
    assert [image.getpixel(at)[3] for at in ((5, 5), (29, 45), (50, 45), (35, 50))] == [0] * 4  # type: ignore[index]


def test_an_animation_that_is_none_shows_the_picture_of_its_file() -> None:
    whole = chunks_of(encoded(drawn(), "PNG"))
    larger = struct.pack(">IIIIIHHBB", 0, 60_000, 60_000, 0, 0, 1, 10, 0, 0)
    for rest in (
        [],
        [(b"fcTL", bytes(26))],
        [(b"fcTL", bytes(3)), (b"fdAT", bytes(9))],
        [(b"fcTL", larger), (b"fdAT", bytes(9))],
    ):
        data = png_of([whole[0], (b"acTL", struct.pack(">II", 2, 0)), *whole[1:-1], *rest, whole[-1]])
        assert is_drawn(normalised(data))


# ── PNG with much beside its pixels ──


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of each."""
    found, at = [], 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    def written(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    return png.SIGNATURE + b"".join(written(*chunk) for chunk in chunks)


def _profile(more: int) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(more)


METADATA: dict[str, Callable[[], list[tuple[bytes, bytes]]]] = {
    "zTXt": lambda: [(b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 1_000_000))],
    "iTXt": lambda: [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"<x/>" * 600_000))],
    "iCCP": lambda: [(b"iCCP", b"p\0\0" + zlib.compress(_profile(2_000_000)))],
    "a bomb": lambda: [(b"zTXt", b"k\0\0" + zlib.compress(bytes(60_000_000)))],
    "many": lambda: [(b"zTXt", b"k%d\0\0" % n + zlib.compress(b"x" * 900_000)) for n in range(80)],
    "a large profile": lambda: [(b"iCCP", b"p\0\0" + zlib.compress(_profile(20_000_000)))],
    "long texts": lambda: [(b"tEXt", b"k%d\0" % n + b"x" * 7_000_000) for n in range(3)],
}


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_of_any_size_is_no_damage_to_a_png(metadata: str) -> None:
    whole, more = chunks_of(encoded(drawn(), "PNG")), METADATA[metadata]()
    assert is_drawn(normalised(png_of([whole[0], *more, *whole[1:]])))
    if more[0][0] != b"iCCP":  # which stands before the pixels
        assert is_drawn(normalised(png_of([*whole[:-1], *more, whole[-1]])))


def test_the_orientation_that_stands_before_a_long_text_is_obeyed() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    whole = chunks_of(encoded(drawn().transpose(Image.Transpose.ROTATE_180), "PNG", exif=exif))
    assert b"eXIf" in [kind for kind, _ in whole]
    assert is_drawn(normalised(png_of([*whole[:-1], *METADATA["a bomb"](), whole[-1]])))


def test_a_png_with_nothing_in_its_way_is_read_as_it_is() -> None:
    source = io.BytesIO(encoded(drawn(), "PNG"))
    assert png.as_shown(source).file is source
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\0\0\0", b"GIF89a"):
        with pytest.raises((NotAPicture, DamagedPicture)):
            normalised(start)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_transparent_whatever_its_depth(bits: int) -> None:
    most = 2**bits - 1
    row = (most << bits * 7).to_bytes(bits, "big")  # a white pixel, and seven black ones
    head = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + row)
    data = png_of([(b"IHDR", head), (b"tRNS", most.to_bytes(2, "big")), (b"IDAT", pixels), (b"IEND", b"")])
    plain = Image.open(io.BytesIO(normalised(data).data))
    assert [plain.getpixel((0, 0)), plain.getpixel((1, 0))] == [(255, 255, 255, 0), (0, 0, 0, 255)]


# ── JPEG without its end ──


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"optimize": True}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_last_bytes_is_whole_and_one_cut_in_its_middle_is_not(
    mode: str, more: dict[str, Any]
) -> None:
    photo = Image.effect_noise((200, 120), 90).convert(mode)
    data = encoded(photo, "JPEG", quality=90, **more)
    expected = normalised(data)
    for missing in (1, 2):
        assert normalised(data[:-missing]).data == expected.data
    for share in (0.3, 0.5, 0.9, 0.99):
        with pytest.raises(DamagedPicture):
            normalised(data[: int(len(data) * share)])


def test_a_jpeg_without_its_end_is_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(drawn().transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)
    assert is_drawn(normalised(data[:-2]))


# ── BMP ──


def _rows(image: Image.Image, mode: str, upside_down: bool = True) -> bytes:
    height = image.height
    order = reversed(range(height)) if upside_down else range(height)
    rows = (image.crop((0, y, image.width, y + 1)).tobytes("raw", mode) for y in order)
    return b"".join(row.ljust((len(row) + 3) // 4 * 4, b"\0") for row in rows)


def _bmp(bits: int, pixels: bytes, *, compression: int = 0, head: int = 40, masks: bytes = b"", palette: bytes = b"",
         height: int = 64) -> bytes:  # fmt: skip
    """head: bytes of the information header; 12 is OS/2's."""
    if head == 12:
        info = struct.pack("<IHHHH", 12, 96, height, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", head, 96, height, 1, bits, compression, len(pixels), 0, 0, len(palette) // 4, 0
        )
        info = (info + masks).ljust(head, b"\0")
    at = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + info + palette + pixels


def _sixteen_bits(red: int, green: int, blue: int, green_bits: int) -> bytes:
    samples = np.asarray(drawn()).astype(np.uint16)
    packed = (
        (samples[..., 0] >> 3) << red
        | (samples[..., 1] >> (8 - green_bits)) << green
        | (samples[..., 2] >> 3) << blue
    )
    return packed.astype("<u2")[::-1].tobytes()


def _run_lengths(bits: int) -> bytes:
    """The drawn picture in sixteen colours, in runs of one length."""
    indexed = drawn().quantize(16)
    table = indexed.getpalette() or []
    palette = b"".join(bytes((*table[n : n + 3][::-1], 0)) for n in range(0, 48, 3))
    out = bytearray()
    for row in np.asarray(indexed)[::-1]:
        for value in row:
            out += bytes((1, value if bits == 8 else value << 4))
        out += b"\0\0"
    return _bmp(bits, bytes(out) + b"\0\1", compression=1 if bits == 8 else 2, palette=palette)


def _without_alpha() -> Image.Image:
    image = drawn().convert("RGBA")
    image.putalpha(0)
    return image


RGBA_MASKS = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
BMPS: dict[str, Callable[[], bytes]] = {
    "24 bits": lambda: encoded(drawn(), "BMP"),
    "8 bits": lambda: encoded(drawn().quantize(64), "BMP"),
    "32 bits": lambda: _bmp(32, _rows(drawn(), "BGRX")),
    "32 bits of an image with alpha": lambda: encoded(drawn().convert("RGBA"), "BMP"),
    "from the top down": lambda: _bmp(24, _rows(drawn(), "BGR", upside_down=False), height=-64),
    "OS/2": lambda: _bmp(24, _rows(drawn(), "BGR"), head=12),
    "OS/2, version 2": lambda: _bmp(24, _rows(drawn(), "BGR"), head=64),
    "16 bits": lambda: _bmp(16, _sixteen_bits(10, 5, 0, 5)),
    "16 bits, 565": lambda: _bmp(
        16, _sixteen_bits(11, 5, 0, 6), compression=3, head=52, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    ),
    "version 4 with alpha": lambda: _bmp(
        32, _rows(drawn().convert("RGBA"), "BGRA"), compression=3, head=108, masks=RGBA_MASKS
    ),
    "version 5 with an empty alpha channel": lambda: _bmp(
        32, _rows(_without_alpha(), "BGRA"), compression=3, head=124, masks=RGBA_MASKS
    ),
    "run lengths of 8 bits": lambda: _run_lengths(8),
    "run lengths of 4 bits": lambda: _run_lengths(4),
}  # fmt: skip


@pytest.mark.parametrize("kind", BMPS)
def test_every_kind_of_bmp_is_taken(kind: str) -> None:
    made = normalised(BMPS[kind]())
    assert made.extension == "jpg" and is_drawn(made)


# ── WebP ──


@pytest.mark.parametrize("more", [{}, {"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}])
def test_the_size_of_a_webp_is_known_before_it_is_opened(more: dict[str, Any]) -> None:
    data = encoded(drawn((97, 65)), "WEBP", **more)
    assert webp_size(data) == (97, 65)
    assert webp_size(data[:29]) is None and webp_size(encoded(drawn(), "PNG")) is None
