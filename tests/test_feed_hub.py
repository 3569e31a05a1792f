"""The hub's promises: in order, bounded, nobody left behind, everybody let go."""

from __future__ import annotations

import asyncio
import functools

import pytest

from tests.web_server import until
from web import hub as hub_module
from web.hub import MOST_WAITING, Closing, Event, Hub, TooManyStreams
from web.opening import is_resumable


def _event(seq: int) -> Event:
    return Event(seq, b"%d;" % seq, 0.0)


def _nobody() -> None:
    raise AssertionError("hung up on")


async def test_a_stream_takes_all_that_waits_at_once_and_in_order() -> None:
    hub = Hub()
    with hub.stream("o-1", most=0, hang_up=_nobody) as stream:
        for seq in range(1, 6):
            hub.publish("o-1", functools.partial(_event, seq))
            hub.publish("o-2", lambda: pytest.fail("nobody of o-2 listens"))
        assert [event.seq for event in await stream.take()] == [1, 2, 3, 4, 5]


async def test_a_change_is_encoded_once_for_all_streams_of_its_user() -> None:
    hub, made = Hub(), []

    def make() -> Event:
        made.append(1)
        return _event(1)

    with (
        hub.stream("o-1", most=0, hang_up=_nobody) as one,
        hub.stream("o-1", most=0, hang_up=_nobody) as two,
    ):
        assert hub.publish("o-1", make) == 2
        assert (await one.take())[0] is (await two.take())[0]
    assert made == [1]


async def test_a_waiting_stream_is_woken() -> None:
    hub = Hub()
    with hub.stream("o-1", most=0, hang_up=_nobody) as stream:
        taken = asyncio.create_task(stream.take())
        await asyncio.sleep(0)
        hub.publish("o-1", lambda: _event(1))
        assert [event.seq for event in await asyncio.wait_for(taken, 5)] == [1]


async def test_a_burst_is_no_reason_to_be_cut_off_but_to_read_the_log() -> None:
    hub = Hub()
    with hub.stream("o-1", most=0, hang_up=_nobody) as stream:
        for seq in range(MOST_WAITING + 50):
            hub.publish("o-1", functools.partial(_event, seq))
        assert await stream.take() == [] and stream.is_behind
        stream.catch_up()
        hub.publish("o-1", lambda: _event(999))
        assert [event.seq for event in await stream.take()] == [999]


async def test_who_does_not_take_what_is_written_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "CUT_OFF_GRACE_SECONDS", 0.01)
    hub, cut = Hub(), asyncio.Event()
    with hub.stream("o-1", most=0, hang_up=cut.set) as stream, stream.writing():
        for seq in range(MOST_WAITING):
            hub.publish("o-1", functools.partial(_event, seq))
        assert not stream.is_behind
        hub.publish("o-1", lambda: _event(MOST_WAITING))
        await asyncio.wait_for(cut.wait(), 5)


async def test_who_finishes_the_write_in_time_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "CUT_OFF_GRACE_SECONDS", 0.01)
    hub = Hub()
    with hub.stream("o-1", most=0, hang_up=_nobody) as stream:
        with stream.writing():
            for seq in range(MOST_WAITING + 1):
                hub.publish("o-1", functools.partial(_event, seq))
        passed = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.03, passed.set_result, None)
        await passed
        assert stream.is_behind


async def test_streams_of_a_user_are_counted_and_given_back_whatever_happens() -> None:
    hub = Hub()
    with hub.stream("o-1", most=1, hang_up=_nobody), hub.stream("o-2", most=1, hang_up=_nobody):
        with pytest.raises(TooManyStreams), hub.stream("o-1", most=1, hang_up=_nobody):
            pass
        assert hub.stream_count == 2
    with pytest.raises(ValueError, match="inside"), hub.stream("o-1", most=1, hang_up=_nobody):
        raise ValueError("inside")
    assert hub.stream_count == 0 and hub.is_idle and not hub.listens("o-1")


async def test_every_stream_is_pinged_once_a_period() -> None:
    hub = Hub()
    with hub.stream("o-1", most=0, hang_up=_nobody) as one, hub.stream("o-1", most=0, hang_up=_nobody) as two:
        pinging = asyncio.create_task(hub.ping(0.15))
        await until(lambda: one.ping_is_due and two.ping_is_due, "both were pinged")
        assert await one.take() == []
        pinging.cancel()


async def test_closing_wakes_everybody_and_lets_nobody_in() -> None:
    hub = Hub()

    async def listen() -> bool:
        with hub.stream("o-1", most=0, hang_up=lambda: None) as stream:
            await stream.take()
            return stream.is_ending

    listeners = [asyncio.create_task(listen()) for _ in range(50)]
    await until(lambda: hub.stream_count == 50, "all listen")
    with hub.watcher("o-1", most=0) as changed:
        await asyncio.wait_for(hub.close(), 5)
        assert changed.is_set()
    assert all(await asyncio.gather(*listeners))
    with pytest.raises(Closing), hub.stream("o-1", most=0, hang_up=_nobody):
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
