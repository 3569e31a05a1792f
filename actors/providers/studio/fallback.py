"""A framed, graded card with Pillow alone, for when the `studio` extra (numpy and the model runner) is not
installed.

It searches no person and bends no garment; the pictures and the last stage say so.  Nothing is cut out, and a picture
is enlarged by interpolation alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from actors.providers.studio.orders.delivery import Delivered, deliver
from actors.providers.studio.orders.faults import StudioFault
from actors.providers.studio.orders.order import OF_EACH_INPUT, Order
from actors.providers.studio.orders.originals import on_white, read_picture
from actors.providers.studio.retouching.each_input import change_each

STAGE = "made without the studio models"
Progress = Callable[[int, str], None]
Colour = tuple[int, int, int]
PALETTES: dict[str, tuple[tuple[Colour, Colour], ...]] = {  # (above, below) of the mount
    "studio": (
        ((236, 232, 226), (120, 116, 112)),
        ((206, 216, 224), (78, 92, 108)),
        ((228, 214, 204), (128, 92, 80)),
    ),
    "sunset": (
        ((52, 48, 110), (255, 176, 104)),
        ((96, 44, 96), (255, 150, 120)),
        ((70, 110, 160), (255, 214, 150)),
    ),
    "night": (((12, 14, 34), (86, 60, 130)), ((8, 26, 40), (30, 110, 120)), ((30, 12, 20), (140, 56, 48))),
}


def make_without_models(order: Order, progress: Progress) -> Iterator[Delivered]:
    """What can be made of the order: cards in place of portraits and fittings, plain enlargements, no cut-outs.
    Raises StudioFault."""
    if order.task not in OF_EACH_INPUT:
        return make_cards(order, progress)
    if order.task == "cut_out":
        raise StudioFault(
            "Nothing can be cut out here: the models of the studio are not installed. The operator installs them with "
            "`pip install 'darkroom-queue[studio]'`."
        )
    return change_each(order, progress, lambda picture: interpolated(picture, order.factor))


def interpolated(picture: Image.Image, factor: int) -> Image.Image:
    """The picture, `factor` times as large, a little sharpened."""
    large = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.LANCZOS)
    return large.filter(ImageFilter.UnsharpMask(radius=0.5 * factor, percent=60, threshold=2))


def make_cards(order: Order, progress: Progress) -> Iterator[Delivered]:
    """Make the order's cards one by one.  Raises ImageUnusable before the first."""
    progress(5, "reading the photo")
    person = on_white(read_picture(order.person, size=order.size, which="first"))
    garment = (
        on_white(read_picture(order.garment, size=order.size, which="second")) if order.garment else None
    )
    share = 85 / len(order.pictures)
    for done, n in enumerate(order.pictures):
        progress(10 + int(share * done), STAGE)
        yield deliver(card(person, garment, order, n), order.out, n)
    progress(99, STAGE)


def card(person: Image.Image, garment: Image.Image | None, order: Order, n: int) -> Image.Image:
    """Card n: the photo, with the garment beside it for a fitting, on a mount in the scene's colours."""
    chance = random.Random(f"{order.seed}-{order.scene}-{n}")
    palettes = PALETTES.get(order.scene, PALETTES["studio"])
    above, below = palettes[n % len(palettes)]
    size = order.size
    mount = _mount(size, above, below, chance)
    photos = [person] if garment is None else [person, garment]
    width, height = int(size * (0.78 if garment is None else 0.42)), int(size * 0.84)
    gap = (size - len(photos) * width) // (len(photos) + 1)
    for place, photo in enumerate(photos):
        fitted = ImageOps.fit(photo, (width, height), Image.Resampling.LANCZOS, centering=(0.5, 0.25))
        _hang(mount, _graded(fitted, above, below), gap + place * (width + gap), int(size * 0.05))
    text = ImageDraw.Draw(mount)
    text.text(
        (size / 2, size * 0.945),
        f"{n + 1} / {order.count}  ·  {STAGE}",
        font=ImageFont.load_default(size / 40),
        fill="white",
        anchor="mm",
    )
    return mount


def _mount(size: int, above: Colour, below: Colour, chance: random.Random) -> Image.Image:
    """A gradient with a few soft lights."""
    ramp = Image.linear_gradient("L").resize((size, size))
    mount = Image.composite(
        Image.new("RGB", (size, size), below), Image.new("RGB", (size, size), above), ramp
    )
    draw = ImageDraw.Draw(mount, "RGBA")
    for _ in range(40):
        radius, x, y = (
            chance.randint(size // 100, size // 16),
            chance.randint(0, size),
            chance.randint(0, size),
        )
        draw.ellipse(
            (x - radius, y - radius, x + radius, y + radius), fill=(255, 230, 200, chance.randint(8, 40))
        )
    return mount.filter(ImageFilter.GaussianBlur(size / 500))


def _graded(photo: Image.Image, above: Colour, below: Colour) -> Image.Image:
    tinted = ImageOps.colorize(photo.convert("L"), above, "white", mid=below)
    return ImageEnhance.Contrast(Image.blend(photo, tinted, 0.16)).enhance(1.06)


def _hang(mount: Image.Image, photo: Image.Image, x: int, y: int) -> None:
    """Lay a photo with round corners and a soft shadow on the mount."""
    size = mount.width
    corners = Image.new("L", photo.size, 0)
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, photo.width - 1, photo.height - 1), size // 24, fill=255)
    shadow = Image.new("L", mount.size, 0)
    shadow.paste(corners, (x + size // 100, y + size // 64))
    shadow = ImageChops.multiply(
        shadow.filter(ImageFilter.GaussianBlur(size / 50)), Image.new("L", mount.size, 170)
    )
    mount.paste(ImageEnhance.Brightness(mount).enhance(0.4), mask=shadow)
    mount.paste(photo, (x, y), corners.filter(ImageFilter.GaussianBlur(1)))
