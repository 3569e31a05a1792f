"""Photography with the real models: the person stays, the scene changes, the same order gives the same pictures."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actors.providers.studio.orders.faults import NoPersonFound
from actors.providers.studio.orders.order import SCENES, read_order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.photography.photography import photograph
from actors.providers.studio.vision.planes import to_array
from actors.providers.studio.vision.segmentation import person_mask

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"
SIZE = 320


def make(out: Path, person: Path = SAMPLES / "portrait.png", **changes: Any) -> dict[int, Path]:
    """Pictures by n."""
    request = {
        "task": "photography",
        "person": str(person),
        "seed": 11,
        "size": SIZE,
        "out": str(out),
    } | changes
    return {
        picture.n: picture.path for picture in photograph(read_order(request), lambda percent, stage: None)
    }


def pixels(path: Path) -> np.ndarray:
    return to_array(Image.open(path).convert("RGB").resize((128, 128)))


def test_the_mask_covers_the_person_and_not_the_wall() -> None:
    mask = person_mask(on_white(read_picture(SAMPLES / "portrait.png", size=512, which="first")))
    assert 0.4 < mask.mean() < 0.65
    assert mask[90:165, 195:250].min() > 0.95, "the face"
    assert mask[300:400, 100:220].min() > 0.95, "the chest"
    assert mask[:140, 320:420].max() < 0.05, "the wall"


def test_the_face_is_kept_and_the_wall_replaced(tmp_path: Path) -> None:
    original = pixels(SAMPLES / "portrait.png")
    for scene in SCENES:
        picture = pixels(make(tmp_path / scene, scene=scene)[0])
        face, wall = (slice(25, 45), slice(48, 64)), (slice(0, 30), slice(75, 105))
        likeness = np.corrcoef(original[face].ravel(), picture[face].ravel())[0, 1]
        assert likeness > 0.9, scene
        assert np.abs(original[wall] - picture[wall]).mean() > 0.1, scene


def test_scenes_and_counts_differ_at_a_glance(tmp_path: Path) -> None:
    made = {
        (scene, n): pixels(path)
        for scene in SCENES
        for n, path in make(tmp_path / scene, scene=scene, count=4).items()
    }
    assert len(made) == 12
    for (one, a), (other, b) in combinations(made.items(), 2):
        assert np.abs(a - b).mean() > 0.02, f"{one} and {other} look alike"


def test_every_one_of_eight_pictures_differs_from_the_others(tmp_path: Path) -> None:
    made = make(tmp_path, count=8, size=160)
    for a, b in combinations([pixels(path) for path in made.values()], 2):
        assert np.abs(a - b).mean() > 0.015


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    first, again, other = (
        make(tmp_path / name, seed=seed)[0].read_bytes() for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert first == again
    assert first != other


def test_a_picture_is_the_same_whichever_others_are_made(tmp_path: Path) -> None:
    all_four = make(tmp_path / "all", scene="night", count=4)
    missing = make(tmp_path / "missing", scene="night", count=4, pictures=[2])
    assert list(missing) == [2]
    assert missing[2].read_bytes() == all_four[2].read_bytes()


def test_the_result_is_a_jpeg_of_the_asked_size(tmp_path: Path) -> None:
    for path in make(tmp_path, count=3, size=400).values():
        with Image.open(path) as picture:
            assert picture.format == "JPEG"
            assert max(picture.size) == 400
    whole = {f"{n}{rest}" for n in range(3) for rest in (".jpg", "-thumbnail.webp")}
    assert {path.name for path in tmp_path.iterdir()} == whole, "no unfinished file is left"


def test_a_picture_without_a_person_is_refused(tmp_path: Path) -> None:
    gradient = tmp_path / "gradient.png"
    Image.linear_gradient("L").convert("RGB").save(gradient)
    with pytest.raises(NoPersonFound, match="No person"):
        make(tmp_path / "out", gradient)
    assert not (tmp_path / "out").exists()


def test_a_small_person_far_from_the_middle_is_found_by_the_second_look(tmp_path: Path) -> None:
    wide = Image.new("RGB", (1200, 800), (196, 200, 204))
    wide.paste(Image.open(SAMPLES / "portrait.png").convert("RGB").resize((320, 320)), (820, 480))
    mask = person_mask(wide)
    assert mask[540:580, 945:972].min() > 0.8, "the face"
    assert mask[:400, :700].max() < 0.05
