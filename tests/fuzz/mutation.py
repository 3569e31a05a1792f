"""Bytes, texts, JSON values and pictures, broken at random.  Pure: chance is passed in."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Iterator
from random import Random
from typing import Any

from PIL import Image, features

from tests.support.nasty_strings import NASTY

MOST_CHANGES = 8
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, -0.0, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400,
    [], {}, [[]], {"": ""}, [None] * 50, {"a": {"b": {"c": []}}},
)  # fmt: skip


def broken_bytes(random: Random, data: bytes) -> bytes:
    """With a few bits, numbers or pieces of it changed."""
    made = bytearray(data)
    for _ in range(random.randint(1, MOST_CHANGES)):
        at = random.randrange(len(made) + 1)
        match random.randrange(7):
            case 0 if at < len(made):
                made[at] ^= 1 << random.randrange(8)
            case 1:
                size = random.choice((1, 2, 4))
                number = random.choice(NUMBERS) & (256**size - 1)
                made[at : at + size] = number.to_bytes(size, random.choice(("big", "little")))
            case 2:
                del made[at : at + random.choice((1, 2, 16, 256))]
            case 3:
                made[at:at] = random.randbytes(random.choice((1, 2, 16, 256)))
            case 4:
                made[at:at] = made[at : at + random.choice((2, 16, 1024))] * random.choice((1, 2, 20))
            case 5 if random.random() < 0.3:
                del made[at:]
            case _:
                made[at:at] = random.choice(
                    (b"\0", b"\r\n", b"\r\n\r\n", b"\n", b"--", b"\xff\xd8", b"%00", b'"')
                )
    return bytes(made)


def broken_text(random: Random, text: str) -> str:
    """Another text instead, or the same with something nasty in it."""
    nasty = random.choice(NASTY)
    at = random.randrange(len(text) + 1)
    return random.choice(
        (nasty, nasty, text[:at] + nasty + text[at:], text[:at], text * random.choice((2, 50)))
    )


def broken_json(random: Random, value: Any) -> Any:
    """With one of its members, names or values replaced, doubled, added or left out."""
    places = list(_places(value))
    if not places or random.random() < 0.05:
        return _any_value(random)
    above, key = random.choice(places)
    match random.randrange(5):
        case 0:
            del above[key]
        case 1 if isinstance(above, dict):
            above[random.choice(NASTY)] = above.pop(key)
        case 2 if isinstance(above, dict):
            above[random.choice(NASTY)] = _any_value(random)
        case 3 if isinstance(above, list):
            above[key:key] = [above[key]] * random.choice((1, 40))
        case _:
            above[key] = (
                broken_text(random, above[key]) if isinstance(above[key], str) else _any_value(random)
            )
    return value


def _any_value(random: Random) -> Any:
    return copy.deepcopy(random.choice((random.choice(VALUES), random.choice(NASTY))))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        yield value, key
        yield from _places(member)


@functools.cache
def pictures() -> tuple[bytes, ...]:
    """Small good ones, of all the kinds that Pillow writes and a phone might send."""
    noise = Image.effect_noise((90, 60), 60)
    colour = Image.merge("RGB", (noise, noise.transpose(Image.Transpose.ROTATE_180), noise))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    kinds: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "JPEG", {"quality": 80, "exif": exif}),
        (colour, "JPEG", {"progressive": True, "dpi": (72, 72), "icc_profile": b"\0" * 128}),
        (colour.convert("CMYK"), "JPEG", {}),
        (noise, "JPEG", {"restart_marker_rows": 1}),
        (colour, "PNG", {"exif": exif}),
        (colour.convert("P"), "PNG", {"transparency": 3}),
        (noise.convert("I;16"), "PNG", {}),
        (colour.convert("1"), "PNG", {}),
        (colour, "PNG", {"save_all": True, "append_images": [colour, colour]}),
        (colour, "WEBP", {"exif": exif}),
        (colour.convert("RGBA"), "WEBP", {"lossless": True}),
        (colour, "WEBP", {"save_all": True, "append_images": [colour.rotate(90)]}),
        (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(90)]}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (colour, "BMP", {}),
        (colour, "ICO", {}),
        (colour, "PPM", {}),
    ]
    if features.check("avif"):
        kinds.append((colour, "AVIF", {}))
    return tuple(_saved(*kind) for kind in kinds)


def _saved(picture: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def broken_picture(random: Random) -> bytes:
    """A good picture now and then; else one with bytes changed, or the head of one on the body of another."""
    chosen = random.choice(pictures())
    match random.randrange(8):
        case 0:
            return chosen
        case 1:
            other = random.choice(pictures())
            return chosen[: random.randrange(len(chosen))] + other[random.randrange(len(other)) :]
        case 2:  # where the sizes stand
            return broken_bytes(random, chosen[:64]) + chosen[64:]
        case _:
            return broken_bytes(random, chosen)
