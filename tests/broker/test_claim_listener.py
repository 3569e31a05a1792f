"""The thread that waits at a worker's list: the process that removes a message owns its claims."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from actors.worker import claim_listener
from actors.worker.claim_listener import ClaimListener
from supervisor.broker.broker_client import open_client
from supervisor.broker.claim_lists import ClaimLists, Place, Popped
from supervisor.broker.signed_claims import TASKS, ClaimKeys, ClaimMessage
from tests.support.houses.web_server import until
from tests.support.servers.broker_server import BrokerServer, broker_server

KEYS = ClaimKeys(["a secret of 32 characters or more"])
CLAIM = {"id": "t-1", "lease": 1, "params": "{}"}
LIST, BESIDE = Place(TASKS, "w"), Place(TASKS, "w", is_popped=True)


@pytest.fixture(scope="module")
def server() -> Iterator[BrokerServer]:
    with broker_server() as running:
        yield running


@pytest.fixture(autouse=True)
def waits_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the listeners of these tests end soon."""
    monkeypatch.setattr(claim_listener, "POP_SECONDS", 0.9)


class Listening:
    """A listener on this event loop, and the claims that it has handed over."""

    def __init__(self, server: BrokerServer, *, starts: bool = True) -> None:
        server.flush()
        self.lists = ClaimLists(open_client(server.address), KEYS)
        self.has_room = threading.Event()
        self.has_room.set()
        self.taken: list[ClaimMessage] = []
        self.came_back = 0
        self.listener = ClaimListener(
            self.lists, TASKS, "w", asyncio.get_running_loop(), take=self.taken.append,
            has_room=self.has_room, came_back=self._note,
        )  # fmt: skip
        if starts:
            self.listener.start()

    def _note(self) -> None:
        self.came_back += 1

    def push(self) -> None:
        self.lists.push([ClaimMessage(TASKS, "w", [CLAIM])])

    def lies_there(self) -> bool:
        return self.lists.heads(["w"])[LIST] is not None


@pytest.fixture
async def listening(server: BrokerServer) -> AsyncIterator[Listening]:
    made = Listening(server)
    yield made
    made.listener.end()
    await asyncio.to_thread(made.listener.thread.join, 20)
    assert not made.listener.has_died


async def test_a_claim_reaches_the_event_loop_at_once(listening: Listening) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it is handed over")
    assert listening.taken[0].claims == [CLAIM]


async def test_a_client_closed_under_its_waiting_pop_ends_the_thread_without_a_traceback(
    server: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", broken.append)
    listening = Listening(server, starts=False)
    waits = threading.Event()

    def pop_from_a_closed_client(kind: str, worker_id: str, *, seconds: int) -> Popped | None:
        waits.set()
        listening.listener._ending.wait(20)
        raise ValueError("I/O operation on closed file")  # as redis-py's socket says it

    monkeypatch.setattr(listening.lists, "pop", pop_from_a_closed_client)
    listening.listener.start()
    await asyncio.to_thread(waits.wait, 20)
    listening.listener.end()
    await asyncio.to_thread(listening.listener.thread.join, 20)
    assert not listening.listener.thread.is_alive() and broken == []


async def test_nothing_is_popped_while_no_slot_is_free(listening: Listening) -> None:
    listening.has_room.clear()
    await asyncio.to_thread(listening.push)
    await asyncio.sleep(1.2)  # longer than a wait
    assert listening.lies_there() and listening.taken == []
    listening.has_room.set()
    await until(lambda: len(listening.taken) == 1, "a slot is free")


async def test_a_popped_message_that_was_handed_over_is_owned(listening: Listening) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it is handed over")
    await until(lambda: not any(listening.lists.heads(["w"]).values()), "nothing of it lies anywhere")
    assert listening.came_back == 0


def test_a_message_for_a_frozen_process_is_free_for_others_until_it_is_owned(server: BrokerServer) -> None:
    """Its pop is the server's, and is answered while it stands still."""
    server.flush()
    lists = ClaimLists(open_client(server.address), KEYS)
    lists.push([ClaimMessage(TASKS, "w", [CLAIM])])
    assert lists.pop(TASKS, "w", seconds=1) is not None
    assert lists.take("w", popped=False) == [], "it may be about to begin"
    assert [each.task_id for each in lists.take("w", popped=True)] == ["t-1"]
    assert not lists.own(TASKS, "w"), "the worker that took it has it"
    lists.put_back(TASKS, "w")
    assert [each.task_id for each in lists.take("w", popped=False)] == ["t-1"], "until it is given to others"
    lists.forget("w")
    assert lists.take("w", popped=True) == []


@pytest.mark.parametrize("is_taken", [False, True], ids=["nobody has taken it", "it was taken"])
async def test_a_process_that_thaws_checks_its_message_again(server: BrokerServer, is_taken: bool) -> None:
    listening = Listening(server, starts=False)
    was_late = threading.Event()

    def pop_late(kind: str, worker_id: str, *, seconds: int) -> Popped | None:
        """The answer comes at once, and is read after a while."""
        popped = ClaimLists.pop(listening.lists, kind, worker_id, seconds=seconds)
        if popped is not None and not was_late.is_set():
            popped = popped._replace(unread_seconds=popped.unread_seconds + 1.5)
            if is_taken:
                listening.lists.take(worker_id, popped=True)
            was_late.set()
        return popped

    listening.lists.pop = pop_late  # type: ignore[method-assign]
    listening.listener.start()
    await asyncio.to_thread(listening.push)
    if is_taken:
        await until(was_late.is_set, "it was read late")
        await asyncio.to_thread(listening.push)  # another one
    await until(lambda: listening.taken, "it comes")
    listening.listener.end()
    await asyncio.to_thread(listening.listener.thread.join, 20)
    assert len(listening.taken) == 1


def test_a_pop_says_how_long_its_answer_lay_unread_not_how_long_it_waited(
    server: BrokerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.flush()
    lists = ClaimLists(open_client(server.address), KEYS)
    sender = ClaimLists(open_client(server.address), KEYS)

    def popped_after(seconds: float) -> float:
        later = threading.Timer(seconds, sender.push, [[ClaimMessage(TASKS, "w", [CLAIM])]])
        later.start()
        popped = lists.pop(TASKS, "w", seconds=60)
        later.join()
        assert popped is not None
        return popped.unread_seconds

    waited = popped_after(3.0)
    assert -0.1 < waited < 2.5, "it waited for three seconds, and was read at once"
    execute = redis.client.Pipeline.execute

    def stands_still(pipe: Any, *arguments: Any, **options: Any) -> Any:
        answers = execute(pipe, *arguments, **options)
        time.sleep(1.5)
        return answers

    monkeypatch.setattr(redis.client.Pipeline, "execute", stands_still)
    assert popped_after(0.0) >= 1.5, "its process stood still after the answer"


async def test_a_message_that_seems_to_be_read_before_it_was_sent_is_checked_again(
    server: BrokerServer,
) -> None:
    """The server's clock was set forward while the pop waited: it is unknown how long the answer lay there."""
    listening = Listening(server, starts=False)
    seen: list[Popped] = []

    def pop(kind: str, worker_id: str, *, seconds: int) -> Popped | None:
        popped = ClaimLists.pop(listening.lists, kind, worker_id, seconds=seconds)
        if popped is not None:
            seen.append(popped)
            return popped if len(seen) > 1 else popped._replace(unread_seconds=-3600.0)
        return None

    listening.lists.pop = pop  # type: ignore[method-assign]
    listening.listener.start()
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it comes")
    assert len(seen) == 2
    listening.listener.end()
    await asyncio.to_thread(listening.listener.thread.join, 20)


async def test_a_process_that_began_a_claim_taken_by_others_checks_the_rows(server: BrokerServer) -> None:
    listening = Listening(server, starts=False)

    def own(kind: str, worker_id: str) -> bool:
        listening.lists.take(worker_id, popped=True)
        return ClaimLists.own(listening.lists, kind, worker_id)

    listening.lists.own = own  # type: ignore[method-assign]
    listening.listener.start()
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.came_back == 1, "the rows are asked")
    assert len(listening.taken) == 1
    listening.listener.end()
    await asyncio.to_thread(listening.listener.thread.join, 20)


async def test_a_message_that_a_blocked_event_loop_does_not_take_goes_back_to_the_list(
    listening: Listening,
) -> None:
    def hold(until_this: Any) -> None:
        """A provider that sleeps instead of awaiting."""
        end = time.monotonic() + 20
        while not until_this() and time.monotonic() < end:
            time.sleep(0.02)

    listening.push()
    hold(listening.lies_there)
    popped = [listening.lies_there()]
    hold(lambda: popped.append(listening.lies_there()) or (False in popped and popped[-1]))
    assert popped[-1], "it is in the list again, and the worker that takes it has it"
    assert listening.taken == []
    await until(lambda: listening.taken, "the loop answers again")
    assert len(listening.taken) == 1


async def test_a_message_that_is_not_ours_is_dropped(listening: Listening) -> None:
    forged = ClaimKeys(["another secret of 32 characters."]).sealed(ClaimMessage(TASKS, "w", [CLAIM]))
    listening.lists._client.rpush(listening.lists.key(TASKS, "w"), forged)
    await until(lambda: listening.lists.refused == 1, "it is counted")
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "the next one is ours")


async def test_listeners_are_notified_when_the_broker_is_back(
    server: BrokerServer, listening: Listening
) -> None:
    server.restart()  # in this thread: a server ends with the thread that started it
    await until(lambda: listening.came_back == 1, "messages may have been lost")


async def test_that_the_broker_is_back_is_told_before_a_wait_at_its_list_is_over(
    server: BrokerServer, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims that were made meanwhile, and whose messages were lost, need not wait for it."""
    monkeypatch.setattr(claim_listener, "POP_SECONDS", 600)
    server.restart()
    await until(lambda: listening.came_back == 1, "the rows are asked")
    listening.listener.end()
    server.restart()  # it ends the wait
