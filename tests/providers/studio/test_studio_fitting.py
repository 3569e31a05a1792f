"""Fitting with the real models: the garment lands on the torso, the face stays as it was."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actors.providers.studio.fitting.fitting import fit
from actors.providers.studio.fitting.garment import find_garment
from actors.providers.studio.orders.faults import ImageUnusable, NoPersonFound
from actors.providers.studio.orders.order import read_order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.planes import to_array
from actors.providers.studio.vision.pose import LEFT_SHOULDER, NOSE, RIGHT_SHOULDER

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"
SIZE = 400


def make(
    out: Path,
    person: Path = SAMPLES / "portrait.png",
    garment: Path = SAMPLES / "garment.png",
    **changes: Any,
) -> dict[int, Path]:
    request = {
        "task": "fitting",
        "person": str(person),
        "garment": str(garment),
        "seed": 3,
        "size": SIZE,
        "out": str(out),
    }
    return {made.n: made.path for made in fit(read_order(request | changes), lambda percent, stage: None)}


def pixels(path: Path) -> np.ndarray:
    return to_array(Image.open(path).convert("RGB").resize((128, 128)))


def test_the_pose_has_the_head_above_level_shoulders() -> None:
    pose = find_people(on_white(read_picture(SAMPLES / "portrait.png", size=512, which="first")))[0].pose
    assert 200 < pose[NOSE][0] < 250 and 100 < pose[NOSE][1] < 160
    assert pose[LEFT_SHOULDER][0] > pose[RIGHT_SHOULDER][0], "her left is on our right"
    assert abs(pose[LEFT_SHOULDER][1] - pose[RIGHT_SHOULDER][1]) < 60


def test_the_torso_changes_and_the_face_does_not(tmp_path: Path) -> None:
    before, after = pixels(SAMPLES / "portrait.png"), pixels(make(tmp_path)[0])
    torso, face = (slice(75, 120), slice(30, 60)), (slice(24, 44), slice(46, 66))
    assert np.abs(before[torso] - after[torso]).mean() > 0.2
    assert np.abs(before[face] - after[face]).mean() < 0.02


def test_the_garment_shows_its_own_colours(tmp_path: Path) -> None:
    torso = pixels(make(tmp_path)[0])[60:120, 25:75]
    red, green, blue = np.moveaxis(torso, -1, 0)
    assert ((blue > red + 0.1) & (blue > green)).mean() > 0.25, "its stripes are blue"
    assert ((red > 0.4) & (green < 0.4) & (blue < 0.4)).mean() > 0.03, "its disc is red"


def test_count_pictures_differ_and_repeat(tmp_path: Path) -> None:
    made, again = make(tmp_path / "a", count=4), make(tmp_path / "b", count=4, pictures=[1, 3])
    for a, b in combinations([pixels(path) for path in made.values()], 2):
        assert np.abs(a - b).mean() > 0.015
    assert list(again) == [1, 3]
    assert all(again[n].read_bytes() == made[n].read_bytes() for n in again)


def test_no_body_is_no_person_found(tmp_path: Path) -> None:
    with pytest.raises(NoPersonFound, match="shoulders"):
        make(tmp_path, person=SAMPLES / "garment.png")


@pytest.mark.parametrize("kind", ["blank", "noise"])
def test_a_picture_without_a_garment_is_unusable(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)
    picture = Image.new("RGB", (300, 300), "white") if kind == "blank" else Image.fromarray(noise)
    picture.save(tmp_path / "garment.png")
    with pytest.raises(ImageUnusable, match="No garment"):
        make(tmp_path / "out", garment=tmp_path / "garment.png")


def test_a_see_through_garment_brings_its_own_outline() -> None:
    cut = find_garment(Image.open(SAMPLES / "garment.png").convert("RGB")).picture
    clear = Image.new("RGBA", cut.size)
    clear.paste(cut, mask=cut.getchannel("A"))
    garment = find_garment(clear)
    solid = np.asarray(garment.picture.getchannel("A")) > 127
    assert not solid[:60].any() and solid[400:800, 300:500].all()


def test_the_garment_is_told_into_body_and_short_sleeves() -> None:
    garment = find_garment(Image.open(SAMPLES / "garment.png").convert("RGB"))
    assert not garment.long_sleeves
    assert garment.points["left cuff"] == pytest.approx((40, 330), abs=6)
    assert garment.points["right underarm"] == pytest.approx((660, 410), abs=6)
    body, sleeve = (np.asarray(garment.picture_of(piece).getchannel("A")) > 127 for piece in ("body", "left"))
    assert body[600, 400] and not body[330, 80]
    assert sleeve[330, 80] and not sleeve[600, 400]
