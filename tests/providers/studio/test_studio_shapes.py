"""Photos of all shapes and group sizes with the real models: no person is lost; a photo without a person is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from actors.providers.studio.fitting.fitting import fit
from actors.providers.studio.orders.faults import ImageUnusable, NoPersonFound
from actors.providers.studio.orders.order import read_order
from actors.providers.studio.photography.photography import photograph
from actors.providers.studio.vision import segmentation
from actors.providers.studio.vision.people import find_people
from actors.providers.studio.vision.person import Person, subjects
from actors.providers.studio.vision.planes import to_array
from actors.providers.studio.vision.pose import Pose
from actors.providers.studio.vision.segmentation import _look_closer, person_mask

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"
FACE, CHEST = (195, 90, 250, 165), (100, 300, 220, 400)  # in the portrait's 512 × 512
Piece = tuple[int, int, int, bool]  # left, top, side, mirrored
SHAPES: dict[str, tuple[tuple[int, int], list[Piece]]] = {
    "two side by side": ((640, 320), [(0, 0, 320, False), (320, 0, 320, True)]),
    "bottom of 9:20": ((320, 711), [(0, 391, 320, False)]),
    "three in a row": ((960, 320), [(0, 0, 320, False), (320, 0, 320, True), (640, 0, 320, False)]),
    "middle of 3:1": ((960, 320), [(320, 0, 320, False)]),
    "two in a square": ((640, 640), [(0, 320, 320, False), (320, 320, 320, True)]),
    "quarter of a square": ((800, 800), [(100, 600, 200, False)]),
}


def picture(size: tuple[int, int], pieces: list[Piece]) -> Image.Image:
    """Portraits on a plain ground."""
    portrait = Image.open(SAMPLES / "portrait.png").convert("RGB")
    whole = Image.new("RGB", size, (196, 200, 204))
    for left, top, side, mirrored in pieces:
        piece = ImageOps.mirror(portrait) if mirrored else portrait
        whole.paste(piece.resize((side, side), Image.Resampling.LANCZOS), (left, top))
    return whole


def part_of(mask: np.ndarray, piece: Piece, part: tuple[int, int, int, int]) -> np.ndarray:
    left, top, side, mirrored = piece
    x0, y0, x1, y1 = (round(value * side / 512) for value in part)
    if mirrored:
        x0, x1 = side - x1, side - x0
    return mask[top + y0 : top + y1, left + x0 : left + x1]


def order(task: str, photo: Image.Image, folder: Path, **changes: Any) -> list[np.ndarray]:
    """The pictures of an order."""
    folder.mkdir(exist_ok=True)
    photo.save(folder / "photo.png")
    request = {
        "task": task, "person": str(folder / "photo.png"), "garment": str(SAMPLES / "garment.png"), "seed": 3,
        "size": 480, "out": str(folder / "out"),
    }  # fmt: skip
    carry_out = fit if task == "fitting" else photograph
    made = carry_out(read_order(request | changes), lambda percent, stage: None)
    return [np.asarray(Image.open(one.path).convert("RGB"), np.float32) / 255 for one in made]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_person_is_on_the_mask_in_every_shape(shape: str) -> None:
    size, pieces = SHAPES[shape]
    mask = person_mask(picture(size, pieces))
    assert mask.shape == (size[1], size[0])
    for piece in pieces:
        assert part_of(mask, piece, FACE).mean() > 0.95, "a face"
        assert part_of(mask, piece, CHEST).mean() > 0.9, "a chest"
    ground = np.ones_like(mask, bool)
    for left, top, side, _ in pieces:
        ground[top : top + side, left : left + side] = False
    assert not ground.any() or mask[ground].max() < 0.05, "nobody is on the ground"


@pytest.mark.parametrize("shape", SHAPES)
def test_each_person_is_found_once(shape: str) -> None:
    size, pieces = SHAPES[shape]
    people = find_people(picture(size, pieces))
    assert len(people) == len(pieces)
    assert all(one.is_sure for one in people)


def test_a_person_with_an_unsure_pose_gets_a_close_look_too() -> None:
    small, large = (60, 120, 200, False), (200, 0, 320, False)
    photo = picture((640, 320), [small, large])
    beside, somebody = sorted(find_people(photo), key=lambda one: float(one.head[0]))
    mask = person_mask(photo, [somebody], [beside])
    for piece in (small, large):
        assert part_of(mask, piece, FACE).mean() > 0.95, "a face"


def test_a_face_that_one_square_cuts_is_whole_where_another_has_seen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([np.ones((4, 4), np.float32), np.zeros((4, 4), np.float32)])
    monkeypatch.setattr(segmentation, "_look", lambda pixels, square: next(answers))
    mask, looked_at = np.full((4, 8), 0.5, np.float32), np.zeros((4, 8), bool)
    for square in ((0, 0, 4, 4), (2, 0, 6, 4)):
        _look_closer(np.zeros((4, 8, 3), np.uint8), square, np.ones((4, 8), np.float32), mask, looked_at)
    assert mask[0].tolist() == [1, 1, 1, 1, 0, 0, 0.5, 0.5]


def test_a_mask_that_lacks_a_person_is_not_used() -> None:
    photo = picture((512, 512), [(0, 0, 512, False)])
    [somebody] = subjects(find_people(photo))
    on_the_wall = Person(Pose(somebody.pose.points * 0.25 + (350, 0), somebody.pose.seen))
    assert person_mask(photo, [somebody]).max() == 1
    with pytest.raises(NoPersonFound, match="cut out"):
        person_mask(photo, [somebody, on_the_wall])


@pytest.mark.parametrize("task", ["photography", "fitting"])
def test_a_photo_without_a_person_is_refused(task: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 255, (90, 40, 3), np.uint8)
    for name, photo in {
        "clouds": Image.fromarray(noise).resize((360, 800), Image.Resampling.BICUBIC),
        "garment": Image.open(SAMPLES / "garment.png").convert("RGB"),
    }.items():
        with pytest.raises(NoPersonFound):
            order(task, photo, tmp_path / name)


def test_two_people_stay_together_in_every_frame(tmp_path: Path) -> None:
    photo = picture(*SHAPES["two side by side"])
    for shown in order("photography", photo, tmp_path, count=3):
        people = find_people(Image.fromarray((shown * 255).astype(np.uint8)))
        assert len(people) == 2


def test_one_of_two_wears_the_garment_and_the_other_keeps_their_own(tmp_path: Path) -> None:
    size, pieces = SHAPES["two side by side"]
    photo = picture(size, pieces).resize((480, 240), Image.Resampling.LANCZOS)
    [worn] = order("fitting", photo, tmp_path)
    assert worn.shape == (240, 480, 3)
    changed = np.abs(worn - to_array(photo)).mean(2)
    halves = sorted([changed[100:, 20:220].mean(), changed[100:, 260:460].mean()])
    assert halves[0] < 0.02 and halves[1] > 0.1


@pytest.mark.parametrize("wearer", [1, 2])
def test_of_two_people_the_chosen_one_wears_the_garment(tmp_path: Path, wearer: int) -> None:
    size, pieces = SHAPES["two side by side"]
    photo = picture(size, pieces).resize((480, 240), Image.Resampling.LANCZOS)
    [worn] = order("fitting", photo, tmp_path, wearer=wearer)
    changed = np.abs(worn - to_array(photo)).mean(2)
    halves = changed[100:, 20:220].mean(), changed[100:, 260:460].mean()
    assert halves[wearer - 1] > 0.1 and halves[2 - wearer] < 0.02


def test_a_person_who_is_not_on_the_photo_cannot_wear_it(tmp_path: Path) -> None:
    with pytest.raises(ImageUnusable, match="Only one person"):
        order("fitting", picture((240, 240), [(0, 0, 240, False)]), tmp_path, wearer=3)
