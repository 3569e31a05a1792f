"""What stands behind the person: a studio wall, a sunset, a city at night, painted by arithmetic and chance.

Each backdrop comes with its light, so that the person can be lit as the place would light them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from actors.providers.studio.vision.planes import Plane, blur, grid, resized, smoothstep

Colour = tuple[int, int, int]
Chance = np.random.Generator


@dataclass(frozen=True)
class Light:
    """tint: what white becomes.  exposure: factor on the person.  side: where the key light stands, −1 left …
    1 right. key: how much that side is brighter.  rim, rim_colour: the light that grazes the outline.  wrap:
    how much of the backdrop spills over it.  ambient: share of the backdrop's mean colour in the
    shadows.  shadow: how dark the person's own shadow is."""

    tint: tuple[float, float, float]
    exposure: float
    side: float
    key: float
    rim: float
    rim_colour: tuple[float, float, float]
    wrap: float
    ambient: float
    shadow: float


@dataclass(frozen=True)
class Backdrop:
    colours: Plane
    light: Light


def backdrop(scene: str, width: int, height: int, chance: Chance, n: int) -> Backdrop:
    """The backdrop of picture n of a scene.  Neighbouring n have different palettes; chance moves the rest."""
    # half size is enough for what is out of focus, and four times faster
    painted = PAINTERS[scene](max(2, width // 2), max(2, height // 2), chance, n)
    return Backdrop(
        resized(painted.colours, width, height, Image.Resampling.BICUBIC).clip(0, 1), painted.light
    )


def _rgb(colour: Sequence[float]) -> Plane:
    return np.array(colour, np.float32) / 255


def _gradient(down: Plane, stops: Sequence[tuple[float, Colour]]) -> Plane:
    """Colours for each value of `down`, interpolated between stops."""
    at = [stop[0] for stop in stops]
    return np.stack([np.interp(down, at, [stop[1][i] / 255 for stop in stops]) for i in range(3)], -1).astype(
        np.float32
    )


def _clouded(width: int, height: int, chance: Chance, *, cells: tuple[int, int], octaves: int = 5) -> Plane:
    """Smooth noise in about [−1, 1]: sums of ever finer random grids.  cells: of the coarsest grid, across
    and down."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        across, down = cells[0] * 2**octave + 1, cells[1] * 2**octave + 1
        noise = chance.uniform(-1, 1, (min(down, height), min(across, width))).astype(np.float32)
        total += resized(noise, width, height, Image.Resampling.BICUBIC) * np.float32(0.55**octave)
    return total


# ── studio ────────────────────────────────────────────────────────────────────────────────────────────────────────────

WALLS: tuple[tuple[Colour, Colour], ...] = (  # (lit, in shadow)
    ((226, 221, 213), (122, 115, 108)),  # warm grey
    ((128, 152, 172), (38, 52, 70)),  # slate blue
    ((206, 170, 150), (104, 70, 60)),  # clay
    ((152, 166, 142), (56, 68, 54)),  # sage
    ((112, 110, 112), (26, 26, 30)),  # charcoal
    ((222, 196, 198), (128, 92, 100)),  # rose
    ((216, 190, 132), (110, 82, 42)),  # ochre
    ((168, 152, 186), (62, 50, 82)),  # lavender
)


def _studio(width: int, height: int, chance: Chance, n: int) -> Backdrop:
    """A hand-painted canvas with one pool of light behind the sitter."""
    u, v = grid(width, height)
    lit, dark = WALLS[n % len(WALLS)]
    side = float(chance.choice([-1.0, 1.0]))
    x, y, reach = (
        0.5 - side * chance.uniform(0.02, 0.16),
        chance.uniform(0.3, 0.46),
        chance.uniform(0.55, 0.72),
    )
    distance = np.sqrt((u - x) ** 2 * (width / height) ** 0.5 + (v - y) ** 2 * (height / width) ** 0.5)
    strokes = (
        _clouded(width, height, chance, cells=(3, 4), octaves=4) * 0.07
        + _clouded(width, height, chance, cells=(9, 7)) * 0.022
    )
    pool = (1 - smoothstep(0.0, float(reach), distance + strokes))[..., None]
    colours = _rgb(dark) + (_rgb(lit) - _rgb(dark)) * pool + strokes[..., None] * 0.10
    light = Light((1.0, 1.0, 1.0), 1.02, side, 0.10, 0.10, (1.0, 0.98, 0.95), 0.10, 0.05, 0.30)
    return Backdrop(blur(colours, width / 160), light)


# ── sunset ────────────────────────────────────────────────────────────────────────────────────────────────────────────

SKIES: tuple[
    tuple[Sequence[tuple[float, Colour]], Colour, Colour], ...
] = (  # (sky from the top to the horizon, sun, land)
    (
        ((0, (52, 66, 122)), (0.45, (196, 112, 116)), (0.8, (252, 172, 96)), (1, (255, 216, 144))),
        (255, 226, 168),
        (46, 30, 52),
    ),
    (
        ((0, (58, 44, 104)), (0.5, (190, 86, 128)), (0.85, (250, 140, 104)), (1, (255, 190, 130))),
        (255, 206, 150),
        (40, 24, 56),
    ),
    (
        ((0, (70, 120, 168)), (0.5, (172, 186, 190)), (0.82, (250, 208, 140)), (1, (255, 228, 170))),
        (255, 240, 200),
        (64, 52, 46),
    ),
    (
        ((0, (36, 34, 66)), (0.5, (136, 54, 70)), (0.82, (228, 92, 52)), (1, (252, 160, 70))),
        (255, 196, 110),
        (26, 14, 24),
    ),
)


def _sunset(width: int, height: int, chance: Chance, n: int) -> Backdrop:
    """A low sun over the sea or over hills, out of focus."""
    u, v = grid(width, height)
    stops, sun, land = SKIES[n % len(SKIES)]
    horizon, side = float(chance.uniform(0.56, 0.66)), float(chance.choice([-1.0, 1.0]))
    sun_x, sun_y = 0.5 + side * chance.uniform(0.2, 0.36), horizon - chance.uniform(0.03, 0.14)
    colours = _gradient(np.broadcast_to(v / horizon, (height, width)), stops)
    colours = _with_clouds(colours, v / horizon, sun, chance)
    distance = np.sqrt((u - sun_x) ** 2 * (width / height) ** 2 + (v - sun_y) ** 2)[..., None]
    glow = (
        np.exp(-((distance / 0.05) ** 4))
        + 0.38 * np.exp(-((distance / 0.14) ** 2))
        + 0.16 * np.exp(-((distance / 0.5) ** 2))
    )
    # light adds up as on film: towards white, but never quite there
    colours = 1 - (1 - colours.clip(0, 1)) * (1 - glow * _rgb(sun) * (v < horizon)[..., None]).clip(0, 1)
    paint = _sea if n % 2 == 0 else _hills
    colours = paint(colours, horizon, float(sun_x), _rgb(sun), _rgb(land), chance)
    light = Light((1.07, 0.965, 0.86), 1.0, side, 0.22, 0.75, (1.0, 0.72, 0.42), 0.30, 0.12, 0.0)
    return Backdrop(blur(colours, width / 190), light)


def _with_clouds(sky: Plane, down: Plane, sun: Colour, chance: Chance) -> Plane:
    height, width = sky.shape[:2]
    cover = smoothstep(0.15, 1.0, _clouded(width, height, chance, cells=(2, 7)) + 0.1)
    cover = cover * (1 - smoothstep(0.75, 1.0, down)) * 0.6
    lit = sky * 0.55 + _rgb(sun) * 0.5
    return sky + (lit - sky) * cover[..., None]


def _sea(colours: Plane, horizon: float, sun_x: float, sun: Plane, land: Plane, chance: Chance) -> Plane:
    """The sky mirrored, darkened towards the shore, with the sun's path on the waves."""
    height, width = colours.shape[:2]
    u, v = grid(width, height)
    line = min(height - 2, max(2, round(horizon * height)))
    rows = (line - 1 - (np.arange(height) - line) * line // max(1, height - line)).clip(0, line - 1)
    depth = ((v - horizon) / (1 - horizon)).clip(0, 1)
    mirrored = colours[rows] * 0.62 * (1 - 0.55 * depth[..., None]) + land * (0.25 + 0.35 * depth[..., None])
    waves = _clouded(width, height, chance, cells=(6, 40), octaves=3)
    path = np.exp(-(((u - sun_x) / (0.035 + 0.22 * depth)) ** 2)) * smoothstep(-0.3, 0.7, waves)
    water = mirrored * (1 + 0.22 * waves[..., None]) + (path * (1 - 0.5 * depth))[..., None] * sun * 0.75
    return np.where((v > horizon)[..., None], water, colours)


def _hills(colours: Plane, horizon: float, sun_x: float, sun: Plane, land: Plane, chance: Chance) -> Plane:
    """Ridges behind ridges; the farther, the more of the sky's light lies before them."""
    height, width = colours.shape[:2]
    u, v = grid(width, height)
    haze = colours[min(height - 1, round(horizon * height))].mean(0) * 0.8
    for layer in range(4):
        ridge = _clouded(width, 1, chance, cells=(2 + layer, 1), octaves=4)[0]
        top = horizon - 0.02 + layer * 0.075 + ridge * (0.035 + 0.012 * layer)
        nearness = (layer + 1) / 4
        glow = np.exp(-(((u - sun_x) / 0.3) ** 2))[..., None] * sun * 0.25 * (1 - nearness)
        colour = haze * (1 - nearness) + land * nearness + glow
        colours = np.where(
            (v > top)[..., None], colour * (1 - 0.25 * ((v - top).clip(0, 0.4) / 0.4))[..., None], colours
        )
    return colours


# ── night ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

STREETS: tuple[tuple[Colour, Colour, Sequence[Colour]], ...] = (  # (sky, street, lamps)
    ((14, 18, 44), (36, 28, 40), ((255, 176, 88), (255, 214, 150), (255, 120, 70), (120, 160, 255))),
    ((24, 10, 48), (44, 16, 60), ((255, 60, 150), (80, 200, 255), (170, 90, 255), (255, 150, 200))),
    ((6, 26, 40), (14, 40, 52), ((80, 230, 220), (120, 180, 255), (255, 236, 190), (60, 140, 255))),
    ((30, 14, 16), (48, 24, 20), ((255, 90, 60), (255, 190, 90), (255, 140, 60), (255, 230, 190))),
)


def _night(width: int, height: int, chance: Chance, n: int) -> Backdrop:
    """City lamps far out of focus over a wet street, before dark house fronts."""
    _, v = grid(width, height)
    sky, street, lamps = STREETS[n % len(STREETS)]
    kerb = float(chance.uniform(0.68, 0.78))
    down = np.broadcast_to(v, (height, width))
    colours = _gradient(down, ((0, sky), (kerb, street), (1, (8, 8, 14))))
    colours = blur(colours * _fronts(width, height, chance)[..., None], width / 60)
    shine = _lamps(width, height, kerb, lamps, chance)
    line = min(height - 1, round(kerb * height))
    wet = np.zeros_like(shine)
    wet[line:] = shine[:line][::-1][: height - line] if line >= height - line else 0
    wet = blur(wet, width / 50) * 0.8
    haze = blur(shine, width / 9) * 0.9  # the air itself glows a little around so many lamps
    side = float(chance.choice([-1.0, 1.0]))
    rim = tuple(float(c) for c in _rgb(lamps[0]))
    light = Light((1.0, 0.965, 1.03), 0.84, side, 0.24, 0.85, (rim[0], rim[1], rim[2]), 0.26, 0.10, 0.0)
    return Backdrop(colours + shine + wet + haze, light)


def _fronts(width: int, height: int, chance: Chance) -> Plane:
    """House fronts as shades of the dark: a factor for each column above its roof line."""
    shade = np.ones((height, width), np.float32)
    left = 0
    while left < width:
        right = left + max(2, int(chance.uniform(0.08, 0.2) * width))
        roof = int(chance.uniform(0.02, 0.4) * height)
        shade[roof:, left:right] *= np.float32(chance.uniform(0.45, 0.95))
        left = right
    return shade


def _lamps(width: int, height: int, kerb: float, palette: Sequence[Colour], chance: Chance) -> Plane:
    """Discs of light: many small ones near the vanishing point, a few large ones close to the camera."""
    light = np.zeros((height, width, 3), np.float32)
    x, y = np.arange(width, dtype=np.float32)[None, :], np.arange(height, dtype=np.float32)[:, None]
    for _ in range(120):
        nearness = float(chance.beta(1.3, 3.2))
        radius = (0.012 + 0.075 * nearness) * (width * height) ** 0.5
        centre_x = width * (0.5 + (chance.uniform(-0.62, 0.62)) * (0.75 + 0.5 * nearness))
        centre_y = height * (kerb - 0.04 - (0.22 + 0.85 * nearness) * chance.beta(1.1, 1.7))
        left, right = int(max(0, centre_x - radius - 2)), int(min(width, centre_x + radius + 3))
        top, bottom = int(max(0, centre_y - radius - 2)), int(min(height, centre_y + radius + 3))
        if left >= right or top >= bottom:
            continue
        distance = np.sqrt((x[:, left:right] - centre_x) ** 2 + (y[top:bottom] - centre_y) ** 2)
        # Lenses draw a brighter edge.
        disc = (radius - distance).clip(0, 1) * (0.72 + 0.28 * (distance / radius) ** 3)
        colour = _rgb(palette[int(chance.integers(len(palette)))]) * np.float32(
            chance.uniform(0.22, 0.75) * (1.1 - nearness)
        )
        light[top:bottom, left:right] += disc[..., None] * colour
    return blur(light, max(0.8, width / 500))


PAINTERS: dict[str, Callable[[int, int, Chance, int], Backdrop]] = {
    "studio": _studio,
    "sunset": _sunset,
    "night": _night,
}
