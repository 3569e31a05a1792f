"""The pictures of an order that changes its inputs: picture n from input n, Pillow only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from PIL import Image

from actors.providers.studio.orders.delivery import Delivered, deliver
from actors.providers.studio.orders.faults import ImageUnusable
from actors.providers.studio.orders.order import Order
from actors.providers.studio.orders.originals import MAX_PIXELS, read_picture

Progress = Callable[[int, str], None]
Change = Callable[[Image.Image], Image.Image]

CUT_OUT_SIDE = 2048  # of the long side; a larger photo is made smaller, since its outline is no finer
STAGES = {"cut_out": "cutting out the subject", "enlarge": "enlarging the picture"}
_WHICH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def change_each(order: Order, progress: Progress, change: Change) -> Iterator[Delivered]:
    """Each picture as it is done.  Raises ImageUnusable and what `change` raises."""
    share = 97 / len(order.pictures)
    for done, n in enumerate(order.pictures):
        progress(int(2 + share * done), STAGES[order.task])
        changed = change(_read(order, n))
        progress(int(2 + share * (done + 0.85)), "developing the picture")
        yield deliver(changed, order.out, n)


def _read(order: Order, n: int) -> Image.Image:
    which = _WHICH[n]
    if order.task == "cut_out":
        return read_picture(order.sources[n], size=CUT_OUT_SIDE, which=which, grow=False)
    picture = read_picture(order.sources[n], size=None, which=which)
    width, height = (side * order.factor for side in picture.size)
    if width * height > MAX_PIXELS:
        raise ImageUnusable(
            f"The {which} picture has {picture.width} × {picture.height} pixels. Enlarged {order.factor} times it "
            f"would have {width * height:,} pixels, but {MAX_PIXELS:,} is the most."
        )
    return picture
