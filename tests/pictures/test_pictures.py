"""An upload becomes a plain, upright picture, or is refused before it costs anything."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageCms

from supervisor.pictures.normalise import (
    DamagedPicture,
    NotAPicture,
    PictureFault,
    TooManyPixels,
)
from tests.support.houses.web_server import picture_bytes
from tests.support.pictures import _png_that_claims, normalised

_ORIENTATION, _MAKER, _GPS = 0x0112, 0x010F, 0x8825


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_pictures_of_phones_and_browsers_are_accepted(format_: str) -> None:
    picture = normalised(picture_bytes(format_, (64, 48)))
    assert (picture.width, picture.height, picture.extension) == (64, 48, "jpg")
    assert _opened(picture.data).format == "JPEG"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(orientation: int, format_: str) -> None:
    """The left third is red as the eye sees it, however the camera was held."""
    upright = Image.new("RGB", (60, 20), (0, 0, 255))
    upright.paste((255, 0, 0), (0, 0, 20, 20))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    out = io.BytesIO()
    (upright.transpose(undo) if undo is not None else upright).save(out, format_, exif=exif, quality=95)

    picture = normalised(out.getvalue())

    image = _opened(picture.data)
    assert image.size == (60, 20)
    red, blue = image.getpixel((8, 10)), image.getpixel((50, 10))
    assert isinstance(red, tuple) and isinstance(blue, tuple)
    assert red[0] > 200 > red[2] and blue[2] > 200 > blue[0]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_gone(format_: str) -> None:
    exif = Image.Exif()
    exif[_MAKER] = "SpyCam 3000"
    exif[_GPS] = {1: "N", 2: (48.0, 8.0, 0.0)}
    more: dict[str, Any] = {"comment": b"home address"} if format_ == "JPEG" else {}
    data = picture_bytes(format_, exif=exif, **more) + b"a second file glued to the end"
    assert b"SpyCam" in data
    picture = normalised(data)
    for trace in (b"SpyCam", b"home address", b"glued", b"Exif", b"ICC_PROFILE"):
        assert trace not in picture.data
    assert not _opened(picture.data).getexif()


def test_transparency_is_kept_as_png_and_only_where_there_is_any() -> None:
    assert normalised(picture_bytes("PNG", color=(1, 2, 3, 100))).extension == "png"
    assert normalised(picture_bytes("PNG", color=(1, 2, 3, 255))).extension == "jpg"


def test_every_mode_of_a_png_becomes_a_plain_picture() -> None:
    for mode in ("1", "L", "LA", "P", "I;16", "RGB", "RGBA"):
        image = Image.new("L" if mode == "I;16" else mode, (8, 8), 1 if mode == "1" else None)
        if mode == "I;16":
            image = Image.new("I;16", (8, 8), 0x8000)
        out = io.BytesIO()
        image.save(out, "PNG")
        picture = normalised(out.getvalue())
        assert _opened(picture.data).mode in ("RGB", "RGBA"), mode
        if mode == "I;16":
            assert _opened(picture.data).getpixel((4, 4)) == (128, 128, 128)


def test_cmyk_and_foreign_profiles_become_srgb() -> None:
    out = io.BytesIO()
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(out, "JPEG")
    assert _opened(normalised(out.getvalue()).data).mode == "RGB"
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    normalised(picture_bytes(icc_profile=lab_like))  # a profile that does not fit is ignored
    normalised(picture_bytes(icc_profile=b"not a profile"))


def test_a_bomb_is_refused_by_its_header() -> None:
    for width, height in [(7000, 7000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)]:
        with pytest.raises(TooManyPixels):
            normalised(_png_that_claims(width, height), most_pixels=40_000_000)
    with pytest.raises(TooManyPixels):
        normalised(_png_that_claims(65_100, 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, I am text",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe",
        b"\x00" * 64,
    ],
)
def test_a_file_that_is_no_picture_is_refused_as_such(data: bytes) -> None:
    with pytest.raises(NotAPicture):
        normalised(data)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP"])
def test_a_truncated_picture_is_damaged(format_: str) -> None:
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, format_)
    with pytest.raises(DamagedPicture):
        normalised(out.getvalue()[: len(out.getvalue()) // 2])


def test_no_rubbish_behind_a_header_gets_further_than_a_picture_fault() -> None:
    for format_ in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"):
        whole = bytearray(picture_bytes(format_, (40, 40)))
        for place in range(0, len(whole), 7):
            broken = bytes(whole[:place]) + bytes([whole[place] ^ 0xFF]) + bytes(whole[place + 1 :])
            try:
                normalised(broken, most_pixels=1_000_000)
            except PictureFault as fault:
                assert str(fault).endswith(".")
