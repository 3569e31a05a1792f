"""From published changes to open streams: what is published together is made into bytes once and written together.

Changes wait here per user for one turn of the event loop at most, so those of one commit or one page of the log go
out in one write a stream.  Thousands of writes are done in slices, with the rest of the process served in between;
whoever publishes waits for `delivered` now and then, so what waits here is bounded by what is published in between.
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

    streams_of: a user's open streams.  tally: told of events, and of how many streams took them at once.
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
        """Return when nothing waits here, and never before the event loop has turned once."""
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
                for stream in list(self._streams_of(user)):  # who comes later has read these changes
                    taken += self._offer(stream, batch)
                    yield
                if taken:
                    self._tally(batch.events, taken)

    def _offer(self, stream: Stream, batch: Batch) -> bool:
        try:
            return stream.offer(batch)
        except Exception:  # one stream's trouble must not become everybody's silence
            log.exception("a feed could not be written to")
            stream.hang_up()
            return False
