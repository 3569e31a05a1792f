"""Turns at a limited number of places."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.core.fair_turns import Turns
from supervisor.pictures.decode_budget import DecodeBudget


async def _asked(turns: Turns, whose: str, served: list[str]) -> asyncio.Task[None]:
    async def work() -> None:
        await turns.take(whose)
        served.append(whose)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def test_a_user_with_one_item_waits_for_one_turn_of_the_others() -> None:
    turns, served = Turns(1), list[str]()
    tasks = [await _asked(turns, "crowd", served) for _ in range(5)]
    tasks.append(await _asked(turns, "one", served))
    for _ in range(6):
        await asyncio.sleep(0)
        turns.give_back(served[-1])
    await asyncio.gather(*tasks)
    assert served == ["crowd", "one", "crowd", "crowd", "crowd", "crowd"]


async def test_no_user_has_more_places_than_the_limit() -> None:
    turns, served = Turns(3, most_each=2), list[str]()
    tasks = [await _asked(turns, "crowd", served) for _ in range(5)]
    assert served == ["crowd", "crowd"] and turns.waiting == 3
    tasks.append(await _asked(turns, "one", served))
    assert served[-1] == "one", "the place that was left is not waited for"
    for _ in range(3):
        turns.give_back("crowd")
        await asyncio.sleep(0)
    turns.give_back("one")
    await asyncio.gather(*tasks)


async def test_the_user_with_the_fewest_places_is_served_first() -> None:
    turns, served = Turns(2), list[str]()
    tasks = [await _asked(turns, name, served) for name in ("a", "b", "a", "c")]
    turns.give_back("b")
    await asyncio.sleep(0)
    assert served == ["a", "b", "c"], "`a` has a place already"
    turns.give_back("c")
    await asyncio.gather(*tasks)


async def test_a_caller_that_leaves_the_queue_frees_its_place() -> None:
    turns, served = Turns(1), list[str]()
    await turns.take("a")
    tasks = [await _asked(turns, name, served) for name in ("b", "c")]
    tasks[0].cancel()
    turns.give_back("a")
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == ["c"] and turns.waiting == 0
    turns.give_back("c")
    given = await _asked(turns, "d", served)
    waiting = await _asked(turns, "e", served)
    turns.give_back("d")
    waiting.cancel()  # at the moment at which it is served
    await asyncio.gather(given, waiting, return_exceptions=True)
    async with asyncio.timeout(60):
        await turns.take("f")


async def test_abandoned_work_holds_its_place_until_it_has_ended() -> None:
    turns, ended = Turns(1), asyncio.Event()
    caller = asyncio.create_task(turns.held_through(ended.wait, "a"))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    waiting = asyncio.create_task(turns.take("b"))
    await asyncio.sleep(0)
    assert turns.waiting == 1
    ended.set()
    async with asyncio.timeout(60):
        await waiting


async def test_an_item_above_the_limit_waits_until_it_is_alone() -> None:
    room = DecodeBudget(10)
    assert await room.take(8) == 8
    large = asyncio.create_task(room.take(50))
    await asyncio.sleep(0)
    small = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not large.done() and not small.done(), "a later caller does not come first"
    large.cancel()
    async with asyncio.timeout(60):
        assert await small == 1
    room.give_back(8)
    room.give_back(1)
    assert await room.take(50) == 10


async def test_a_room_without_a_bound_is_never_waited_for() -> None:
    room = DecodeBudget(0)
    assert [await room.take(10**9) for _ in range(3)] == [0, 0, 0]


def test_a_limit_of_zero_places_is_refused() -> None:
    with pytest.raises(ValueError):
        Turns(0)
