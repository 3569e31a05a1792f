"""The garment of a product picture: cut from its plain background, with the points by which it will hang on a
body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from actors.providers.studio.orders.faults import ImageUnusable
from actors.providers.studio.orders.originals import on_white
from actors.providers.studio.vision.plain_background import is_a_subject, standing_out

SLEEVE_STEPS = 13  # places along a sleeve where its two edges are looked for
LONG_SLEEVE = 0.62  # a sleeve that ends lower than this share of the garment's height reaches the wrist


@dataclass(frozen=True)
class Garment:
    """picture: RGBA.  points: what hangs where, name → (x, y) in its pixels, "left" and "right" as seen.
    solid: where it is, (h, w).  long_sleeves: its sleeves reach the wrists."""

    picture: Image.Image
    points: dict[str, tuple[float, float]]
    long_sleeves: bool
    solid: NDArray[np.bool_]

    @property
    def has_sleeves(self) -> bool:
        return "left cuff" in self.points

    def body_picture(self) -> Image.Image:
        """The garment as if its sleeves were cut off at the side seams."""
        if not self.has_sleeves:
            return self.picture
        left, right = self.points["left hem"][0], self.points["right hem"][0]
        overlap = (right - left) * 0.008
        keep = Image.new("L", self.picture.size, 0)
        keep.paste(255, (int(left - overlap), 0, int(right + overlap), self.picture.height))
        cut = self.picture.copy()
        cut.putalpha(ImageChops.multiply(cut.getchannel("A"), keep))
        return cut

    def sleeve_picture(self, side: str, size: tuple[int, int]) -> Image.Image:
        """A sleeve laid straight: its armhole on the left, its cuff on the right, its outer edge above, and no
        background beside it.  size: width and height in pixels."""
        shoulder, armpit, cuff, underarm = (
            np.array(self.points[f"{side} {name}"]) for name in ("shoulder", "armpit", "cuff", "underarm")
        )
        steps = np.linspace(0.0, 1.0, SLEEVE_STEPS)[:, None]
        outer, inner = shoulder + (cuff - shoulder) * steps, armpit + (underarm - armpit) * steps
        outer, inner = self._edge(inner, outer), self._edge(outer, inner)
        places = np.linspace(0, size[0], SLEEVE_STEPS).round().astype(int)
        mesh = [
            ((int(places[n]), 0, int(places[n + 1]), size[1]),
             (*outer[n], *inner[n], *inner[n + 1], *outer[n + 1]))
            for n in range(SLEEVE_STEPS - 1)
        ]  # fmt: skip
        # the outline's own soft edge stays outside: the body's outline is the sleeve's
        return self.picture.convert("RGB").transform(
            size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR
        )

    def _edge(self, starts: NDArray[np.float64], ends: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the cloth ends on the lines from starts through ends, at most a fifth beyond; (n, 2)."""
        shares = np.linspace(0.55, 1.2, 66)
        lines = starts[:, None] + (ends - starts)[:, None] * shares[None, :, None]
        x, y = np.moveaxis(lines.round().astype(int), -1, 0)
        height, width = self.solid.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        cloth = inside & self.solid[y.clip(0, height - 1), x.clip(0, width - 1)]
        last = np.where(
            cloth.any(1), cloth.shape[1] - 1 - cloth[:, ::-1].argmax(1), np.argmin(abs(shares - 1))
        )
        share = (shares[last] - 0.03)[:, None]
        edge: NDArray[np.float64] = starts + (ends - starts) * share
        return edge


def find_garment(picture: Image.Image) -> Garment:
    """Raises ImageUnusable if nothing stands out from a plain background."""
    mask = _see_through(picture) if picture.mode == "RGBA" else standing_out(picture)
    if mask is None:
        raise ImageUnusable(
            "No garment was found in the second picture; "
            "show one garment, spread out, on a plain background that differs from it."
        )
    edge = ImageChops.multiply(mask, mask.filter(ImageFilter.GaussianBlur(max(mask.size) / 700)))
    cut = on_white(picture).copy()
    cut.putalpha(edge)
    solid = np.asarray(mask) > 127
    points, long_sleeves = _hanging_points(solid)
    return Garment(cut, points, long_sleeves, solid)


def _see_through(picture: Image.Image) -> Image.Image | None:
    """The picture's own transparency, where it says what the garment is."""
    alpha = picture.getchannel("A")
    return alpha if is_a_subject(np.asarray(alpha) > 127) else standing_out(on_white(picture))


def _hanging_points(solid: NDArray[np.bool_]) -> tuple[dict[str, tuple[float, float]], bool]:
    """Collar, shoulders, armpits, waist, hem and sleeve ends of a spread out upper garment."""
    rows = np.flatnonzero(solid.mean(1) > 0.01)
    top, bottom = float(rows[0]), float(rows[-1])
    tall = max(1.0, bottom - top)
    columns = np.flatnonzero(solid.any(0))
    # the run about the middle: a sleeve that hangs down beside the body is not its side
    low = [
        _run_about(solid[int(top + tall * t)], int(columns[[0, -1]].mean())) for t in (0.72, 0.8, 0.88, 0.95)
    ]
    left, right = float(np.median([a for a, _ in low])), float(np.median([b for _, b in low]))
    middle = (left + right) / 2
    armpit = _armpit(solid, top, tall, middle)
    column = np.flatnonzero(solid[:, int(middle)])
    points = {
        "collar": (middle, float(column[0]) if len(column) else top),
        "left neck": _neck(solid, left, middle),
        "right neck": _neck(solid, middle, right),
        "left shoulder": _shoulder(solid, left, top, tall),
        "right shoulder": _shoulder(solid, right, top, tall),
        "left armpit": (left, armpit),
        "right armpit": (right, armpit),
        "left waist": (left, top + tall * 0.68),
        "right waist": (right, top + tall * 0.68),
        "left hem": (left, bottom),
        "right hem": (right, bottom),
        "hem": (middle, bottom),
    }
    left_end, right_end = _sleeve_end(solid, left, -1), _sleeve_end(solid, right, 1)
    wide = right - left
    if left - left_end[0][0] < 0.15 * wide or right_end[0][0] - right < 0.15 * wide:
        return points, False
    points["left cuff"], points["left underarm"] = left_end
    points["right cuff"], points["right underarm"] = right_end
    return points, left_end[1][1] - top > LONG_SLEEVE * tall


def _run_about(row: NDArray[np.bool_], x: int) -> tuple[int, int]:
    """The first and the last pixel of the cloth around x; of all cloth in the row where there is none at x."""
    filled = np.flatnonzero(row)
    if not len(filled):
        return 0, len(row) - 1
    if not row[x]:
        return int(filled[0]), int(filled[-1])
    gaps = np.flatnonzero(~row)
    before, after = gaps[gaps < x], gaps[gaps > x]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) - 1 if len(after) else len(row) - 1


def _shoulder(solid: NDArray[np.bool_], x: float, top: float, tall: float) -> tuple[float, float]:
    """Where the garment begins above the side seam: the outer end of its shoulder."""
    column = np.flatnonzero(solid[:, int(x)])
    return x, min(float(column[0]) if len(column) else top, top + 0.25 * tall)


def _neck(solid: NDArray[np.bool_], left: float, right: float) -> tuple[float, float]:
    """The highest point of one half of the garment, left … right: where its neckline begins."""
    half = solid[:, int(left) : max(int(left) + 1, int(right))]
    tops = np.where(half.any(0), half.argmax(0), half.shape[0])
    highest = int(tops.argmin())
    return int(left) + float(highest), float(tops[highest])


def _armpit(solid: NDArray[np.bool_], top: float, tall: float, middle: float) -> float:
    """The height where sleeves part from the body; a third of the way down where they never do."""
    for y in range(int(top + 0.12 * tall), int(top + 0.6 * tall)):
        row = solid[y]
        starts = np.flatnonzero(row[1:] & ~row[:-1])
        if len(starts) >= 3 and row[int(middle)]:
            return float(y)
    return top + 0.33 * tall


def _sleeve_end(
    solid: NDArray[np.bool_], seam: float, direction: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The two corners of a sleeve's end: the point farthest from the side seam, and the lowest well beyond
    it."""
    ys, xs = np.nonzero(solid)
    beyond = (xs - seam) * direction
    outer = int(beyond.argmax())
    lowest = int(np.where(beyond > 0.2 * beyond[outer], ys, -1).argmax())
    return (float(xs[outer]), float(ys[outer])), (float(xs[lowest]), float(ys[lowest]))
