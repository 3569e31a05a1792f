"""Readers of the feed that come and go: each applies its changes and must receive each exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

from supervisor.core.errors import Fault
from web.feed.feed_event import EventId
from web.feed.resume import Everything, read_on, read_opening

if TYPE_CHECKING:
    from tests.histories.world import World


NEWEST = 100  # works of a snapshot


class Reader:
    """One client of one user."""

    def __init__(self, world: World, user: str) -> None:
        self._world, self.user = world, user
        self.place: EventId | None = None
        self.works: dict[str, dict[str, Any]] = {}
        # older works of that moment are unknown to it, also when there are fewer
        self.began_with_the_newest = False

    async def run(self) -> None:
        """Read on from time to time, for ever."""
        draw = self._world.draw
        while True:
            await asyncio.sleep(draw.choice((0.5, 5.0, 60.0, 900.0)) * draw.random())
            if self._world.model.knows(self.user):
                with contextlib.suppress(Fault):
                    await self.catch_up()

    async def catch_up(self) -> None:
        """Read until nothing is left to read."""
        door, user = self._world.doors["web"], self.user
        given = None if self.place is None else str(self.place)
        opening = await door.read_async(lambda tx: read_opening(tx, user, given))
        while not isinstance(opening, Everything):
            self._hear(opening.changes)
            if not opening.has_more:
                return
            self.place = opening.place
            opening = await door.read_async(functools.partial(read_on, user=user, place=opening.place))
        self.place = opening.place
        self.works = {work["_id"]: work for work in opening.snapshot.works}
        self.began_with_the_newest = len(self.works) == NEWEST

    def _hear(self, changes: Any) -> None:
        assert self.place is not None
        for change in changes:
            if change.seq != self.place.seq + 1:
                self._world.model.broken(
                    f"a reader of {self.user} at {self.place.seq} was told {change.seq} and no reset"
                )
            self.place = EventId(self.place.epoch, change.seq)
            if change.data_type == "remove":
                self.works.pop(change.doc_id, None)
            else:
                self.works[change.doc_id] = change.doc
