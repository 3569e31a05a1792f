"""A client that disconnects undoes nothing and causes no traceback, unless the fault is ours."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from supervisor.core.errors import TaskNotFound
from web.http.detached_work import finished, finished_first

WAYS = (finished, finished_first)


async def left_behind(
    way: Callable[[Awaitable[None]], Awaitable[None]], error: Exception | None
) -> list[str]:
    """A client disconnects during the work, which then ends in this way; returns its effect."""
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.set()
        if error is not None:
            raise error

    caller = asyncio.ensure_future(way(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await done.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()  # a task with an unread exception logs it when it is collected


@pytest.mark.parametrize("way", WAYS)
async def test_an_error_with_an_answer_is_no_line_in_the_log(
    way: Callable[[Awaitable[None]], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    await left_behind(way, None)
    await left_behind(way, TaskNotFound("x"))
    assert caplog.records == []


@pytest.mark.parametrize("way", WAYS)
async def test_an_unexpected_failure_is_one_line_with_its_traceback(
    way: Callable[[Awaitable[None]], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    await left_behind(way, ZeroDivisionError("our own fault"))
    [line] = caplog.records
    assert line.name == "darkroom.web" and line.levelno == logging.ERROR
    assert line.exc_info is not None and isinstance(line.exc_info[1], ZeroDivisionError)


async def test_an_answer_and_an_error_reach_a_client_that_stays() -> None:
    async def fail() -> None:
        raise TaskNotFound("x")

    for way in WAYS:
        assert await way(asyncio.sleep(0, "an answer")) == "an answer"
        with pytest.raises(TaskNotFound):
            await way(fail())


def test_web_has_no_other_way() -> None:
    """A bare `asyncio.shield` leaves a traceback for each client that disconnects."""
    sources = (Path(__file__).parents[3] / "web").rglob("*.py")
    assert [source.name for source in sources if "asyncio.shield(" in source.read_text()] == []
