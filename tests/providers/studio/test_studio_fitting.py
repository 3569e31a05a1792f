"""Fitting with the real models: the garment lands on the torso, the face stays as it was."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from actors.providers.studio.fitting.body import Arm, Torso, arms_of, torso_of
from actors.providers.studio.fitting.draping import Cut, body_piece, sleeve_piece
from actors.providers.studio.fitting.fitting import Sitter, fit, worn_garment
from actors.providers.studio.fitting.garment import find_garment
from actors.providers.studio.fitting.in_front import in_front_of
from actors.providers.studio.fitting.light import light_of
from actors.providers.studio.orders.faults import ImageUnusable, NoPersonFound
from actors.providers.studio.orders.order import read_order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.planes import Plane, to_array
from actors.providers.studio.vision.pose import (
    LEFT_ELBOW,
    LEFT_HIP,
    LEFT_SHOULDER,
    LEFT_WRIST,
    NOSE,
    RIGHT_ELBOW,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    RIGHT_WRIST,
    Pose,
)

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


def test_the_garment_is_split_into_body_and_short_sleeves() -> None:
    garment = find_garment(Image.open(SAMPLES / "garment.png").convert("RGB"))
    assert not garment.long_sleeves
    assert garment.points["left cuff"] == pytest.approx((40, 330), abs=6)
    assert garment.points["right underarm"] == pytest.approx((660, 410), abs=6)
    body = np.asarray(garment.body_picture().getchannel("A")) > 127
    assert body[600, 400] and not body[330, 80]
    sleeve = to_array(garment.sleeve_picture("left", (60, 40)))
    assert (sleeve[..., 2] > sleeve[..., 0] + 0.1).mean() > 0.3, "its stripes"
    assert (sleeve.min(-1) > 0.95).mean() < 0.01, "none of the paper"


def test_a_long_sleeve_that_hangs_beside_the_body_is_no_side_of_it() -> None:
    garment = find_garment(long_sleeved())
    assert garment.long_sleeves
    assert garment.points["left hem"][0] == pytest.approx(120, abs=6)
    assert garment.points["right hem"][0] == pytest.approx(280, abs=6)
    for side in ("left", "right"):
        sleeve = to_array(garment.sleeve_picture(side, (90, 30)))
        assert np.abs(sleeve - np.array([0, 0.5, 0])).max(-1).mean() < 0.1, "cloth alone"


def long_sleeved() -> Image.Image:
    """A green jersey, 400×420, with sleeves that hang down beside it."""
    drawn = Image.new("RGB", (400, 420), "white")
    pen = ImageDraw.Draw(drawn)
    pen.polygon([(150, 40), (250, 40), (280, 70), (280, 390), (120, 390), (120, 70)], fill=(0, 128, 0))
    for flip in (False, True):
        sleeve = [(150, 40), (118, 66), (30, 330), (70, 345), (125, 170)]
        pen.polygon([(400 - x, y) for x, y in sleeve] if flip else sleeve, fill=(0, 128, 0))
    return drawn


# ── bodies of our own drawing: a body of 200 × 400 pixels, seen from the front ───────────────────────────────────────


def body(right_elbow: tuple[float, float], right_wrist: tuple[float, float]) -> tuple[Pose, Plane]:
    """(pose, alpha) of a person with shoulders 80 apart; the person's right arm, seen on the left, as given."""
    points, seen = np.zeros((33, 2), np.float32), np.ones(33, np.float32)
    places = {
        NOSE: (100, 40), 7: (115, 40), 8: (85, 40), 9: (106, 52), 10: (94, 52),
        LEFT_SHOULDER: (140, 100), RIGHT_SHOULDER: (60, 100), LEFT_HIP: (125, 220), RIGHT_HIP: (75, 220),
        LEFT_ELBOW: (150, 160), LEFT_WRIST: (152, 215), 19: (152, 225), 20: right_wrist,
        RIGHT_ELBOW: right_elbow, RIGHT_WRIST: right_wrist,
    }  # fmt: skip
    for landmark, place in places.items():
        points[landmark] = place
    shape = Image.new("L", (200, 400), 0)
    pen = ImageDraw.Draw(shape)
    pen.ellipse((75, 10, 125, 75), fill=255)
    pen.polygon([(85, 70), (115, 70), (145, 85), (132, 240), (68, 240), (55, 85)], fill=255)
    for arm in ([(140, 100), (150, 160), (152, 215)], [(60, 100), right_elbow, right_wrist]):
        pen.line(arm, fill=255, width=24, joint="curve")
    return Pose(points, seen), to_array(shape)


@pytest.mark.parametrize(
    "elbow, wrist", [((48, 160), (46, 215)), ((20, 60), (25, 10)), ((15, 110), (10, 60)), ((40, 160), (110, 170))],
    ids=["hangs", "is lifted", "is bent up", "is folded"],
)  # fmt: skip
def test_a_sleeve_lies_on_its_arm_however_that_is_held(
    elbow: tuple[float, float], wrist: tuple[float, float]
) -> None:
    pose, alpha = body(elbow, wrist)
    torso = torso_of(pose, alpha)
    arm = arms_of(pose, torso, alpha)["left"]
    cloth, size = find_garment(long_sleeved()), (200, 400)
    sleeve = sleeve_piece(cloth, "left", arm, torso, Cut(), size)
    on_bones = [
        (1 - t) * a + t * b for a, b in zip(arm.joints, arm.joints[1:], strict=False) for t in (0.3, 0.6, 0.9)
    ]
    shares, sides = arm.coordinates(np.array(on_bones))
    assert list(shares) == sorted(shares) and shares[0] > 0 and shares[-1] < 1
    assert np.abs(sides).max() < 0.05
    for x, y in np.array(on_bones).round().astype(int):
        assert sleeve.cover[y, x] > 0.7
        assert np.abs(sleeve.cloth[y, x] - np.array([0, 0.5, 0])).max() < 0.1
    assert sleeve.cover[300, 100] == 0 and sleeve.cover[40, 100] == 0, "neither a leg nor the face wears it"


def test_the_body_of_a_garment_reaches_both_sides_and_every_row_down_to_its_hem() -> None:
    pose, alpha = body((20, 60), (25, 10))
    torso = torso_of(pose, alpha)
    piece = body_piece(find_garment(long_sleeved()), torso, Cut(), (200, 400))
    for y in range(110, 215, 5):
        across = np.flatnonzero(alpha[y, 60:140] > 0.5) + 60
        assert piece.cover[y, across].min() > 0.8, y
    assert piece.cover[330:].max() == 0 and piece.cover[:60].max() == 0


def test_a_hidden_arm_wears_no_sleeve() -> None:
    pose, alpha = body((48, 160), (46, 215))
    pose.seen[RIGHT_ELBOW] = 0.1
    assert set(arms_of(pose, torso_of(pose, alpha), alpha)) == {"right"}


def seen_wrongly(
    elbow: tuple[float, float], wrist: tuple[float, float], *, sure: float
) -> tuple[Plane, Torso, Arm]:
    """A body whose right wrist the pose model is so sure of."""
    pose, alpha = body(elbow, wrist)
    pose.seen[RIGHT_WRIST] = sure
    torso = torso_of(pose, alpha)
    return alpha, torso, arms_of(pose, torso, alpha)["left"]


def test_an_arm_whose_bones_are_seen_too_far_inside_is_no_wider_for_that() -> None:
    pose, alpha = body((48, 160), (46, 215))
    alpha[90:330, 24:160] = 1.0  # no outline between arm and body
    torso = torso_of(pose, alpha)
    arm = arms_of(pose, torso, alpha)["left"]
    middle = slice(2, 6)
    assert arm.outer[middle].min() > 17, "its outline is far outside"
    usual = 2 * 0.22 * torso.width
    assert (arm.outer + arm.inner)[middle].max() < 1.35 * usual


def test_a_hidden_wrist_that_is_drawn_in_leaves_the_forearm_its_length() -> None:
    *_, stump = seen_wrongly((48, 160), (51, 158), sure=0.4)
    *_, visible = seen_wrongly((48, 160), (51, 158), sure=0.95)
    upper, lower = stump.lengths
    assert lower > 0.6 * upper and stump.joints[2][1] > 200, "it goes on along the upper arm"
    assert tuple(visible.joints[2]) == (51, 158), "one that is seen points at the camera"


def test_a_wrist_that_is_seen_on_its_own_upper_arm_is_wrong_however_sure_it_is() -> None:
    *_, arm = seen_wrongly((48, 160), (50, 140), sure=0.95)
    assert arm.joints[2][1] > 200, "it goes on along the upper arm"


def test_no_body_lies_beyond_an_arm_with_a_wide_old_sleeve() -> None:
    pose, alpha = body((40, 160), (90, 215))
    alpha[130:300, 4:60] = 1.0
    torso = torso_of(pose, alpha)
    picture = worn(alpha, torso, arms_of(pose, torso, alpha)["left"], short_sleeved())
    beyond = picture[195:240, 30:42]
    assert (beyond[..., 0] > beyond[..., 1]).all(), "the old sleeve"
    assert picture[150, 100, 1] > picture[150, 100, 0] + 0.1, "the garment"


def test_a_sleeve_ends_at_a_thing_that_the_arm_holds() -> None:
    alpha, torso, arm = seen_wrongly((48, 160), (46, 215), sure=0.9)
    colours = np.full((400, 200, 3), OLD, np.float32)
    alpha[140:230, 8:36] = 1.0
    colours[140:230, :36] = 0.05
    clothes = (colours[..., 0] > 0.5).astype(np.float32)
    picture = worn(alpha, torso, arm, long_sleeved(), colours, clothes)
    assert picture[170, 14].max() < 0.1, "a black thing"
    assert picture[170, 48, 1] > picture[170, 48, 0] + 0.1, "the sleeve"


def test_a_forearm_behind_a_desk_does_not_lie_before_the_body() -> None:
    pose, alpha = body((48, 206), (110, 202))
    pose.seen[RIGHT_WRIST] = 0.3
    alpha[203:] = 0.0
    torso = torso_of(pose, alpha)
    picture = worn(alpha, torso, arms_of(pose, torso, alpha)["left"], short_sleeved())
    assert picture[197, 100, 1] > picture[197, 100, 0] + 0.1


OLD = np.array([0.9, 0.35, 0.1], np.float32)


def worn(
    alpha: Plane,
    torso: Torso,
    arm: Arm,
    drawn: Image.Image,
    colours: Plane | None = None,
    clothes: Plane | None = None,
) -> Plane:
    """The picture of a sitter, all in OLD by default, whose left arm alone shows, with a garment on."""
    ones = np.ones_like(alpha)
    plain = np.full((*alpha.shape, 3), OLD, np.float32)
    sitter = Sitter(
        colours=plain if colours is None else colours,
        alpha=alpha,
        in_front=0 * ones,
        clothes=ones if clothes is None else clothes,
        shading=ones,
        light=np.ones(3, np.float32),
        torso=torso,
        arms={"left": arm},
    )
    return worn_garment(sitter, find_garment(drawn), Cut())


def short_sleeved() -> Image.Image:
    """The green jersey with its sleeves cut."""
    drawn = long_sleeved()
    pen = ImageDraw.Draw(drawn)
    for box in ((0, 150, 119, 400), (281, 150, 400, 400)):
        pen.rectangle(box, fill="white")
    return drawn


def test_hands_stay_in_front_and_what_only_lies_near_them_does_not() -> None:
    pose, alpha = body((48, 160), (100, 180))
    colours = np.full((400, 200, 3), 0.15, np.float32)
    skin = np.array([0.85, 0.62, 0.5], np.float32)
    colours[10:75, 75:125] = skin
    colours[172:188, 92:112] = skin
    kept = in_front_of(colours, alpha, pose, torso_of(pose, alpha)).kept
    assert kept[40, 100] > 0.9 and kept[180, 100] > 0.7
    assert kept[150, 100] < 0.1 and kept[200, 120] < 0.1


def test_white_cloth_takes_the_light_of_the_photo() -> None:
    colours = np.full((64, 64, 3), 0.2, np.float32)
    colours[:20] = (0.6, 0.5, 0.35)
    evening = light_of(colours, np.ones((64, 64), np.float32))
    assert evening[0] > evening[1] > evening[2] and evening.max() < 0.9
    colours[:20] = 1.0
    assert light_of(colours, np.ones((64, 64), np.float32)).min() > 0.95
