"""A web to which nobody listens looks seldom at the log, and as soon as somebody does, as often as ever."""

from __future__ import annotations

import asyncio
import collections
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from metrics.web_metrics import WebMetrics
from supervisor.database.interface.wakeups import SOMETHING, Heard, Wakeups, readable
from tests.conftest import Store
from web.feed.change_tailer import Tailer
from web.feed.hub import Hub

USUAL_SECONDS, IDLE_SECONDS = 0.05, 0.25
ENOUGH = 3


class CountedWakeups(Wakeups):
    """Nothing is ever committed.  waits: how long each wait was to be."""

    look_again_seconds = ()
    is_listening = True

    def __init__(self) -> None:
        super().__init__()
        self.safety_seconds = USUAL_SECONDS
        self.waits: collections.deque[float] = collections.deque()

    def hear(self, timeout_seconds: float) -> Heard | None:
        self.waits.append(timeout_seconds)
        if readable((self._stop_read,), timeout_seconds):
            os.read(self._stop_read, 4096)
            return SOMETHING
        return None


@pytest.fixture
async def tailing(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Hub, CountedWakeups]]:
    monkeypatch.setattr("web.feed.change_tailer.IDLE_SECONDS", IDLE_SECONDS)
    hub, wakeups = Hub(), CountedWakeups()
    tailer = Tailer(store.database, hub, cast(Any, None), WebMetrics())
    running = asyncio.create_task(tailer.run(wakeups))
    yield hub, wakeups
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    wakeups.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  it is another thread that changes it
            await asyncio.sleep(0.01)


async def test_nobody_listens_so_it_waits_longer_and_with_the_first_listener_as_usual(
    tailing: tuple[Hub, CountedWakeups],
) -> None:
    hub, wakeups = tailing
    await until(lambda: list(wakeups.waits)[-ENOUGH:] == [IDLE_SECONDS] * ENOUGH)
    for listener in (hub.watcher("o-1", most=0), hub.end_of("task-1", "o-1")):
        with listener:
            wakeups.waits.clear()
            await until(lambda: list(wakeups.waits)[-ENOUGH:] == [USUAL_SECONDS] * ENOUGH)
            assert list(wakeups.waits).count(IDLE_SECONDS) <= 1, "a wait that was about to begin"
        await until(lambda: list(wakeups.waits)[-ENOUGH:] == [IDLE_SECONDS] * ENOUGH)
