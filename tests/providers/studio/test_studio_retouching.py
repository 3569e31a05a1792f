"""Cut-outs and enlargements: what stays, what goes, and how near an enlargement is to the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from actors.providers.base import InvalidInput
from actors.providers.studio.fallback import make_without_models
from actors.providers.studio.orders.faults import BadOrder, ImageUnusable, NoPersonFound, StudioFault
from actors.providers.studio.orders.order import TASKS, read_order
from actors.providers.studio.pictures import make_pictures
from actors.providers.studio.retouching import each_input, enlarge
from actors.providers.studio.studio import request_for
from actors.providers.studio.vision.planes import Plane, to_array
from actors.providers.warm.model import ModelJob

SAMPLES = Path(__file__).parents[3] / "examples" / "samples"
PORTRAIT = SAMPLES / "portrait.png"


def silent(percent: int, stage: str) -> None: ...


def make(out: Path, task: str, *sources: Path, **changes: Any) -> list[Path]:
    request = {
        "task": task,
        "person": str(sources[0]),
        "sources": [str(each) for each in sources],
        "count": len(sources),
        "out": str(out),
    }
    return [made.path for made in make_pictures(read_order(request | changes), silent)]


def photograph(size: int = 240) -> Image.Image:
    """A picture with hair, edges and even ground."""
    with Image.open(PORTRAIT) as portrait:
        return portrait.convert("RGB").crop((130, 0, 130 + size, size))


def decibels(made: Image.Image, truth: Image.Image) -> float:
    """How near a picture is to another (PSNR)."""
    return float(-10 * np.log10(((to_array(made) - to_array(truth)) ** 2).mean()))


def alpha_of(path: Path) -> Plane:
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGBA")
        return to_array(picture.getchannel("A"))


def test_a_person_is_cut_out_in_the_frame_of_the_photo(tmp_path: Path) -> None:
    [path] = make(tmp_path, "cut_out", PORTRAIT)
    alpha = alpha_of(path)
    assert alpha.shape == (512, 512)
    assert alpha[90:165, 195:250].min() > 0.95, "the face"
    assert alpha[300:400, 100:220].min() > 0.95, "the chest"
    assert alpha[:140, 330:420].max() == 0, "the wall"
    with Image.open(path) as cut, Image.open(PORTRAIT) as photo:
        colours, before = np.asarray(cut), np.asarray(photo.convert("RGB"))
    assert abs(colours[90:165, 195:250, :3].astype(int) - before[90:165, 195:250]).max() <= 1
    assert not colours[colours[..., 3] == 0].any(), "nothing of the old background is left in the file"


def test_a_thing_on_a_plain_background_is_cut_out(tmp_path: Path) -> None:
    alpha = alpha_of(make(tmp_path, "cut_out", SAMPLES / "garment.png")[0])
    assert alpha[300:700, 250:550].min() > 0.95, "the body of the shirt"
    assert alpha[:40].max() == 0


def test_a_picture_that_is_cut_out_stays_as_it_is(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    ImageDraw.Draw(clear).ellipse((50, 50, 150, 150), fill=(200, 40, 40, 255))
    clear.save(tmp_path / "clear.png")
    [path] = make(tmp_path / "out", "cut_out", tmp_path / "clear.png")
    with Image.open(path) as made:
        assert made.tobytes() == clear.tobytes()


def test_a_person_in_a_picture_with_holes_keeps_the_holes(tmp_path: Path) -> None:
    with Image.open(PORTRAIT) as photo:
        holed = photo.convert("RGBA")
    holed.paste((0, 0, 0, 0), (140, 320, 200, 380))
    holed.save(tmp_path / "holed.png")
    alpha = alpha_of(make(tmp_path / "out", "cut_out", tmp_path / "holed.png")[0])
    assert alpha[325:375, 145:195].max() == 0
    assert alpha[90:165, 195:250].min() > 0.95


def test_where_there_is_nothing_to_cut_out_the_order_is_refused(tmp_path: Path) -> None:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "gradient.png")
    with pytest.raises(NoPersonFound, match="nothing to cut"):
        make(tmp_path / "out", "cut_out", tmp_path / "gradient.png")
    assert not (tmp_path / "out").exists()


def test_a_large_photo_is_cut_out_at_a_size_whose_outline_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(each_input, "CUT_OUT_SIDE", 300)
    assert alpha_of(make(tmp_path, "cut_out", PORTRAIT)[0]).shape == (300, 300)


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(
    "smaller, gain",
    [(Image.Resampling.BICUBIC, 0.4), (Image.Resampling.BOX, 0), (Image.Resampling.LANCZOS, 0)],
)
def test_an_enlargement_is_nearer_to_the_truth_than_interpolation(
    factor: int, smaller: Image.Resampling, gain: float
) -> None:
    truth = photograph()
    small = truth.resize((truth.width // factor, truth.height // factor), smaller)
    lanczos = small.resize(truth.size, Image.Resampling.LANCZOS)
    assert decibels(enlarge.enlarge(small, factor), truth) > decibels(lanczos, truth) + gain


def test_an_enlargement_draws_no_halo_along_an_edge() -> None:
    small = Image.new("RGB", (80, 80), (60, 60, 60))
    small.paste((200, 200, 200), (40, 0, 80, 80))
    made = np.asarray(enlarge.enlarge(small, 4))
    assert (made.min(), made.max()) == (60, 200)
    interpolated = np.asarray(small.resize((320, 320), Image.Resampling.LANCZOS))
    assert interpolated.min() < 60 and interpolated.max() > 200, "as interpolation does"


def test_an_even_ground_stays_even() -> None:
    made = np.asarray(enlarge.enlarge(Image.new("RGB", (70, 90), (12, 130, 250)), 2))
    assert made.shape == (180, 140, 3)
    assert np.unique(made.reshape(-1, 3), axis=0).tolist() == [[12, 130, 250]]


def test_a_picture_enlarged_in_strips_shows_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    small = photograph(150)
    whole = enlarge.enlarge(small, 2)
    monkeypatch.setattr(enlarge, "STRIP_PIXELS", 37 * 150 * 4)
    assert abs(np.asarray(enlarge.enlarge(small, 2)).astype(int) - np.asarray(whole)).max() <= 1


def test_the_unseen_colour_of_a_cut_out_does_not_bleed_into_its_edge() -> None:
    clear = Image.new("RGBA", (80, 80), (0, 255, 0, 0))
    ImageDraw.Draw(clear).ellipse((20, 20, 60, 60), fill=(220, 220, 220, 255))
    clear.putalpha(clear.getchannel("A").filter(ImageFilter.GaussianBlur(1)))
    pixels = np.asarray(clear).copy()
    pixels[..., :3][pixels[..., 3] > 0] = 220
    made = np.asarray(enlarge.enlarge(Image.fromarray(pixels, "RGBA"), 4)).astype(int)
    seen = made[made[..., 3] > 30][:, :3]
    assert abs(seen - 220).max() <= 3


def test_a_picture_is_enlarged_to_the_ordered_size_in_its_format(tmp_path: Path) -> None:
    photograph(100).save(tmp_path / "a.png")
    with Image.open(PORTRAIT) as photo:
        clear = photo.convert("RGBA").resize((90, 90))
    clear.putalpha(90)
    clear.save(tmp_path / "b.png")
    opaque, see_through = make(tmp_path / "out", "enlarge", tmp_path / "a.png", tmp_path / "b.png", factor=4)
    with Image.open(opaque) as picture:
        assert (picture.format, picture.size) == ("JPEG", (400, 400))
    with Image.open(see_through) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (360, 360))


def test_an_enlargement_beyond_the_limit_of_pixels_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(each_input, "MAX_PIXELS", 100_000)
    with pytest.raises(ImageUnusable, match=r"512 × 512 pixels.* 1,048,576 pixels, but 100,000 is the most"):
        make(tmp_path / "out", "enlarge", PORTRAIT)


@pytest.mark.parametrize("factor", [0, 1, 3, 8, True, "2", 2.5, [2]])
def test_a_wrong_factor_is_refused_with_a_sentence(tmp_path: Path, factor: object) -> None:
    with pytest.raises(BadOrder, match=r"parameters\.factor must be 2 or 4"):
        make(tmp_path, "enlarge", PORTRAIT, factor=factor)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("task", ["cut_out", "enlarge"])
def test_one_picture_is_made_of_each_input(tmp_path: Path, task: str, count: int) -> None:
    with pytest.raises(BadOrder, match=f"{task} makes one picture of each input, so count must be 2"):
        make(tmp_path, task, PORTRAIT, PORTRAIT, count=count)


def test_a_missing_picture_is_made_of_its_own_input(tmp_path: Path) -> None:
    paths = []
    for n, colour in enumerate(("red", "green", "blue")):
        paths.append(tmp_path / f"{n}.png")
        Image.new("RGB", (64, 64), colour).save(paths[-1])
    [path] = make(tmp_path / "out", "enlarge", *paths, pictures=[2])
    assert path.name == "2.jpg"
    with Image.open(path) as made:
        red, green, blue = made.getpixel((64, 64))  # type: ignore[misc]
    assert blue > 240 and red < 15 and green < 15


def test_one_of_many_pictures_may_come_with_its_input_alone(tmp_path: Path) -> None:
    photograph(80).save(tmp_path / "a.png")
    [path] = make(tmp_path / "out", "enlarge", tmp_path / "a.png", count=3, pictures=[1])
    assert path.name == "1.jpg"


def job(folder: Path, kind: str, parameters: object, inputs: int = 1) -> ModelJob:
    return ModelJob(
        task_id="t1", type=kind, params={"parameters": parameters}, inputs=(PORTRAIT,) * inputs, pictures=(0,), count=1,
        seed=1, folder=folder, ai_timeout_seconds=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind, parameters, made",
    [
        ("photography", {}, "photography"), ("photography", None, "photography"), ("enlarge", {}, "enlarge"),
        ("portrait", {"operation": "cut_out"}, "cut_out"), ("portrait", {"operation": "photography"}, "photography"),
        ("photography", {"operation": "enlarge", "factor": 4}, "enlarge"),
    ],
)  # fmt: skip
def test_the_operation_is_chosen_by_the_order_and_else_by_the_type(
    tmp_path: Path, kind: str, parameters: object, made: str
) -> None:
    order = read_order(request_for(job(tmp_path, kind, parameters)))
    assert order.task == made
    if made == "enlarge":
        assert order.factor == ({} if parameters is None else parameters).get("factor", 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("wrong", ["sculpture", "", 3, None, ["cut_out"], True])
def test_an_unknown_operation_is_refused_with_those_there_are(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(InvalidInput, match=", ".join(TASKS)) as refused:
        request_for(job(tmp_path, "photography", {"operation": wrong}))
    assert refused.value.code == "bad_params" and not refused.value.retryable


def test_a_type_of_another_name_must_say_its_operation(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"parameters\.operation must be one of"):
        request_for(job(tmp_path, "portrait", {}))


def test_without_the_models_a_picture_is_enlarged_and_nothing_is_cut_out(tmp_path: Path) -> None:
    photograph(100).save(tmp_path / "a.png")
    request = {"task": "enlarge", "person": str(tmp_path / "a.png"), "out": str(tmp_path / "out")}
    [made] = make_without_models(read_order(request), silent)
    assert (made.width, made.height) == (200, 200)
    with pytest.raises(StudioFault, match="not installed"):
        make_without_models(read_order(request | {"task": "cut_out"}), silent)
