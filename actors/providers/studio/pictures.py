"""The pictures of an order, by whatever makes its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from actors.providers.studio.orders.order import Order

if TYPE_CHECKING:
    from actors.providers.studio.orders.delivery import Delivered


def make_pictures(order: Order, progress: Callable[[int, str], None]) -> Iterator[Delivered]:
    """Each picture as it is done.  What makes it is loaded here: models, and a hundred megabytes."""
    if order.task == "photography":
        from actors.providers.studio.photography.photography import photograph

        return photograph(order, progress)
    if order.task == "fitting":
        from actors.providers.studio.fitting.fitting import fit

        return fit(order, progress)
    from actors.providers.studio.retouching.each_input import change_each

    if order.task == "cut_out":
        from actors.providers.studio.retouching.cut_out import cut_out

        return change_each(order, progress, cut_out)
    from actors.providers.studio.retouching.enlarge import enlarge

    return change_each(order, progress, lambda picture: enlarge(picture, order.factor))
