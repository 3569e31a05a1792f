"""Bending a picture so that chosen points fall where they should: a thin-plate spline.

The spline bends as little as it can while it carries each point to its place (Bookstein 1989); `stiffness`
lets it miss a little where the points ask for folds.  It is solved from the result to the source, so each
result pixel knows where to look.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points = NDArray[np.float64]  # (n, 2)
CELL = 16  # pixels of the mesh: within a cell the spline is as good as straight


def warp(
    picture: Image.Image, source: Points, target: Points, size: tuple[int, int], *, stiffness: float
) -> Image.Image:
    """`picture` (RGBA) bent so that each source point lies at its target, on a clear canvas of `size`."""
    backwards = thin_plate_spline(target, source, stiffness=stiffness)
    across, down = np.arange(0, size[0] + CELL, CELL), np.arange(0, size[1] + CELL, CELL)
    corners = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2).astype(np.float64)
    found = backwards(corners).reshape(len(down), len(across), 2)
    mesh = [
        (
            (int(across[i]), int(down[j]), int(across[i + 1]), int(down[j + 1])),
            (*found[j, i], *found[j + 1, i], *found[j + 1, i + 1], *found[j, i + 1]),
        )
        for j in range(len(down) - 1)
        for i in range(len(across) - 1)
    ]
    canvas = int(across[-1]), int(down[-1])
    premultiplied = picture.convert("RGBa")  # or the clear pixels' colour would bleed into the edge
    bent = premultiplied.transform(canvas, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)
    return bent.convert("RGBA").crop((0, 0, *size))


def thin_plate_spline(source: Points, target: Points, *, stiffness: float) -> Callable[[Points], Points]:
    """The map that carries each source point to its target, as a function of points."""
    unit = float(np.ptp(source, 0).max())  # the equations are well conditioned near 1
    places, count = source / unit, len(source)
    bends = _bend(_distances(places, places)) + stiffness * np.eye(count)
    plane = np.c_[np.ones(count), places]
    matrix = np.block([[bends, plane], [plane.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(matrix, np.r_[target, np.zeros((3, 2))])

    def carried(points: Points) -> Points:
        at = points / unit
        moved: Points = (
            _bend(_distances(at, places)) @ weights[:count] + np.c_[np.ones(len(at)), at] @ weights[count:]
        )
        return moved

    return carried


def _distances(a: Points, b: Points) -> NDArray[np.float64]:
    apart: NDArray[np.float64] = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return apart


def _bend(r: NDArray[np.float64]) -> NDArray[np.float64]:
    """r² log r, the least bent surface around one point."""
    bent: NDArray[np.float64] = r * r * np.log(np.maximum(r, 1e-12))
    return bent
