"""Which squares the models look at, how a mask is judged, what a frame holds: arithmetic, for all shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.providers.studio.photography.framing import FRAMES, frame_for, group_box
from actors.providers.studio.vision.crops import (
    Box,
    around,
    put_back,
    square_around,
    squares_for,
    taken,
    tiles,
    whole_square,
    within,
)
from actors.providers.studio.vision.person import Person, has, nearest_to, subjects, unsure_subjects
from actors.providers.studio.vision.pose import LEFT_HIP, LEFT_SHOULDER, RIGHT_HIP, RIGHT_SHOULDER, Pose

SIZES = st.tuples(st.integers(8, 90), st.integers(8, 90))


@st.composite
def boxes_in(draw: st.DrawFn, width: int, height: int) -> Box:
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))


def holds(outer: Box, inner: Box) -> bool:
    return outer[:2] <= inner[:2] and all(
        o <= i for o, i in zip(outer[:2] + inner[2:], inner[:2] + outer[2:], strict=True)
    )


def person(x: float, y: float, size: float) -> Person:
    """A person upright, the middle between the shoulders at (x, y), with a head above and hips below."""
    points = np.full((33, 2), (x, y), np.float32)
    points[:11] += (0, -0.45 * size)
    for landmark, across, down in (
        (LEFT_SHOULDER, 0.5, 0),
        (RIGHT_SHOULDER, -0.5, 0),
        (LEFT_HIP, 0.35, 1.4),
        (RIGHT_HIP, -0.35, 1.4),
    ):
        points[landmark] += (across * size, down * size)
    return Person(Pose(points, np.ones(33, np.float32)))


PEOPLE = st.builds(person, st.floats(0, 90), st.floats(0, 90), st.floats(2, 60))


@settings(deadline=None)
@given(SIZES, st.integers(-60, 90), st.integers(-60, 90), st.integers(1, 150))
def test_a_crop_maps_back_exactly(size: tuple[int, int], left: int, top: int, side: int) -> None:
    width, height = size
    pixels = np.arange(width * height).reshape(height, width)
    square = left, top, left + side, top + side
    seen = taken(pixels, square)
    assert seen.shape == (side, side)
    if holds((-side, -side, width + side, height + side), square) and left < width and top < height:
        if left + side <= 0 or top + side <= 0:
            return  # nothing of the picture is in it
        part, (x0, y0, x1, y1) = put_back(seen, square, width, height)
        assert (part == pixels[y0:y1, x0:x1]).all()
        assert (x0, y0, x1, y1) == within(square, width, height)


@settings(deadline=None)
@given(SIZES)
def test_padding_never_changes_the_shape_of_the_mask(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.arange(width * height * 3).reshape(height, width, 3)
    square = whole_square(width, height)
    part, place = put_back(taken(pixels, square)[..., 0], square, width, height)
    assert place == (0, 0, width, height)
    assert (part == pixels[..., 0]).all()


@settings(deadline=None)
@given(SIZES, st.floats(0.1, 1))
def test_tiles_cover_every_pixel_and_stay_in_the_picture(size: tuple[int, int], share: float) -> None:
    width, height = size
    side = max(1, round(min(size) * share))
    seen = np.zeros((height, width), bool)
    for left, top, right, bottom in tiles(width, height, side):
        assert (right - left, bottom - top) == (side, side)
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
        seen[top:bottom, left:right] = True
    assert seen.all()


@settings(deadline=None)
@given(st.data(), SIZES)
def test_a_square_around_a_box_is_as_small_as_can_be_and_leaves_the_picture_only_where_it_must(
    data: st.DataObject, size: tuple[int, int]
) -> None:
    width, height = size
    box = data.draw(boxes_in(width, height))
    square = square_around(box, width, height)
    side = max(box[2] - box[0], box[3] - box[1])
    assert holds(square, box)
    assert (square[2] - square[0], square[3] - square[1]) == (side, side)
    if side <= width:
        assert square[0] >= 0 and square[2] <= width
    if side <= height:
        assert square[1] >= 0 and square[3] <= height


@settings(deadline=None)
@given(SIZES, st.lists(PEOPLE, min_size=1, max_size=6))
def test_every_pixel_of_a_found_person_is_inside_some_square(
    size: tuple[int, int], people: list[Person]
) -> None:
    width, height = size
    boxes = [one.body_box(width, height) for one in people]
    squares = squares_for(boxes, width, height)
    assert 1 <= len(squares) <= len(boxes)
    for one, box in zip(people, boxes, strict=True):
        assert any(holds(square, box) for square in squares)
        assert holds(box, one.upper_box(width, height))


def test_people_side_by_side_share_a_square_and_people_far_apart_do_not() -> None:
    assert len(squares_for([(100, 100, 200, 300), (180, 100, 280, 300)], 800, 600)) == 1
    assert len(squares_for([(0, 100, 100, 300), (700, 100, 800, 300)], 800, 600)) == 2


@pytest.mark.parametrize("part", ["head", "torso"])
def test_a_mask_without_head_or_torso_shows_no_person(part: str) -> None:
    somebody = person(100, 100, 80)
    mask = np.ones((300, 200), np.float32)
    assert has(mask, somebody)
    mask[:90] = part == "torso"
    mask[90:] = part == "head"
    assert not has(mask, somebody)


def test_parts_outside_the_picture_are_not_read() -> None:
    cut_off = person(100, 120, 80)
    assert has(np.ones((110, 200), np.float32), cut_off), "only the head is in the picture"
    assert not has(np.ones((110, 200), np.float32), person(900, 900, 80)), "nothing is in the picture"


def test_a_passer_by_in_the_background_is_no_subject() -> None:
    near, beside, far = person(50, 50, 40), person(20, 50, 30), person(80, 20, 12)
    assert subjects([near, beside, far]) == [near, beside]


def test_a_pose_that_may_be_a_neighbours_counts_only_where_there_is_no_other() -> None:
    sure, unsure = person(50, 50, 30), Person(person(20, 50, 40).pose, is_sure=False)
    assert subjects([sure, unsure]) == [sure]
    assert subjects([unsure]) == [unsure]
    assert unsure_subjects([sure, unsure]) == [unsure] and unsure_subjects([sure]) == []


@settings(deadline=None, max_examples=20)  # pictures, not numbers: slow on a busy machine
@given(st.floats(20, 200), st.floats(10, 60), st.floats(0, 90))
def test_two_people_side_by_side_share_the_picture_between_them(x: float, size: float, y: float) -> None:
    one, other = person(x, y, size), person(x + 2 * size, y, size)
    mine, theirs = nearest_to(one, [other], 300, 100), nearest_to(other, [one], 300, 100)
    assert np.allclose(mine + theirs, 1, atol=1e-4)
    assert (nearest_to(one, [], 300, 100) == 1).all()


@settings(deadline=None)
@given(st.data(), SIZES, st.integers(0, len(FRAMES) - 1))
def test_no_frame_cuts_a_person_of_a_group_away(data: st.DataObject, size: tuple[int, int], n: int) -> None:
    width, height = size
    heads = data.draw(st.lists(boxes_in(width, height), min_size=2, max_size=4))
    alpha = np.zeros((height, width), np.float32)
    for left, top, right, _ in heads:
        alpha[top:, left:right] = 1
    hold = group_box(alpha, heads)
    frame = frame_for(n, alpha, hold)
    shown = frame.left, frame.top, frame.left + frame.width, frame.top + frame.height
    assert holds((0, 0, width, height), shown)
    assert holds(shown, around(heads))
