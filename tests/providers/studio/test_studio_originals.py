"""The photos that are accepted: upright, whole, bounded; and the parameters of an order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from actors.providers.studio.orders import originals
from actors.providers.studio.orders.faults import BadOrder, ImageUnusable
from actors.providers.studio.orders.order import read_order
from actors.providers.studio.orders.originals import read_picture

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"
ORIENTATION = 0x0112  # Exif


def order(**changes: Any) -> dict[str, Any]:
    return {"task": "photography", "person": "/p.jpg", "out": "/out"} | changes


def test_a_picture_turned_by_exif_comes_upright(tmp_path: Path) -> None:
    turned = Image.new("RGB", (200, 100), "white")
    turned.paste((200, 0, 0), (0, 0, 30, 100))  # red at the stored left, which is the top when shown
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # show it turned by 90° clockwise
    turned.save(tmp_path / "turned.jpg", exif=exif)
    upright = read_picture(tmp_path / "turned.jpg", size=200, which="first")
    assert upright.size == (100, 200)
    pixel = upright.getpixel((50, 10))
    assert isinstance(pixel, tuple) and pixel[0] > 150 and pixel[1] < 60


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "missing"])
def test_a_broken_or_missing_picture_is_unusable(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "person.jpg"
    Image.open(SAMPLES / "portrait.png").convert("RGB").save(path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(ImageUnusable, match="can't be read"):
        read_picture(path, size=300, which="first")


@pytest.mark.parametrize("size, reason", [((40, 40), "too small"), ((2000, 100), "too narrow")])
def test_odd_sizes_are_refused_with_the_reason(tmp_path: Path, size: tuple[int, int], reason: str) -> None:
    Image.new("RGB", size).save(tmp_path / "odd.png")
    with pytest.raises(ImageUnusable, match=reason):
        read_picture(tmp_path / "odd.png", size=300, which="second")


def test_too_many_pixels_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(originals, "MAX_PIXELS", 10_000)
    Image.new("RGB", (200, 100)).save(tmp_path / "big.png")
    with pytest.raises(ImageUnusable, match="more than 10,000 pixels"):
        read_picture(tmp_path / "big.png", size=300, which="first")


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK", "I;16"])
def test_every_usual_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.jpg" if mode == "CMYK" else "picture.png")
    Image.new(mode, (100, 100)).save(path)
    assert read_picture(path, size=128, which="first").mode in ("RGB", "RGBA")


def test_an_order_has_defaults() -> None:
    read = read_order(order(count=3))
    assert (read.scene, read.pictures, read.size, read.seed) == ("studio", (0, 1, 2), 1024, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": "sculpture"}, {"scene": "moon"}, {"count": 0}, {"count": 9}, {"count": True}, {"person": ""},
        {"out": None}, {"pictures": []}, {"pictures": [1]}, {"pictures": "0"}, {"seed": 1.5}, {"task": "fitting"},
        {"wearer": 0}, {"wearer": "me"},
    ],
)  # fmt: skip
def test_a_wrong_order_is_refused_with_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOrder, match=r"\.$"):
        read_order(order(**wrong))
