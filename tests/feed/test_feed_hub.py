"""The hub's promises: changes in order, bounded memory, one text for all, no stream forgotten, every stream closed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence

import pytest

from tests.support.houses.web_server import DEADLINE_SECONDS, until
from web.feed import fan_out as fanout
from web.feed import stream as stream_module
from web.feed.feed_event import COMMENT
from web.feed.hub import Closing, Hub, TooManyStreams
from web.feed.resume import is_resumable
from web.feed.stream import MOST_UNSENT_BYTES, MOST_WAITING, Batch, Event, Stream, as_chunk, batches_of


class Wire:
    """A socket that records the bytes written to it; a test can make its kernel buffer full."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unsent = 0
        self.is_cut = asyncio.Event()

    def write(self, data: bytes) -> None:
        assert not self.is_cut.is_set(), "written to after it was cut"
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.is_cut.is_set()

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_cut.set()


def _event(seq: int) -> Event:
    return Event(seq, b"%d;" % seq, 0.0)


def _batch(*seqs: int) -> Batch:
    return Batch([_event(seq) for seq in seqs])


def _publish(hub: Hub, user: str, *seqs: int) -> None:
    for seq in seqs:
        hub.publish(user, functools.partial(_event, seq))


async def _listening(stream: Stream, sent: int = 0) -> asyncio.Task[list[Event]]:
    """Its coroutine has sent everything up to `sent` and waits."""
    stream.sent = sent
    taken = asyncio.create_task(stream.take())
    await until(lambda: stream.is_listening, "the stream listens")
    return taken


async def test_changes_published_together_reach_listening_streams_in_one_write() -> None:
    hub, wires = Hub(), [Wire(), Wire()]
    with (
        hub.stream("o-1", most=0, socket=wires[0]) as one,
        hub.stream("o-1", most=0, socket=wires[1]) as two,
    ):
        waiting = [await _listening(one), await _listening(two)]
        _publish(hub, "o-1", 1, 2, 3)
        hub.publish("o-2", lambda: pytest.fail("nobody of o-2 listens"))
        await hub.delivered()
        assert wires[0].written == [as_chunk(b"1;2;3;")] and one.sent == two.sent == 3
        assert wires[0].written[0] is wires[1].written[0], "made into bytes once for all streams"
        assert not any(task.done() for task in waiting), "nobody was woken"
        for task in waiting:
            task.cancel()


async def test_a_change_is_encoded_once_for_all_streams_of_its_user() -> None:
    hub, made = Hub(), []

    def make() -> Event:
        made.append(1)
        return _event(1)

    with hub.stream("o-1", most=0, socket=Wire()) as one, hub.stream("o-1", most=0, socket=Wire()) as two:
        assert hub.publish("o-1", make) == 2
        await hub.delivered()
        assert (await one.take())[0] is (await two.take())[0]
    assert made == [1]


async def test_a_busy_stream_keeps_changes_and_takes_them_in_order() -> None:
    hub, wire = Hub(), Wire()
    with hub.stream("o-1", most=0, socket=wire) as stream:
        for seq in range(1, 6):
            _publish(hub, "o-1", seq)
            await hub.delivered()
        assert [event.seq for event in await stream.take()] == [1, 2, 3, 4, 5]
        assert wire.written == []


async def test_a_client_of_http_1_0_is_sent_no_chunks() -> None:
    hub, wire = Hub(), Wire()
    with hub.stream("o-1", most=0, socket=wire) as stream:
        stream.is_chunked = False
        task = await _listening(stream)
        _publish(hub, "o-1", 1, 2)
        await hub.delivered()
        assert wire.written == [b"1;2;"]
        task.cancel()


@pytest.mark.parametrize(("sent", "woken"), [(2, False), (1, True), (9, False), (-1, True)])
async def test_only_changes_that_follow_the_streams_position_are_written(sent: int, woken: bool) -> None:
    """A batch that was sent already is skipped; a batch sent in part, or with a gap, is checked."""
    wire = Wire()
    stream = Stream(1, wire)
    task = await _listening(stream, sent)
    stream.offer(_batch(1, 2))
    assert wire.written == [] and task.done() is False
    await asyncio.sleep(0)
    assert task.done() is woken
    task.cancel()


async def test_batches_are_bounded_and_have_no_gap() -> None:
    assert [[event.seq for event in batch.events] for batch in batches_of(map(_event, [1, 2, 5, 6]))] == [
        [1, 2],
        [5, 6],
    ]
    large = [Event(seq, bytes(MOST_UNSENT_BYTES // 2), 0.0) for seq in range(1, 6)]
    assert [len(batch.events) for batch in batches_of(large)] == [2, 2, 1]
    (alone,) = batches_of([Event(1, bytes(3 * MOST_UNSENT_BYTES), 0.0)])
    assert len(alone.events) == 1


async def test_a_client_with_a_full_socket_is_left_to_its_coroutine() -> None:
    wire = Wire()
    stream = Stream(1, wire)
    task = await _listening(stream)
    wire.unsent = MOST_UNSENT_BYTES + 1
    assert stream.offer(_batch(1))
    await asyncio.wait_for(task, 90)
    assert stream.is_clogged
    assert not stream.offer(_batch(2)) and len(wire.written) == 1
    stream.is_clogged = False
    assert [event.seq for event in await stream.take()] == [2]


async def test_thousands_of_writes_leave_room_for_others_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "STREAMS_A_SLICE", 10)
    streams = [Stream(n, Wire()) for n in range(35)]
    tally: list[tuple[int, int]] = []

    def count(events: Sequence[Event], taken: int) -> None:
        tally.append((len(events), taken))

    tasks = [await _listening(stream) for stream in streams]
    fan_out = fanout.FanOut(lambda _: streams, count)
    fan_out.add("o-1", _event(1))
    delivered = asyncio.create_task(fan_out.delivered())
    turns = 0
    while not delivered.done():
        await asyncio.sleep(0)
        turns += 1
        if turns == 2:
            fan_out.add("o-1", _event(2))  # amid the delivery of the first
    assert turns > 4 and {stream.sent for stream in streams} == {2}
    assert tally == [(1, 35), (1, 35)]
    for task in tasks:
        task.cancel()


async def test_a_stream_that_was_cut_is_never_written_again() -> None:
    wire = Wire()
    stream = Stream(1, wire)
    task = await _listening(stream)
    wire.abort()
    assert not stream.offer(_batch(1))
    stream.ping(COMMENT)
    assert wire.written == []
    task.cancel()


async def test_a_burst_is_no_reason_to_be_cut_off_but_to_read_the_log() -> None:
    hub = Hub()
    with hub.stream("o-1", most=0, socket=Wire()) as stream:
        _publish(hub, "o-1", *range(MOST_WAITING + 50))
        await hub.delivered()
        assert await stream.take() == [] and stream.is_behind
        stream.catch_up()
        _publish(hub, "o-1", 999)
        await hub.delivered()
        assert [event.seq for event in await stream.take()] == [999]


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CUT_OFF_GRACE_SECONDS", 0.01)
    hub, wire = Hub(), Wire()
    with hub.stream("o-1", most=0, socket=wire) as stream, stream.writing():
        _publish(hub, "o-1", *range(MOST_WAITING))
        await hub.delivered()
        assert not stream.is_behind
        _publish(hub, "o-1", MOST_WAITING)
        await asyncio.wait_for(wire.is_cut.wait(), DEADLINE_SECONDS)


async def test_a_client_that_reads_in_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "CUT_OFF_GRACE_SECONDS", 0.01)
    hub, wire = Hub(), Wire()
    with hub.stream("o-1", most=0, socket=wire) as stream:
        with stream.writing():
            _publish(hub, "o-1", *range(MOST_WAITING + 1))
            await hub.delivered()
        passed = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.03, passed.set_result, None)
        await passed
        assert stream.is_behind and not wire.is_cut.is_set()


async def test_streams_of_a_user_are_counted_and_given_back_whatever_happens() -> None:
    hub = Hub()
    with hub.stream("o-1", most=1, socket=Wire()), hub.stream("o-2", most=1, socket=Wire()):
        with pytest.raises(TooManyStreams), hub.stream("o-1", most=1, socket=Wire()):
            pass
        assert hub.stream_count == 2
    with pytest.raises(ValueError, match="inside"), hub.stream("o-1", most=1, socket=Wire()):
        raise ValueError("inside")
    assert hub.stream_count == 0 and hub.is_idle and not hub.listens("o-1")


async def test_every_listening_stream_is_pinged_once_a_period_and_one_whose_time_has_come_is_ended() -> None:
    hub, wires = Hub(), [Wire() for _ in range(3)]
    with (
        hub.stream("o-1", most=0, socket=wires[0]) as one,
        hub.stream("o-1", most=0, socket=wires[1]) as two,
        hub.stream("o-1", most=0, socket=wires[2]) as over,
    ):
        tasks = [await _listening(each) for each in (one, two)]
        over.ends_at = asyncio.get_running_loop().time() + 0.05
        ping_some = hub.pinging(0.15)

        async def ping_for_ever() -> None:
            while True:
                await ping_some()

        pinging = asyncio.create_task(ping_for_ever())
        await until(lambda: wires[0].written and wires[1].written, "both were pinged")
        await until(lambda: over.is_ending, "its time has come")
        pinging.cancel()
        assert wires[0].written[0] == as_chunk(COMMENT)
        assert wires[2].written == [] and not one.is_ending
        for task in tasks:
            task.cancel()


async def test_closing_wakes_every_stream_and_refuses_new_ones() -> None:
    hub = Hub()

    async def listen() -> bool:
        with hub.stream("o-1", most=0, socket=Wire()) as stream:
            await stream.take()
            return stream.is_ending

    listeners = [asyncio.create_task(listen()) for _ in range(50)]
    await until(lambda: hub.stream_count == 50, "all listen")
    with hub.watcher("o-1", most=0) as changed:
        await asyncio.wait_for(hub.close(), DEADLINE_SECONDS)
        assert changed.is_set()
    assert all(await asyncio.gather(*listeners))
    assert hub.expected_back == 50, "each is asked to come back as one of fifty"
    with pytest.raises(Closing), hub.stream("o-1", most=0, socket=Wire()):
        pass
    with pytest.raises(Closing), hub.watcher("o-1", most=0):
        pass


@pytest.mark.parametrize(
    ("seq", "newest", "oldest", "resumable"),
    [
        (0, 0, None, True),
        (5, 5, None, True),
        (4, 5, None, False),
        (6, 5, None, False),
        (0, 5, 1, True),
        (0, 5, 2, False),
        (1, 5, 2, True),
        (5, 5, 2, True),
        (6, 5, 2, False),
    ],
)
def test_a_stream_is_resumed_only_where_the_log_holds_all_of_it(
    seq: int, newest: int, oldest: int | None, resumable: bool
) -> None:
    assert is_resumable(seq, newest, oldest) is resumable
