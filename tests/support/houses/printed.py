"""Finished works with real files behind them, for tests of what is shown and sent of them."""

from __future__ import annotations

import io
from typing import Any

from supervisor.store.tasks import claims
from tests.support.houses.shop import Shop
from tests.support.houses.web_server import picture_bytes

SMALL = picture_bytes("PNG", (8, 6))


async def printed(shop: Shop, pictures: int = 1, *, type_: str = "photography", outputs: Any = None) -> str:
    """One more finished work, each picture of a size of its own; its id."""
    (task_id,) = await shop.order(type_=type_)
    (claim,) = [each for each in await shop.claim() if each.task_id == task_id]
    files, made = shop.web.context.files, []
    for n in range(pictures):
        key, small = f"results/{task_id}/1-1-{n}.png", f"results/{task_id}/1-1-{n}-thumbnail.png"
        files.put(key, io.BytesIO(picture_of(n)))
        files.put(small, io.BytesIO(SMALL))
        thumbnail = {"key": small, "width": 8, "height": 6}
        made.append({"key": key, "width": 20 + n, "height": 10, "thumbnail": thumbnail})
    ended = claims.Made(task_id, claim.lease, made, outputs=outputs)
    await shop.write(lambda tx: claims.complete_all(tx, [ended]).get())
    return str(shop.web.sql("SELECT work_id FROM task_queue WHERE id = ?", task_id)[0][0])


def picture_of(n: int) -> bytes:
    """The n-th picture of a work, from 0."""
    return picture_bytes("PNG", (20 + n, 10))
