"""Which squares of a picture the models look at, and the way back: boxes and arithmetic only.

The models see squares of 224 or 256 pixels.  A picture of another shape is never squashed into one: it is looked at
through squares, and a square that does not lie within the picture is filled up with the picture's edge.  A person who
is small in the picture gets a square of their own.

A box is (left, top, right, bottom) in pixels, right and bottom outside.  A square may reach beyond the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
# People whose common square is under so many times the largest of their own are looked at together.
LOOSE = 1.4


def whole_square(width: int, height: int) -> Box:
    """The smallest square around the whole picture, the picture in its middle."""
    side = max(width, height)
    left, top = -((side - width) // 2), -((side - height) // 2)
    return left, top, left + side, top + side


def tiles(width: int, height: int, side: int) -> list[Box]:
    """Squares of a side within the picture that cover it all, each at least half over its neighbours.
    side: at most the picture's short side."""
    return [(x, y, x + side, y + side) for y in _steps(height, side) for x in _steps(width, side)]


def _steps(length: int, side: int) -> list[int]:
    count = 1 + math.ceil((length - side) / max(1, side // 2))
    return [round(n * (length - side) / max(1, count - 1)) for n in range(count)]


def within(box: Box, width: int, height: int) -> Box:
    """The part of a box that lies in the picture; at least one pixel."""
    left, top = min(max(0, box[0]), width - 1), min(max(0, box[1]), height - 1)
    return left, top, max(left + 1, min(width, box[2])), max(top + 1, min(height, box[3]))


def square_around(box: Box, width: int, height: int) -> Box:
    """A square that holds all of the box, and as little as can be that is not in the picture.
    box: within the picture."""
    side = max(box[2] - box[0], box[3] - box[1])
    left, top = (
        _placed(low, high, side, length)
        for low, high, length in ((box[0], box[2], width), (box[1], box[3], height))
    )
    return left, top, left + side, top + side


def _placed(low: int, high: int, side: int, length: int) -> int:
    """Where a square begins on one axis: in the middle of low … high, moved into the picture if it fits there."""
    if side > length:
        return -((side - length) // 2)
    return min(max(0, low - (side - (high - low)) // 2), length - side)


def squares_for(boxes: Sequence[Box], width: int, height: int) -> list[Box]:
    """The squares to look at: each box lies whole in one of them.  Boxes whose common square is hardly larger than
    their own share it: they are seen as finely, with fewer looks and no seam between them."""
    groups: list[tuple[Box, int]] = []  # (box of a group, the largest side of its members' squares)
    for box in sorted(boxes):
        group, own = box, _side(box)
        while True:
            joined = next(
                (one for one in groups if _side(around([one[0], group])) < LOOSE * max(own, one[1])), None
            )
            if joined is None:
                break
            groups.remove(joined)
            group, own = around([joined[0], group]), max(own, joined[1])
        groups.append((group, own))
    return [square_around(group, width, height) for group, _ in groups]


def around(boxes: Sequence[Box]) -> Box:
    """The smallest box that holds all of them."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _side(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """The share that two boxes have in common of what they cover together."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    both = across * down
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)


def taken(pixels: NDArray[Any], square: Box) -> NDArray[Any]:
    """The pixels of a square; beyond the picture its edge goes on.  pixels: (h, w) or (h, w, channels)."""
    height, width = pixels.shape[:2]
    rows = np.arange(square[1], square[3]).clip(0, height - 1)
    columns = np.arange(square[0], square[2]).clip(0, width - 1)
    seen: NDArray[Any] = pixels[rows[:, None], columns]
    return seen


def put_back(seen: NDArray[Any], square: Box, width: int, height: int) -> tuple[NDArray[Any], Box]:
    """What was seen of the picture in a square, and where it lies: `taken` turned round.
    seen: one value a pixel of the square."""
    left, top, right, bottom = within(square, width, height)
    part = seen[top - square[1] : bottom - square[1], left - square[0] : right - square[0]]
    return part, (left, top, right, bottom)
