"""From published changes to open streams: changes that are published together are encoded once and written together.

Changes wait here per user for at most one turn of the event loop, so those of one commit or one page of the log need
one write for each stream.  Thousands of writes are split into slices, with other work in between.  The publisher waits
for `delivered` at intervals, which limits the number of waiting changes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from web.feed.stream import Batch, Event, Stream, batches_of

log = logging.getLogger("darkroom.web")

STREAMS_A_SLICE = 500  # some 5 ms of writes

StreamsOf = Callable[[str], Iterable[Stream]]
Tally = Callable[[Sequence[Event], int], None]


class FanOut:
    """Deliveries under way.

    streams_of: a user's open streams.  tally: called with events, and the number of streams that took them at once.
    """

    def __init__(self, streams_of: StreamsOf, tally: Tally) -> None:
        self._streams_of, self._tally = streams_of, tally
        self._waiting: dict[str, list[Event]] = {}
        self._writes: Iterator[None] | None = None
        self._all_delivered = asyncio.Event()
        self._all_delivered.set()

    def add(self, user: str, event: Event) -> None:
        """Deliver the event soon, after all that was added before it for this user."""
        self._waiting.setdefault(user, []).append(event)
        if self._writes is None:
            self._writes = self._write_all()
            self._all_delivered.clear()
            asyncio.get_running_loop().call_soon(self._write_slice)

    async def delivered(self) -> None:
        """Return when nothing waits here, after at least one turn of the event loop."""
        await asyncio.sleep(0)
        await self._all_delivered.wait()

    def _write_slice(self) -> None:
        assert self._writes is not None
        written = sum(1 for _ in itertools.islice(self._writes, STREAMS_A_SLICE))
        if written == STREAMS_A_SLICE:
            asyncio.get_running_loop().call_soon(self._write_slice)
        else:
            self._writes = None
            self._all_delivered.set()

    def _write_all(self) -> Iterator[None]:
        """Write until nothing waits; yields after each stream."""
        while self._waiting:
            user = next(iter(self._waiting))
            for batch in batches_of(self._waiting.pop(user)):
                taken = 0
                # later streams have read these changes themselves
                for stream in list(self._streams_of(user)):
                    taken += self._offer(stream, batch)
                    yield
                if taken:
                    self._tally(batch.events, taken)

    def _offer(self, stream: Stream, batch: Batch) -> bool:
        try:
            return stream.offer(batch)
        except Exception:  # an error of one stream must not stop all others
            log.exception("a feed could not be written to")
            stream.hang_up()
            return False
