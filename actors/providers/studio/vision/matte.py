"""From a soft mask to a cut-out: which part of each pixel is person, and what colour that part has.

The mask's edge is drawn to the picture's own edges by a guided filter (He, Sun, Tang 2013, colour guide, on a
smaller copy as in their "Fast Guided Filter"), so hair and shoulders end where they end in the photo.  A
pixel on the edge mixes person and old background; the person's own colour is estimated by blur fusion (Forte
2021), or the old background would glow around them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.providers.studio.vision.planes import Plane, blur, box_mean, resized, smoothstep

GUIDE_SIDE = 448  # the filter's sums are made at this long side; its result is as sharp as the full guide
EDGE_EPSILON = 2e-4  # variance below which the guide counts as flat


@dataclass(frozen=True)
class Cutout:
    """colours: the person's own, also under a half covered pixel, (h, w, 3).  alpha: coverage, (h, w)."""

    colours: Plane
    alpha: Plane


def cut_out(colours: Plane, mask: Plane) -> Cutout:
    """The person of a picture, free of the background's colour.  mask: how surely a pixel is person, as the
    picture's shape."""
    drawn = _guided(colours, mask, radius=max(3, round(GUIDE_SIDE / 100)))
    # the filter smears a little far from edges; the curve gives certainty back to both ends
    alpha = smoothstep(0.12, 0.88, drawn)
    return Cutout(_own_colours(colours, alpha), alpha)


def _guided(guide: Plane, mask: Plane, *, radius: int) -> Plane:
    """The mask as a locally linear function of the guide's colours.  radius: in pixels of the small copy."""
    height, width = mask.shape
    scale = min(1.0, GUIDE_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small, target = resized(guide, *size), resized(mask, *size)
    mean, mean_target = box_mean(small, radius), box_mean(target, radius)
    with_target = box_mean(small * target[..., None], radius) - mean * mean_target[..., None]
    slope = _solve_symmetric(_covariance(small, mean, radius), with_target)
    offset = mean_target - (slope * mean).sum(-1)
    slope, offset = box_mean(slope, radius), box_mean(offset, radius)
    result: Plane = (resized(slope, width, height) * guide).sum(-1) + resized(offset, width, height)
    return result


Covariance = tuple[Plane, Plane, Plane, Plane, Plane, Plane]


def _covariance(colours: Plane, mean: Plane, radius: int) -> Covariance:
    """rr, rg, rb, gg, gb, bb of each pixel's neighbourhood, the diagonal raised by EDGE_EPSILON."""
    r, g, b = np.moveaxis(colours, -1, 0)
    products = box_mean(np.stack([r * r, r * g, r * b, g * g, g * b, b * b], -1), radius)
    r, g, b = np.moveaxis(mean, -1, 0)
    products -= np.stack([r * r, r * g, r * b, g * g, g * b, b * b], -1)
    rr, rg, rb, gg, gb, bb = np.moveaxis(products, -1, 0)
    return rr + EDGE_EPSILON, rg, rb, gg + EDGE_EPSILON, gb, bb + EDGE_EPSILON


def _solve_symmetric(matrix: Covariance, right: Plane) -> Plane:
    """x with matrix·x = right for each pixel, by cofactors."""
    rr, rg, rb, gg, gb, bb = matrix
    c00, c01, c02 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c11, c12, c22 = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = rr * c00 + rg * c01 + rb * c02
    x, y, z = np.moveaxis(right, -1, 0)
    solved = np.stack(
        [c00 * x + c01 * y + c02 * z, c01 * x + c11 * y + c12 * z, c02 * x + c12 * y + c22 * z], -1
    )
    return solved / determinant[..., None]


def _own_colours(colours: Plane, alpha: Plane) -> Plane:
    """The person's colour at every pixel: seen where alpha is 1, inferred from the surroundings where it is
    less."""
    long_side = max(alpha.shape)
    estimate, behind = _blur_fusion(colours, colours, colours, alpha, sigma=long_side / 24)
    estimate, _ = _blur_fusion(colours, estimate, behind, alpha, sigma=max(1.0, long_side / 280))
    return estimate.clip(0, 1)


def _blur_fusion(
    colours: Plane, front: Plane, behind: Plane, alpha: Plane, *, sigma: float
) -> tuple[Plane, Plane]:
    """One round: smooth both layers over what is surely theirs, then give the front what is missing to
    explain the pixel."""
    a = alpha[..., None]
    sums = blur(np.concatenate([front * a, behind * (1 - a), a], -1), sigma)
    weight = sums[..., 6:]
    front = sums[..., :3] / (weight + 1e-5)
    behind = sums[..., 3:6] / (1 - weight + 1e-5)
    return front + a * (colours - a * front - (1 - a) * behind), behind
