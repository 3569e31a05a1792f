"""Pictures as arrays: float32 in [0, 1], shape (height, width) for a plane and (height, width, channels) for
colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.floating[Any]]  # float32 in fact; the types of mixed sums say only "floating"
# Rec. 709; exact enough on gamma-coded values for shading.
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def to_array(picture: Image.Image) -> Plane:
    return np.asarray(picture, np.float32) / np.float32(255)


def to_picture(colours: Plane) -> Image.Image:
    return Image.fromarray((colours.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def luminance(colours: Plane) -> Plane:
    return colours @ LUMINANCE


def smoothstep(low: float, high: float, x: Plane) -> Plane:
    """0 below `low`, 1 above `high`, and a smooth rise between."""
    t = ((x - np.float32(low)) / np.float32(high - low)).clip(0, 1)
    step: Plane = t * t * (3 - 2 * t)
    return step


def sigmoid(x: Plane) -> Plane:
    share: Plane = 1 / (1 + np.exp(-x.clip(-30, 30)))
    return share


def resized(a: Plane, width: int, height: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> Plane:
    """`a` at another size, without the rounding to 8 bits that a colour picture would bring."""
    if a.shape[:2] == (height, width):
        return a
    channels = a[..., None] if a.ndim == 2 else a
    sources = (
        Image.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in np.moveaxis(channels, -1, 0)
    )
    planes = [np.asarray(source.resize((width, height), how)) for source in sources]
    return planes[0] if a.ndim == 2 else np.stack(planes, -1)


def box_mean(a: Plane, radius: int) -> Plane:
    """Mean over a square of side 2·radius+1, edges repeated.  Running sums: the cost does not grow with the
    radius."""
    side = 2 * radius + 1
    for axis in (0, 1):
        pad = [(0, 0)] * a.ndim
        pad[axis] = (radius + 1, radius)
        sums = np.moveaxis(np.pad(a, pad, mode="edge").cumsum(axis, dtype=np.float64), axis, 0)
        a = np.moveaxis(((sums[side:] - sums[:-side]) / side).astype(np.float32), 0, axis)
    return a


def blur(a: Plane, sigma: float) -> Plane:
    """Gaussian blur, edges repeated; where it is wide, on a smaller copy, as no detail is left to lose."""
    height, width = a.shape[:2]
    shrink = max(1, int(sigma / 1.2))
    small = resized(a, max(2, width // shrink), max(2, height // shrink))
    # going down and up again blurs too: each way by a triangle as wide as the shrink, of variance shrink²/6
    own = sigma / shrink if shrink == 1 else np.sqrt(max((sigma / shrink) ** 2 - 1 / 3, 0.04))
    weights = np.exp(-0.5 * (np.arange(int(np.ceil(2.6 * own)) + 1) / own) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in (0, 1):
        small = _weighted(small, [float(weight) for weight in weights], axis)
    return resized(small, width, height)


def _weighted(a: Plane, weights: Sequence[float], axis: int) -> Plane:
    """Each pixel with its neighbours along an axis, by a symmetric kernel: weights[0] is the middle's."""
    radius = len(weights) - 1
    pad = [(0, 0)] * a.ndim
    pad[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(a, pad, mode="edge"), axis, 0)
    length = a.shape[axis]
    total = padded[radius : radius + length] * weights[0]
    for away, weight in enumerate(weights[1:], 1):
        total += weight * (
            padded[radius - away : radius - away + length] + padded[radius + away : radius + away + length]
        )
    return np.moveaxis(total, 0, axis)


def grid(width: int, height: int) -> tuple[Plane, Plane]:
    """(u, v): across and down in [0, 1], shapes (1, width) and (height, 1), ready to broadcast."""
    u = (np.arange(width, dtype=np.float32) + 0.5) / width
    v = (np.arange(height, dtype=np.float32) + 0.5) / height
    return u[None, :], v[:, None]


def to_segment(x: Plane, y: Plane, start: Plane, end: Plane) -> Plane:
    """Distance of each pixel to the segment from start to end."""
    dx, dy = float(end[0] - start[0]), float(end[1] - start[1])
    along = (((x - start[0]) * dx + (y - start[1]) * dy) / max(dx * dx + dy * dy, 1e-6)).clip(0, 1)
    distance: Plane = np.sqrt((x - start[0] - along * dx) ** 2 + (y - start[1] - along * dy) ** 2)
    return distance
