"""What waits at a worker's list: the process that removes a message owns its claims."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
import structlog

from actors.worker import claim_listener
from actors.worker.claim_listener import ClaimListener
from supervisor.broker.broker_client import open_client
from supervisor.broker.broker_errors import in_words
from supervisor.broker.claim_lists import ClaimLists, Place
from supervisor.broker.loop_connection import Incomplete, LoopConnection, read_answer
from supervisor.broker.signed_claims import TASKS, ClaimKeys, ClaimMessage
from supervisor.broker.worker_list import Popped, WorkerList
from supervisor.database.interface.wakeups import readable
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
    monkeypatch.setattr(claim_listener, "LOCAL_POP_SECONDS", 0.9)


class Listening:
    """A listener on this event loop, and the claims that it has begun."""

    def __init__(self, server: BrokerServer) -> None:
        server.flush()
        self.lists = ClaimLists(open_client(server.address), KEYS)
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.taken: list[ClaimMessage] = []
        self.came_back = 0
        self.listener = ClaimListener(
            self.lists, TASKS, "w", take=self.taken.append, has_room=self.has_room, came_back=self._note
        )
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.listener.listen())

    async def end(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            assert self.task.cancelled()

    def _note(self) -> None:
        self.came_back += 1

    def push(self) -> None:
        self.lists.push([ClaimMessage(TASKS, "w", [CLAIM])])

    def lies_there(self) -> bool:
        return self.lists.heads(["w"])[LIST] is not None


@pytest.fixture
async def quiet(server: BrokerServer) -> AsyncIterator[Listening]:
    """It does not listen yet."""
    made = Listening(server)
    yield made
    await made.end()


@pytest.fixture
async def listening(quiet: Listening) -> Listening:
    quiet.start()
    return quiet


@pytest.fixture
async def own_list(server: BrokerServer) -> AsyncIterator[WorkerList]:
    """The worker's own list, without a listener."""
    server.flush()
    made = ClaimLists(open_client(server.address), KEYS).of_worker(TASKS, "w")
    yield made
    made.close()


def _hold(seconds: float) -> None:
    """A provider that sleeps instead of awaiting."""
    time.sleep(seconds)


async def _waits_at_its_list(lists: ClaimLists) -> None:
    """The server has the pop of the one worker, and no answer to it."""
    await until(lambda: lists._client.info("clients")["blocked_clients"] == 1, "it waits at its list")


async def test_a_claim_reaches_the_event_loop_at_once(listening: Listening) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it is begun")
    assert listening.taken[0].claims == [CLAIM]


async def test_a_message_that_comes_in_many_pieces_is_one_message(listening: Listening) -> None:
    large = [{**CLAIM, "id": f"t-{n}", "params": "x" * 8000} for n in range(250)]
    await asyncio.to_thread(listening.lists.push, [ClaimMessage(TASKS, "w", large)])
    await until(lambda: listening.taken, "it is begun")
    assert listening.taken[0].claims == large


async def test_nothing_is_popped_while_no_slot_is_free(listening: Listening) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it listens")
    listening.has_room.clear()  # a pop waits already
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.lies_there(), "it was put back")
    await asyncio.sleep(0.2)
    assert listening.lies_there() and len(listening.taken) == 1
    listening.has_room.set()
    await until(lambda: len(listening.taken) == 2, "a slot is free")


async def test_a_popped_message_that_was_begun_is_owned(listening: Listening) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it is begun")
    await until(lambda: not any(listening.lists.heads(["w"]).values()), "nothing of it lies anywhere")
    assert listening.came_back == 0


async def test_a_listener_that_ends_pops_nothing_more(listening: Listening) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it waits at its list")
    await listening.end()
    client = listening.lists._client
    await until(lambda: client.info("clients")["blocked_clients"] == 0, "the server knows it")
    listening.push()
    assert listening.lies_there()


async def test_a_message_for_a_frozen_process_is_free_for_others_until_it_is_owned(
    server: BrokerServer, own_list: WorkerList
) -> None:
    """Its pop is the server's, and is answered while it stands still."""
    lists = ClaimLists(open_client(server.address), KEYS)
    lists.push([ClaimMessage(TASKS, "w", [CLAIM])])
    assert await own_list.pop(seconds=1) is not None
    assert lists.take("w", popped=False) == [], "it may be about to begin"
    assert [each.task_id for each in lists.take("w", popped=True)] == ["t-1"]
    assert not await own_list.own(), "the worker that took it has it"
    await own_list.put_back()
    assert [each.task_id for each in lists.take("w", popped=False)] == ["t-1"], "until it is given to others"
    lists.forget("w")
    assert lists.take("w", popped=True) == []


@pytest.mark.parametrize("is_taken", [False, True], ids=["nobody has taken it", "it was taken"])
async def test_a_process_that_thaws_checks_its_message_again(
    quiet: Listening, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    was_late = asyncio.Event()
    pop = WorkerList.pop

    async def pop_late(self: WorkerList, *, seconds: float) -> Popped | None:
        """The answer comes at once, and is read after a while."""
        popped = await pop(self, seconds=seconds)
        if popped is not None and not was_late.is_set():
            popped = popped._replace(unread_seconds=popped.unread_seconds + 1.5)
            if is_taken:
                quiet.lists.take("w", popped=True)
            was_late.set()
        return popped

    monkeypatch.setattr(WorkerList, "pop", pop_late)
    quiet.start()
    await asyncio.to_thread(quiet.push)
    if is_taken:
        await until(was_late.is_set, "it was read late")
        await asyncio.to_thread(quiet.push)  # another one
    await until(lambda: quiet.taken, "it comes")
    await quiet.end()
    assert len(quiet.taken) == 1


async def test_a_pop_says_how_long_its_answer_lay_unread_not_how_long_it_waited(
    server: BrokerServer, own_list: WorkerList
) -> None:
    sender = ClaimLists(open_client(server.address), KEYS)

    async def unread(*, waits_seconds: float = 0.0, held_seconds: float = 0.0) -> float:
        popping = asyncio.ensure_future(own_list.pop(seconds=60))
        await _waits_at_its_list(sender)
        await asyncio.sleep(waits_seconds)
        sender.push([ClaimMessage(TASKS, "w", [CLAIM])])
        _hold(held_seconds)
        popped = await popping
        assert popped is not None
        await own_list.own()
        return popped.unread_seconds

    waited = await unread(waits_seconds=3.0)
    assert -0.1 < waited < 2.5, "it waited for three seconds, and was read at once"
    assert await unread(held_seconds=2.0) >= 1.5, "its process stood still after the answer"


async def test_a_message_that_seems_to_be_read_before_it_was_sent_is_checked_again(
    quiet: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock was set forward while the pop waited: it is unknown how long the answer lay there."""
    seen: list[Popped] = []
    pop = WorkerList.pop

    async def pop_early(self: WorkerList, *, seconds: float) -> Popped | None:
        popped = await pop(self, seconds=seconds)
        if popped is not None:
            seen.append(popped)
            return popped if len(seen) > 1 else popped._replace(unread_seconds=-3600.0)
        return None

    monkeypatch.setattr(WorkerList, "pop", pop_early)
    quiet.start()
    await asyncio.to_thread(quiet.push)
    await until(lambda: quiet.taken, "it comes")
    assert len(seen) == 2


async def test_a_process_that_began_a_claim_taken_by_others_checks_the_rows(
    quiet: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = WorkerList.own

    async def own_late(self: WorkerList) -> bool:
        quiet.lists.take("w", popped=True)
        return await own(self)

    monkeypatch.setattr(WorkerList, "own", own_late)
    quiet.start()
    await asyncio.to_thread(quiet.push)
    await until(lambda: quiet.came_back == 1, "the rows are asked")
    assert len(quiet.taken) == 1


async def test_a_message_that_a_held_event_loop_does_not_read_can_be_taken_by_the_dispatcher(
    listening: Listening,
) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it listens")
    await until(lambda: not any(listening.lists.heads(["w"]).values()), "it owns the first one")
    await _waits_at_its_list(listening.lists)
    listening.push()
    _hold(1.2)
    assert listening.lists.heads(["w"])[BESIDE] is not None, (
        "it lies beside the list, where the dispatcher looks"
    )
    assert [each.task_id for each in listening.lists.take("w", popped=True)] == ["t-1"]
    listening.lists.forget("w")
    await asyncio.to_thread(listening.push)
    await until(lambda: len(listening.taken) == 2, "the loop reads again")
    await listening.end()
    assert len(listening.taken) == 2, "what was taken is not begun"


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


async def test_a_listener_without_room_notices_that_its_broker_was_away(
    server: BrokerServer, listening: Listening
) -> None:
    await asyncio.to_thread(listening.push)
    await until(lambda: listening.taken, "it listens")
    listening.has_room.clear()
    await asyncio.to_thread(listening.push)  # ends the pop that waits
    await until(listening.lies_there, "it was put back")
    server.restart()
    listening.has_room.set()
    await until(lambda: listening.came_back == 1, "messages may have been lost")


async def test_that_the_broker_is_back_is_told_before_a_wait_at_its_list_is_over(
    server: BrokerServer, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims that were made meanwhile, and whose messages were lost, need not wait for it."""
    monkeypatch.setattr(claim_listener, "POP_SECONDS", 600)
    monkeypatch.setattr(claim_listener, "LOCAL_POP_SECONDS", 600)
    server.restart()
    await until(lambda: listening.came_back == 1, "the rows are asked")


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (b"+OK\r\n", b"OK"),
        (b":7\r\n", 7),
        (b"$3\r\na\r\n\r\n", b"a\r\n"),
        (b"$0\r\n\r\n", b""),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"_\r\n", None),
        (b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", [b"a", [1]]),
    ],
)
def test_an_answer_is_read_when_all_of_it_has_come_and_not_before(received: bytes, answer: Any) -> None:
    assert read_answer(b"+x\r\n" + received, 4) == (answer, len(received) + 4)
    for cut in range(len(received)):
        with pytest.raises(Incomplete):
            read_answer(received[:cut], 0)


def test_a_broker_that_became_a_replica_is_named_so() -> None:
    error, _ = read_answer(b"-READONLY You can't write against a read only replica.\r\n", 0)
    assert in_words(error).startswith("it is a replica")


def test_an_error_of_the_broker_is_an_answer() -> None:
    error, _ = read_answer(b"-NOPERM this user\r\n", 0)
    assert isinstance(error, redis.ResponseError) and str(error) == "NOPERM this user"
    with pytest.raises(ValueError, match="not known"):
        read_answer(b"HTTP/1.1 400 Bad Request\r\n", 0)


@pytest.fixture
def impatient(server: BrokerServer) -> Iterator[BrokerServer]:
    """A server that closes what was idle for a second, the least that it can be told."""
    with server.client() as client:
        client.config_set("timeout", 1)
    yield server
    with server.client() as client:
        client.config_set("timeout", 0)


async def test_a_server_that_closes_idle_connections_does_not_count_as_away(
    impatient: BrokerServer, quiet: Listening
) -> None:
    connection = quiet.listener._list._connection
    with structlog.testing.capture_logs() as said:
        quiet.start()
        await _waits_at_its_list(quiet.lists)
        quiet.has_room.clear()  # every slot is busy for a while
        quiet.push()
        await until(lambda: connection.was_lost, "the server has closed the connection")
        quiet.has_room.set()
        await until(lambda: quiet.taken, "the claim has begun")
    assert not [each for each in said if each["event"] in ("broker_away", "broker_back")], said
    assert quiet.came_back >= 1, "the server may have been started anew meanwhile"


async def test_a_question_right_after_the_end_of_an_idle_connection_opens_another(
    impatient: BrokerServer,
) -> None:
    with contextlib.closing(LoopConnection(open_client(impatient.address))) as connection:
        await connection.ask(("PING",), seconds=90)
        assert readable((connection._socket.fileno(),), 90), (
            "its end lies there, and the loop has not read it"
        )
        assert await connection.ask(("PING",), seconds=90) == [b"PONG"]


async def test_claims_are_sent_over_another_connection_after_an_idle_one_was_closed(
    impatient: BrokerServer, quiet: Listening
) -> None:
    quiet.push()
    (connection,) = quiet.lists._client.connection_pool._available_connections
    assert await asyncio.to_thread(readable, (connection._sock.fileno(),), 90), "the server has closed it"
    quiet.push()
    assert quiet.lies_there()


async def test_an_answer_that_a_held_event_loop_reads_late_has_come_and_its_connection_lives_on(
    server: BrokerServer,
) -> None:
    with contextlib.closing(LoopConnection(open_client(server.address))) as connection:
        await connection.ask(("PING",), seconds=90)
        asked = asyncio.create_task(connection.ask(("PING",), seconds=0.05))
        await asyncio.sleep(0)
        _hold(0.1)
        assert readable((connection._socket.fileno(),), 90), "it lies there"
        assert await asked == [b"PONG"]
        assert await connection.ask(("PING",), seconds=90) == [b"PONG"]
