"""Loops beside the requests: what nobody has foreseen ends none of them, and a stream that fails holds no other up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from metrics.web_metrics import LOOPS, WebMetrics
from supervisor.core.errors import DatabaseBusy
from tests.support.houses.web_server import Web, until
from web.app import revoked_streams
from web.feed.hub import Hub
from web.handling import background_loops, notices
from web.handling.background_loops import repeat
from web.handling.notices import Notices


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_loops, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(revoked_streams, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(notices, "FLUSH_SECONDS", 0.01)


def failing(times: int, error: Exception, then: Callable[..., Any]) -> Callable[..., Any]:
    """Fails so often, then does what it is to do."""
    left = [error] * times

    def do(*args: Any, **named: Any) -> Any:
        if left:
            raise left.pop()
        return then(*args, **named)

    return do


class Quiet:
    """An open stream that counts its pings."""

    ends_at, number, proofs = None, 0, ()

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.pings = fails, 0

    def ping(self, _: bytes) -> None:
        self.pings += 1
        if self.fails:
            raise ZeroDivisionError

    def end(self) -> None: ...

    def hang_up(self, **_: Any) -> None: ...


def failures(metrics: WebMetrics, loop: str) -> float:
    return metrics.loop_failures.labels(loop)._value.get()


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), DatabaseBusy("It is locked.")])
async def test_a_failed_turn_is_counted_and_the_next_one_comes(error: Exception) -> None:
    metrics, turned = WebMetrics(), asyncio.Event()

    async def turn() -> None:
        step()
        await asyncio.sleep(0)

    step = failing(2, error, turned.set)
    running = asyncio.create_task(repeat("notices", turn, metrics))
    await until(turned.is_set, "it has turned")
    assert failures(metrics, "notices") == 2 and not running.done()
    running.cancel()


@pytest.mark.parametrize(
    ("loop", "place", "name"),
    [
        ("pings", Hub, "every_stream"),
        ("revocations", revoked_streams, "look_once"),
        ("notices", Notices, "flush"),
    ],
)
async def test_every_loop_of_a_web_goes_on(
    web: Web, monkeypatch: pytest.MonkeyPatch, loop: str, place: Any, name: str
) -> None:
    went_on: list[None] = []
    as_ever = getattr(place, name)

    def go_on(*args: Any) -> Any:
        went_on.append(None)
        return as_ever(*args)

    monkeypatch.setattr(web.context, "ping_seconds", 0.05)
    await web.stop()
    monkeypatch.setattr(place, name, failing(2, ZeroDivisionError("division by zero"), go_on))
    await web.start()
    web.context.notices.note(notices.Notice.REQUESTS, "o-1")
    web.context.hub.enter("o-1", cast(Any, Quiet()))
    await until(lambda: went_on, "it has gone on")
    assert loop in LOOPS


async def test_a_stream_that_fails_takes_no_ping_from_another() -> None:
    hub, streams = Hub(), [Quiet(fails=True), Quiet()]
    for stream in streams:
        hub.enter("o-1", cast(Any, stream))
    hub.every_stream = lambda: streams  # type: ignore[assignment, method-assign, return-value]
    ping_some = hub.pinging(0.001)
    with pytest.raises(ZeroDivisionError):
        while True:
            await ping_some()
    assert [each.pings for each in streams] == [1, 1]


async def test_what_no_database_will_ever_take_is_not_kept_for_the_next_time(web: Web) -> None:
    mine = Notices(WebMetrics())
    mine.note(notices.Notice.REQUESTS, "o-1")

    class Broken:
        async def write_async(self, _: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await mine.flush(Broken())  # type: ignore[arg-type]
    await mine.flush(web.database)
    assert web.sql("SELECT count(*) FROM user_notice") == [(0,)]
