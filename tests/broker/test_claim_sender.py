"""The claim sender and the dispatcher's loop: a broker that answers late, and lists that no worker reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import redis
from structlog.testing import capture_logs

from actors.broker.broker import DarkroomBroker
from actors.dispatcher.claim_sender import UNPOPPED_SECONDS, ClaimSender, Unpopped
from actors.dispatcher.dispatcher import TICK_SECONDS, Dispatcher
from supervisor.broker.broker_client import open_client
from supervisor.broker.claim_lists import ClaimLists, Place
from supervisor.broker.signed_claims import TASKS, ClaimKeys, ClaimMessage
from supervisor.broker.worker_list import popped_of
from supervisor.database.interface.wakeups import Wakeups
from supervisor.database.open_wakeups import dispatch_wakeups
from supervisor.services.undelivered_claims import empty_lists
from supervisor.store.queue import leader, workers
from supervisor.store.remote.remote_cancels import Cancel
from tests.conftest import DEADLINE_SECONDS, Store, wait_until
from tests.support.quiet_broker import QuietBroker
from tests.support.servers.broker_server import BrokerServer

KEYS = ClaimKeys(["a secret of 32 characters or more"])


class SlowBroker(QuietBroker):
    """Takes errands, and blocks their senders until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def enqueue_many(self, messages: Any) -> None:
        assert self.go_on.wait(90)
        super().enqueue_many(messages)


@pytest.fixture
def slow() -> Iterator[SlowBroker]:
    broker = SlowBroker()
    yield broker
    broker.go_on.set()


def lists_at(server: BrokerServer) -> ClaimLists:
    return ClaimLists(open_client(server.address, patience_seconds=0.5), KEYS)


def dispatcher_of(store: Store, lists: Any, broker: QuietBroker | None = None) -> Dispatcher:
    return Dispatcher(
        store.settings,
        store.database,
        cast(DarkroomBroker, broker or QuietBroker()),
        dispatch_wakeups(store.database, store.settings),
        cast(ClaimLists, lists),
    )


def lead_until(dispatcher: Dispatcher, condition: Callable[[], Any], what: str) -> None:
    def turned() -> bool:
        dispatcher.run_once()
        return bool(condition())

    wait_until(turned, what)


@pytest.mark.sqlite_only
def test_callers_during_a_send_are_notified_at_its_end(slow: SlowBroker, store: Store) -> None:
    told = threading.Event()
    sender = ClaimSender(
        cast(DarkroomBroker, slow), cast(ClaimLists, slow), store.database, when_ready=told.set
    )
    sender.send([], [Cancel(1)])
    assert not sender.is_ready()
    assert not told.is_set()
    slow.go_on.set()
    assert told.wait(90)
    assert sender.is_ready()
    sender.close()


@pytest.mark.sqlite_only
def test_work_that_comes_while_errands_are_sent_does_not_wait_for_the_tick(
    slow: SlowBroker, store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    dispatcher = dispatcher_of(store, slow, slow)
    lead_until(dispatcher, lambda: dispatcher._held, "it leads")
    live_worker()
    dispatcher.sender.send([], [Cancel(1)])
    task_id = admitted_task()
    dispatcher.run_once()
    assert store.task(task_id)["status"] == "pending"
    dispatcher._beat_due = time.monotonic() + DEADLINE_SECONDS  # a tick that would come too late
    slow.go_on.set()
    began = time.monotonic()
    dispatcher.wait(DEADLINE_SECONDS)
    assert time.monotonic() - began < DEADLINE_SECONDS / 2
    dispatcher.run_once()
    assert store.task(task_id)["status"] == "processing"
    assert [claim["id"] for claim in slow.messages if isinstance(claim, dict)] == [task_id]
    dispatcher.sender.close()


@pytest.mark.sqlite_only
def test_a_standby_waits_between_two_looks_at_the_one_that_works(store: Store) -> None:
    """It has no beat to show, so none of its own can be due: it had asked the database without a pause."""

    class Waits:
        seconds: list[float]

        def wait(self, timeout_seconds: float) -> bool:
            self.seconds.append(timeout_seconds)
            standby.stop()
            return False

        def interrupt(self) -> None:
            pass

    waits = Waits()
    waits.seconds = []
    vacant = store.database.read(leader.read)
    store.write(lambda tx: leader.take_over(tx, vacant, "the one that works"))
    standby = dispatcher_of(store, QuietBroker())
    standby.wakeups = cast(Wakeups, waits)
    standby.wait(standby.run_once())
    assert waits.seconds == [pytest.approx(TICK_SECONDS, abs=TICK_SECONDS / 2)]
    standby.sender.close()


# --- lists that no worker reads ---

LIST = Place(TASKS, "worker-1")


def test_a_list_is_unpopped_when_the_same_message_lies_in_front_for_a_second() -> None:
    unpopped = Unpopped()
    assert not unpopped.look(LIST, b"a", 9.5)
    assert not unpopped.look(LIST, b"b", 10.0), "somebody pops"
    assert not unpopped.look(LIST, b"b", 10.0 + UNPOPPED_SECONDS - 0.1)
    assert unpopped.look(LIST, b"b", 10.0 + UNPOPPED_SECONDS)
    assert not unpopped.is_empty(LIST)
    assert not unpopped.look(LIST, None, 13.0) and unpopped.is_empty(LIST)
    assert not unpopped.look(LIST, b"b", 13.5), "it has been away in between"


def test_a_claim_that_a_frozen_worker_does_not_take_goes_to_another_at_no_cost(
    server: BrokerServer, store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    lists = lists_at(server)
    dispatcher = dispatcher_of(store, lists)
    live_worker("frozen", slots=9)
    task_id = admitted_task()
    lead_until(
        dispatcher,
        lambda: store.task(task_id)["worker_id"] == "frozen",
        "the only worker is given it",
    )
    live_worker("awake", slots=1)
    lead_until(dispatcher, lambda: store.task(task_id)["worker_id"] == "awake", "the other one has it")
    row = store.task(task_id)
    assert (row["failures"], row["deaths"], row["lease"]) == (0, 0, 2)
    wait_until(lambda: _popped(lists, "awake"), "the other one is notified")
    assert dispatcher.sender.shunned == {"frozen"}
    assert _pop(lists, "frozen") is not None, "a message without claims asks for a sign of life"
    _own(lists, "frozen")
    wait_until(lambda: not dispatcher.sender.shunned, "it takes what it is sent again")
    dispatcher.sender.close()


def test_a_claim_popped_before_a_freeze_goes_to_another_and_the_worker_gets_none_until_it_asks(
    server: BrokerServer, store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    server.flush()
    lists = lists_at(server)
    dispatcher = dispatcher_of(store, lists)
    live_worker("frozen", slots=9)
    task_id = admitted_task()
    lead_until(dispatcher, lambda: _pop(lists, "frozen"), "its pop is answered")
    live_worker("awake", slots=1)
    lead_until(dispatcher, lambda: store.task(task_id)["worker_id"] == "awake", "the other one has it")
    row = store.task(task_id)
    assert (row["failures"], row["deaths"], row["lease"]) == (0, 0, 2)
    time.sleep(2 * UNPOPPED_SECONDS)
    assert "frozen" in dispatcher.sender.shunned, "a frozen process can't pop the message that lies there"
    assert not _own(lists, "frozen")
    dispatcher.sender.close()


def _pop(lists: ClaimLists, worker_id: str) -> bytes | None:
    """What a worker's pop does, without an event loop."""
    key = lists.key(TASKS, worker_id)
    return cast("bytes | None", lists._client.blmove(key, popped_of(key), 1))


def _own(lists: ClaimLists, worker_id: str) -> bool:
    return bool(lists._client.delete(popped_of(lists.key(TASKS, worker_id))))


def _popped(lists: ClaimLists, worker_id: str) -> Any:
    sent = _pop(lists, worker_id)
    _own(lists, worker_id)
    message = sent and lists.opened(TASKS, worker_id, sent)
    return message and message.claims


def test_claims_left_in_a_dead_workers_list_count_no_death_and_all_others_do(
    server: BrokerServer, store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    lists = lists_at(server)
    dispatcher = dispatcher_of(store, lists)
    live_worker("doomed", slots=1)
    first = admitted_task("o-1")
    lead_until(dispatcher, lambda: store.task(first)["worker_id"] == "doomed", "it has the first one")
    wait_until(lambda: _popped(lists, "doomed"), "it has taken the first one")
    store.write(lambda tx: tx.execute("UPDATE worker SET slots = 2"))
    second = admitted_task("o-2")
    lead_until(dispatcher, lambda: store.task(second)["worker_id"] == "doomed", "it was given the second")
    wait_until(lambda: lists.heads(["doomed"])[Place(TASKS, "doomed")], "and was told")
    store.write(lambda tx: workers.mark_dead(tx, "doomed"))
    lead_until(
        dispatcher,
        lambda: {store.task(each)["status"] for each in (first, second)} == {"pending"},
        "both are rescued",
    )
    assert [store.task(each)["deaths"] for each in (first, second)] == [1, 0]
    dispatcher.sender.close()


@pytest.mark.sqlite_only
def test_while_the_broker_is_away_all_that_a_dead_worker_held_counts_as_a_death(
    server: BrokerServer, store: Store, live_worker: Callable[..., str]
) -> None:
    lists = lists_at(server)
    server.stop()
    try:
        empty_lists(store.database, lists, ["doomed"])  # which raises nothing, and knows nothing
    finally:
        server.start()


class AwayLists(QuietBroker):
    """A broker that is away until it is back."""

    is_back = False

    def push(self, messages: Any) -> None:
        self.ping()

    def ping(self) -> None:
        if not self.is_back:
            raise redis.ConnectionError("refused")


@pytest.mark.sqlite_only
def test_nothing_is_claimed_while_the_broker_is_away(
    store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    lists = AwayLists()
    dispatcher = dispatcher_of(store, lists)
    lead_until(dispatcher, lambda: dispatcher._held, "it leads")
    live_worker()
    first = admitted_task()
    lead_until(dispatcher, lambda: dispatcher.sender._is_away, "a send has failed")
    second = admitted_task()
    for _ in range(5):
        assert dispatcher.run_once() > 0, "it does not spin"
    assert store.task(first)["status"] == "processing", "a claim that was made stays made"
    assert store.task(second)["status"] == "pending"
    lists.is_back = True
    lead_until(dispatcher, lambda: store.task(second)["status"] == "processing", "the broker is back")
    dispatcher.sender.close()


# --- trust ---


def test_a_message_that_no_key_of_ours_has_signed_is_dropped_and_counted(server: BrokerServer) -> None:
    lists = lists_at(server)
    claim = {"id": "t", "lease": 1, "params": "{}"}
    forged = ClaimKeys(["another secret of 32 characters."]).sealed(ClaimMessage(TASKS, "worker-1", [claim]))
    ours = KEYS.sealed(ClaimMessage(TASKS, "worker-1", [claim]))
    assert lists.opened(TASKS, "worker-1", ours) is not None
    for sent, worker in (
        (forged, "worker-1"),
        (ours, "worker-2"),
        (ours.replace(b'"lease":1', b'"lease":2'), "worker-1"),
        (b"nonsense", "worker-1"),
        (b"", "worker-1"),
    ):
        assert lists.opened(TASKS, worker, sent) is None
    assert lists.take_refused() == 5 and lists.take_refused() == 0


def test_while_the_secret_is_changed_what_the_one_before_has_signed_is_ours() -> None:
    message = ClaimMessage(TASKS, "worker-1")
    both = ClaimKeys(["the new secret of 32 characters..", "a secret of 32 characters or more"])
    assert both.opened(KEYS.sealed(message), TASKS, "worker-1") is not None


def test_large_params_are_left_to_the_row() -> None:
    claim = {"id": "t", "lease": 1, "params": "x" * 10_000, "image_keys": [["a", "b"]]}
    told = KEYS.opened(KEYS.sealed(ClaimMessage(TASKS, "w", [claim])), TASKS, "w")
    assert told.claims[0]["params"] is None and told.claims[0]["image_keys"] is None


@pytest.mark.sqlite_only
def test_a_message_of_several_claims_is_one_line_of_the_log_that_names_them_all(
    store: Store, server: BrokerServer
) -> None:
    sender = ClaimSender(
        cast(DarkroomBroker, QuietBroker()), lists_at(server), store.database, when_ready=lambda: None
    )
    claims = [{"id": f"task-{n}", "type": "photography", "lease": 1} for n in range(3)]
    with capture_logs() as logged:
        sender.send([ClaimMessage(TASKS, "worker-1", claims), ClaimMessage(TASKS, "worker-2", claims[:1])])
    sender.close()
    several, one = [line for line in logged if "dispatched" in line["event"]]
    assert several["tasks"] == ["task-0", "task-1", "task-2"] and several["worker"] == "worker-1"
    assert (one["event"], one["task"], one["lease"]) == ("task_dispatched", "task-0", 1)


@pytest.mark.sqlite_only
def test_what_nobody_has_foreseen_does_not_end_the_thread_that_sends(store: Store) -> None:
    """Without it no claim would be sent again, while the dispatcher's loop turns on and nobody is alarmed."""

    class Odd(AwayLists):
        knocks = 0

        def ping(self) -> None:
            self.knocks += 1
            if self.knocks == 2:
                raise ZeroDivisionError
            super().ping()

    lists = Odd()
    ready = threading.Event()
    sender = ClaimSender(
        cast(DarkroomBroker, QuietBroker()), cast(ClaimLists, lists), store.database, when_ready=ready.set
    )
    sender.send([ClaimMessage(TASKS, "worker-1")])
    with capture_logs() as logged:
        wait_until(lambda: lists.knocks >= 3, "it knocks again")
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["claim_sender_failed"]
    lists.is_back = True
    assert ready.wait(DEADLINE_SECONDS)
    sender.close()
