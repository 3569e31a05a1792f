"""The choice of a worker for a task: no offer is used twice, and no task waits for an offer that it does not need."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.worker.held_offers import HeldOffers
from supervisor.core.placement import Placement, Room, at_once

NAMES = ("gpu", "vram")
TYPES = ("plain", "flux", "large", "both")

amounts = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 3), max_size=2)
needs_of_types = st.fixed_dictionaries({"flux": amounts, "large": amounts, "both": amounts})
rooms_of_workers = st.lists(
    st.builds(
        Room,
        st.uuids().map(str),
        st.integers(0, 4),
        st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), max_size=2),
        st.none() | st.frozensets(st.sampled_from(TYPES), min_size=1),
        st.integers(0, 2),
    ),
    max_size=4,
)
orders = st.lists(st.sampled_from(TYPES), max_size=30)


@given(rooms_of_workers, needs_of_types, orders)
def test_no_worker_is_given_more_than_it_has(
    rooms: list[Room], needs: dict[str, dict[str, int]], order: list[str]
) -> None:
    placement = Placement(rooms, needs)
    given_to: dict[str, list[str]] = {room.worker_id: [] for room in rooms}
    for type_ in order:
        worker_id = placement.place(type_)
        if worker_id is not None:
            given_to[worker_id].append(type_)
    for room in rooms:
        taken: Counter[str] = Counter()
        for type_ in given_to[room.worker_id]:
            assert room.takes(type_)
            taken.update(needs.get(type_, {}))
        assert len(given_to[room.worker_id]) <= room.slots
        assert all(amount <= room.offers.get(name, 0) for name, amount in taken.items())


@given(rooms_of_workers, needs_of_types, orders)
def test_a_task_that_needs_nothing_waits_only_for_a_slot(
    rooms: list[Room], needs: dict[str, dict[str, int]], order: list[str]
) -> None:
    placement = Placement(rooms, needs)
    for type_ in order:
        placement.place(type_)
    takes_it = sum(room.slots for room in rooms if room.takes("plain"))
    more = 0
    while placement.place("plain") is not None:
        more += 1
    assert more >= takes_it - len(order)
    assert placement.place("plain") is None


@given(rooms_of_workers, needs_of_types, st.sampled_from(TYPES))
def test_a_type_that_is_found_no_worker_has_none(
    rooms: list[Room], needs: dict[str, dict[str, int]], type_: str
) -> None:
    found = Placement(rooms, needs).place(type_)
    assert (found is not None) == (at_once(type_, needs, rooms) > 0)
    placement = Placement(rooms, needs)
    placed = 0
    while placement.place(type_) is not None:
        placed += 1
    assert placed == at_once(type_, needs, rooms), "as many as are said to have room at once"


@given(st.dictionaries(st.text("abc", min_size=1), st.integers(0, 5), max_size=5), st.integers(0, 20))
def test_without_needs_the_worker_with_most_free_slots_is_next(slots: dict[str, int], count: int) -> None:
    placement = Placement([Room(name, free) for name, free in slots.items()], {})
    left = dict(slots)
    for _ in range(count):
        best = min(left, key=lambda name: (-left[name], name)) if left else None
        expected = best if best is not None and left[best] > 0 else None
        assert placement.place("plain") == expected
        if expected is not None:
            left[expected] -= 1
    assert placement.is_full == (sum(left.values()) == 0)


@given(
    rooms_of_workers, needs_of_types, st.lists(st.tuples(st.sampled_from(TYPES), st.booleans()), max_size=30)
)
def test_a_task_that_must_run_alone_shares_its_worker_with_none(
    rooms: list[Room], needs: dict[str, dict[str, int]], order: list[tuple[str, bool]]
) -> None:
    placement = Placement(rooms, needs, {room.worker_id: room.offers for room in rooms})
    of_worker = {room.worker_id: room for room in rooms}
    given_to: dict[str, list[bool]] = {room.worker_id: [] for room in rooms}
    for type_, alone in order:
        worker_id = placement.place(type_, alone=alone)
        if worker_id is not None:
            assert of_worker[worker_id].times(type_, needs.get(type_, {})) > 0
            given_to[worker_id].append(alone)
    for worker_id, tasks in given_to.items():
        if any(tasks):
            assert len(tasks) == 1 and of_worker[worker_id].held == 0
        assert len(tasks) <= of_worker[worker_id].slots


@given(rooms_of_workers, needs_of_types, st.sampled_from(TYPES))
def test_a_task_that_must_run_alone_takes_an_empty_worker_or_keeps_only_the_emptiest(
    rooms: list[Room], needs: dict[str, dict[str, int]], type_: str
) -> None:
    placement = Placement(rooms, needs)
    found = placement.place(type_, alone=True)
    able = [room for room in rooms if room.times(type_, needs.get(type_, {}))]
    least = min((room.held for room in able), default=None)
    assert (found is not None) == (least == 0)
    left: Counter[str] = Counter()
    while (worker_id := placement.place("plain")) is not None:
        left[worker_id] += 1
    closed = [room for room in rooms if room.takes("plain") and room.slots and not left[room.worker_id]]
    assert all(left[room.worker_id] in (0, room.slots) for room in rooms)
    assert len(closed) <= 1, "all the others go on"
    if closed:
        assert closed[0].held == least


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_task_that_must_run_alone_waits_no_longer_than_the_tasks_that_run(
    sizes: list[int], chance: Random
) -> None:
    """A stream of other tasks fills what is free at each pick; the oldest running task ends between two picks."""
    slots = {f"w{n}": each for n, each in enumerate(sizes)}
    running = [name for name in slots for _ in range(chance.randint(0, slots[name]))]
    chance.shuffle(running)
    for _ in range(sum(sizes) * (max(sizes) + 1)):
        held = Counter(running)
        rooms = [Room(name, slots[name] - held[name], held=held[name]) for name in slots]
        placement = Placement(rooms, {})
        if (found := placement.place("plain", alone=True)) is not None:
            assert held[found] == 0
            return
        kept = min((room.held for room in rooms if room.slots), default=max(sizes))
        while (worker_id := placement.place("plain")) is not None:
            held[worker_id] += 1
            running.append(worker_id)
        free = [held[name] for name in slots if held[name] < slots[name]]
        assert not free or min(free) <= kept, "the kept worker has become no fuller"
        running.pop(0)
    raise AssertionError("it was never given a worker")


def test_a_worker_with_a_gpu_and_one_slot_is_the_last_to_be_given_what_could_run_elsewhere() -> None:
    rooms = [Room("gpu", 1, {"gpu": 1}), Room("cpu", 2)]
    placement = Placement(rooms, {"flux": {"gpu": 1}})
    assert [placement.place("plain") for _ in range(3)] == ["cpu", "cpu", "gpu"]
    assert placement.is_full


def test_a_task_of_a_restricted_worker_leaves_the_others_free() -> None:
    rooms = [Room("any", 1), Room("only-plain", 1, types=frozenset({"plain"}))]
    placement = Placement(rooms, {})
    assert (placement.place("plain"), placement.place("flux")) == ("only-plain", "any")


def test_a_task_that_needs_two_is_not_overtaken_for_ever_by_single_ones() -> None:
    needs = {"one": {"gpu": 1}, "two": {"gpu": 2}}
    free, whole = [Room("a", 9, {"gpu": 1}), Room("b", 9, {"gpu": 1})], {"a": {"gpu": 2}, "b": {"gpu": 2}}
    placement = Placement(free, needs, whole)
    assert placement.place("two") is None, "each has one that is busy"
    assert placement.place("one") == "b", "the free units of the first are kept for it"
    assert placement.place("one") is None
    assert placement.place("plain") is not None, "a task that needs none is not delayed"


def test_a_task_that_no_worker_could_hold_delays_no_other() -> None:
    needs = {"one": {"gpu": 1}, "nine": {"gpu": 9}}
    placement = Placement([Room("a", 9, {"gpu": 1})], needs, {"a": {"gpu": 1}})
    assert (placement.place("nine"), placement.place("one")) == (None, "a")


@given(st.lists(st.tuples(st.sampled_from(("one", "two", "none")), st.booleans()), max_size=20))
def test_a_process_never_lends_more_than_it_offers(attempts: list[tuple[str, bool]]) -> None:
    """attempts: their types, and whether each is cancelled while it waits or runs."""
    needs = {"one": {"gpu": 1}, "two": {"gpu": 2}}

    async def main() -> None:
        offers, held, ended = HeldOffers({"gpu": 2}, needs), 0, 0

        async def attempt(type_: str) -> None:
            nonlocal held, ended
            async with offers.held(type_):
                held += (amount := needs.get(type_, {}).get("gpu", 0))
                try:
                    assert held <= 2
                    await asyncio.sleep(0)
                finally:
                    held -= amount
            ended += 1

        tasks = [(asyncio.create_task(attempt(type_)), is_cancelled) for type_, is_cancelled in attempts]
        await asyncio.sleep(0)
        for task, is_cancelled in tasks:
            if is_cancelled:
                task.cancel()
        results = await asyncio.wait_for(
            asyncio.gather(*(task for task, _ in tasks), return_exceptions=True), 10
        )
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in results)
        assert ended >= sum(not is_cancelled for _, is_cancelled in tasks), "nobody waits for ever"

    asyncio.run(main())


@pytest.mark.parametrize(("type_", "could"), [("one", True), ("two", False), ("none", True)])
def test_a_process_reports_needs_that_it_could_never_fit(type_: str, could: bool) -> None:
    assert HeldOffers({"gpu": 1}, {"one": {"gpu": 1}, "two": {"gpu": 2}}).could_hold(type_) == could
