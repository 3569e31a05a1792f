"""The event stream of a user's works: opened again and again, and yet one sequence, with no event missing or twice.

A *place* `<epoch>-<seq>` is how far one has read; `seq` counts a user's changes without a gap.  The server goes on
after the place that it is told, or answers with `reset` if it no longer can.  So the one thing to get right is the
place: it moves with each event that is passed on, and never otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from urllib.parse import quote

from darkroom_client import errors
from darkroom_client.effects import Answer, Broken, Flow, GetToken, Item, Open, Pause, Read, Request
from darkroom_client.event_stream import StreamEvent, StreamParser
from darkroom_client.models import Event, Task, event_of, task_of, work_of
from darkroom_client.repeating import LATER, REPEATED, Setup, answered, error_of

SILENCE_SECONDS = 45.0  # the stream beats every 15 s: three missed beats are a dead connection
FIRST_RETRY_SECONDS = 1.0  # until the server has named its own
LONGEST_PAUSE_SECONDS = 30.0
LONGEST_RETRY_SECONDS = 300.0
OUTAGE_SECONDS = 600.0  # after so long without any answer a watch is given up
ROTATE_SECONDS = (5, 3600)  # what `?rotate=` may be
_CROWDED = "too_many_streams"


class Watch:
    """since: the place to go on from; None for a beginning with `init`."""

    def __init__(
        self,
        setup: Setup,
        since: str | None = None,
        outage_seconds: float | None = OUTAGE_SECONDS,
        until: float | None = None,
    ) -> None:
        self._setup, self._outage_seconds, self._until = setup, outage_seconds, until
        self.place = since
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._failures = 0  # attempts in a row that brought nothing
        self._away_since = 0.0  # when the first of them failed
        self._parser: StreamParser | None = None  # None: no stream is open
        self._token: str | None = None

    def more(self, *, waits_for_room: bool = True) -> Flow[list[Event]]:
        """The next events, at least one; none once `until` has come.

        waits_for_room: whether to try again when the user has too many streams open, or to raise LimitReached.  Raises
        Refused, and ConnectionFailed after an outage.
        """
        while not self._is_over():
            if self._parser is None:
                yield from self._open(waits_for_room)
                continue
            chunk: bytes | Broken = yield Read()
            if isinstance(chunk, Broken) or not chunk:
                why = chunk.why if isinstance(chunk, Broken) else "the stream ended"
                yield from self.pause(errors.ConnectionFailed(f"The event stream broke: {why}"))
                continue
            self._failures = 0
            found = list(self._events(self._parser, chunk))
            if found:
                return found
        return []

    def _is_over(self) -> bool:
        return self._until is not None and self._setup.now() >= self._until

    def _events(self, parser: StreamParser, chunk: bytes) -> Iterator[Event]:
        events = parser.feed(chunk)
        if parser.retry_ms is not None:
            self._retry_seconds = min(parser.retry_ms / 1000, LONGEST_RETRY_SECONDS)
        for event in events:
            if event.name in ("init", "reset"):
                yield self._passed_on(event)
            elif event.name == "change":
                expected = self._is_next(event.id)
                if (
                    expected is None
                ):  # never by the server's promise; if so, it is asked again from where we are
                    self._parser = None
                    return
                if expected:
                    yield self._passed_on(event)

    def _is_next(self, place: str) -> bool | None:
        """Whether the change is to be passed on; False if it was, None if something is missing before it."""
        known_epoch, _, known = (self.place or "").rpartition("-")
        epoch, _, seq = place.rpartition("-")
        if epoch != known_epoch or not seq.isdigit() or not known.isdigit() or int(seq) > int(known) + 1:
            return None
        return int(seq) == int(known) + 1

    def _passed_on(self, event: StreamEvent) -> Event:
        try:
            told = event_of(event.name, event.id, json.loads(event.data), self._setup.base)
        except (KeyError, TypeError, ValueError) as error:
            raise errors.UnexpectedAnswer(f"An event can't be read: {error!r}") from None
        self.place = event.id
        return told

    def _open(self, waits_for_room: bool) -> Flow[None]:
        if self._token is None:
            self._token = yield GetToken()
        request = self._setup.stamped(self._request())
        got: Answer | Broken = yield Open(request, self._token)
        if isinstance(got, Answer) and got.status == 401 and self._token is not None:
            renewed: str | None = yield GetToken(refused=self._token)
            if renewed != self._token:
                self._token = renewed
                got = yield Open(request, renewed)
        if isinstance(got, Answer) and got.status == 200:
            if not got.headers.get("content-type", "").startswith("text/event-stream"):
                raise errors.UnexpectedAnswer("Something else than Darkroom's event stream answered.")
            self._parser = StreamParser()
            return
        error = error_of(got, request)
        if isinstance(error, errors.Refused):
            is_crowded = error.code == _CROWDED and not waits_for_room
            if error.status not in REPEATED or is_crowded:
                raise error
        elif not isinstance(error, errors.ConnectionFailed):
            raise error
        yield from self.pause(error)

    def _request(self) -> Request:
        query, read_seconds = {}, SILENCE_SECONDS
        if self._until is not None:
            left = max(self._until - self._setup.now(), 0.001)
            read_seconds = min(read_seconds, left)
            query["rotate"] = str(min(max(math.ceil(left), ROTATE_SECONDS[0]), ROTATE_SECONDS[1]))
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": self.place} if self.place else {})}
        return Request("GET", "/v1/works/feed", query, headers, read_seconds=read_seconds)

    def pause(self, error: errors.DarkroomError) -> Flow[None]:
        """Wait until the stream may be opened again.  Raises the error after an outage."""
        self._parser = None
        setup = self._setup
        if not self._failures:  # only from now on: before, the reader of the events may have been slow
            self._away_since = setup.now()
        asked = getattr(error, "retry_after", 0.0) * (1 + LATER * setup.chance())
        longest = max(self._retry_seconds, LONGEST_PAUSE_SECONDS)
        seconds = asked or min(self._retry_seconds * 2.0 ** min(self._failures, 16), longest)
        self._failures += 1
        if self._until is not None:
            seconds = min(seconds, max(self._until - setup.now(), 0.0))
        if self._outage_seconds is not None:
            left = self._away_since + self._outage_seconds - setup.now()
            if left <= 0 or (asked and seconds > left):  # a wait that does not fit is not begun
                raise error
        yield Pause(seconds)


def watched(setup: Setup, since: str | None, outage_seconds: float | None) -> Flow[None]:
    """Items: each Event."""
    watch = Watch(setup, since, outage_seconds)
    while True:
        for event in (yield from watch.more()):
            yield Item(event)


def followed(setup: Setup, task_id: str, timeout_seconds: float | None) -> Flow[Task]:
    """Items: each state of the task's Work that is seen.  The task once it has ended.  Raises StillRunning."""
    watch = Watch(setup, until=None if timeout_seconds is None else setup.now() + timeout_seconds)
    while True:
        try:
            events = yield from watch.more(waits_for_room=False)
        except (
            errors.LimitReached
        ) as crowded:  # other watches of this user have all streams: ask now and then
            task = yield from shown(setup, task_id)
            if task.has_ended:
                return task
            yield from watch.pause(crowded)
            continue
        if not events:
            raise errors.StillRunning(f"The task {task_id} was not over after {timeout_seconds:g} seconds.")
        for event in events:
            works = [work for work in event.works if work.task_id == task_id]
            for work in works:
                yield Item(work)
            is_unseen = (
                event.kind in ("init", "reset") and not works
            )  # older than the newest hundred, or gone
            if is_unseen or event.kind == "remove" or any(work.has_ended for work in works):
                task = yield from shown(setup, task_id)
                if task.has_ended:
                    if is_unseen:
                        yield from _last_work(setup, task)
                    return task


def _last_work(setup: Setup, task: Task) -> Flow[None]:
    """Items: the work of a task that had ended before anything of it was seen, unless it was deleted."""
    try:
        answer = yield from answered(setup, Request("GET", f"/v1/works/{task.work_id}"))
    except errors.NotFound:
        return
    yield Item(work_of(answer.json(), setup.base))


def shown(setup: Setup, task_id: str) -> Flow[Task]:
    """The task as it is now.  Raises as `answered`."""
    answer = yield from answered(setup, Request("GET", f"/v1/tasks/{quote(task_id, safe='')}"))
    return task_of(answer.json(), setup.base)
