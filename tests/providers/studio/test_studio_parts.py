"""The arithmetic of the pictures, and the models in the package."""

from __future__ import annotations

import hashlib
from importlib.resources import files

import numpy as np
from PIL import Image

from actors.providers.studio.fitting.bending import bent
from actors.providers.studio.photography.framing import FRAMES, frame_for
from actors.providers.studio.vision.matte import cut_out
from actors.providers.studio.vision.planes import blur, box_mean, resized
from actors.providers.studio.vision.regions import large_parts, without_holes


def test_the_notice_names_every_model_with_its_sum() -> None:
    folder = files("actors.providers.studio").joinpath("models")
    notice = folder.joinpath("NOTICE").read_text()
    models = [model for model in folder.iterdir() if model.name.endswith(".tflite")]
    assert len(models) == 3
    for model in models:
        assert f"{hashlib.sha256(model.read_bytes()).hexdigest()}  {model.name}" in notice
    assert "Apache License" in notice and "mediapipe 0.10.21" in notice


def test_a_box_mean_is_the_mean_of_its_box() -> None:
    a = np.random.default_rng(2).random((20, 30)).astype(np.float32)
    assert np.isclose(box_mean(a, 2)[10, 12], a[8:13, 10:15].mean())


def test_a_blur_keeps_the_light_and_spreads_as_asked() -> None:
    spot = np.zeros((201, 201), np.float32)
    spot[96:105, 96:105] = 1 / 81
    for sigma in (2.0, 12.0):
        spread = blur(spot, sigma)
        x = np.arange(201) - 100
        assert np.isclose(spread.sum(), 1, atol=0.03)
        assert np.isclose(np.sqrt((spread.sum(0) * x**2).sum()), np.hypot(sigma, 9 / 12**0.5), rtol=0.2)


def test_a_bent_picture_shows_what_lies_where_it_is_told_to_look() -> None:
    picture = Image.new("RGBA", (40, 20), "red")
    picture.paste((0, 0, 255, 255), (20, 0, 40, 20))
    # turned by a quarter and moved: the result's rows are the picture's columns
    shown = bent(
        picture, lambda at: np.stack([at[:, 1] - 30, at[:, 0] - 50], -1), (48, 28, 74, 74), (100, 90)
    )
    assert shown.size == (100, 90)
    assert shown.getpixel((60, 40)) == (255, 0, 0, 255) and shown.getpixel((60, 60)) == (0, 0, 255, 255)
    assert all(shown.getpixel(place)[3] == 0 for place in ((60, 20), (60, 80), (40, 40), (80, 60)))


def test_an_edge_loses_the_colour_of_the_old_background() -> None:
    alpha = resized(np.repeat([[0, 1]], [20, 20], 1).repeat(40, 0).astype(np.float32), 200, 200)
    red, green = np.array([0.8, 0.1, 0.1], np.float32), np.array([0.1, 0.8, 0.1], np.float32)
    mixed = alpha[..., None] * red + (1 - alpha[..., None]) * green
    person = cut_out(mixed, alpha)
    edge = (person.alpha > 0.2) & (person.alpha < 0.9)
    assert edge.any()
    assert person.colours[edge][:, 1].mean() < 0.35, "green is nearly gone"


def test_every_frame_lies_within_the_photo_and_holds_the_head() -> None:
    for height, width in ((300, 200), (200, 300), (250, 250)):
        alpha = np.zeros((height, width), np.float32)
        alpha[height // 4 :, width // 2 : width // 2 + width // 5] = 1
        for n in range(len(FRAMES)):
            frame = frame_for(n, alpha)
            assert frame.left >= 0 and frame.left + frame.width <= width
            assert 0 <= frame.top <= height // 4 and frame.top + frame.height <= height
            assert frame.left <= width // 2 and width // 2 + width // 5 <= frame.left + frame.width


def test_holes_are_filled_and_bays_are_not() -> None:
    mask = np.zeros((80, 90), bool)
    mask[10:70, 10:80] = True
    mask[30:45, 30:50] = False  # a hole
    mask[50:70, 60:66] = False  # a bay, open below
    filled = without_holes(mask)
    assert filled[30:45, 30:50].all()
    assert not filled[52:70, 61:65].any() and not filled[:10].any()


def test_specks_are_no_large_parts() -> None:
    mask = np.zeros((60, 60), bool)
    mask[5:30, 5:30] = mask[40:55, 30:50] = mask[50:52, 5:7] = True
    kept = large_parts(mask)
    assert kept[10, 10] and kept[45, 40] and not kept[50:52, 5:7].any()
