"""The hint sender and the dispatcher's loop while the broker keeps them waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from actors.broker import DarkroomBroker
from actors.dispatcher import TICK_SECONDS, Dispatcher
from actors.hint_sender import HintSender
from supervisor.sqlite_database import SqliteDatabase
from supervisor.store import leadership
from supervisor.store.dispatching import RESEND_SECONDS, Hint
from supervisor.wakeup import Wakeups, dispatch_wakeups
from tests.conftest import Clock, Store, wait_until


class SlowBroker:
    """Takes every batch, and holds whoever sends until it is told to go on."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.go_on = threading.Event()

    def enqueue_many(self, messages: Any) -> None:
        self.batches.append(len(list(messages)))
        assert self.go_on.wait(30)


@pytest.fixture
def broker() -> Iterator[SlowBroker]:
    slow = SlowBroker()
    yield slow
    slow.go_on.set()


def test_whoever_asked_while_a_batch_was_under_way_is_told_at_its_end(
    broker: SlowBroker, database: SqliteDatabase
) -> None:
    told = threading.Event()
    sender = HintSender(cast(DarkroomBroker, broker), database, when_ready=told.set)
    sender.send([Hint("t-1", 1, "photography")])
    assert not sender.is_ready()
    assert not told.is_set()
    broker.go_on.set()
    assert told.wait(10)
    assert sender.is_ready()
    sender.close()


def test_work_that_comes_while_a_batch_is_under_way_does_not_wait_for_the_tick(
    broker: SlowBroker, store: Store, live_worker: Callable[..., str], admitted_task: Callable[..., str]
) -> None:
    dispatcher = Dispatcher(
        store.settings,
        store.database,
        cast(DarkroomBroker, broker),
        dispatch_wakeups(store.database, store.settings),
    )
    live_worker()
    admitted_task()
    _lead_and_send(dispatcher, broker, batches=1)
    admitted_task()
    due = dispatcher.run_once()
    broker.go_on.set()
    began = time.monotonic()
    dispatcher.wait(10 * due)
    assert time.monotonic() - began < TICK_SECONDS / 2
    dispatcher.run_once()
    wait_until(lambda: len(broker.batches) == 2, "the second batch is sent")


def test_a_hint_to_be_sent_again_over_a_frozen_broker_does_not_make_the_dispatcher_spin(
    broker: SlowBroker,
    store: Store,
    clock: Clock,
    live_worker: Callable[..., str],
    admitted_task: Callable[..., str],
) -> None:
    dispatcher = Dispatcher(
        store.settings,
        store.database,
        cast(DarkroomBroker, broker),
        dispatch_wakeups(store.database, store.settings),
    )
    live_worker()
    admitted_task()
    _lead_and_send(dispatcher, broker, batches=1)
    clock.advance(seconds=RESEND_SECONDS + 1)
    assert dispatcher.run_once() == TICK_SECONDS


def test_a_standby_waits_between_two_looks_at_the_one_that_works(broker: SlowBroker, store: Store) -> None:
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
    vacant = store.database.read(leadership.read)
    store.write(lambda tx: leadership.take_over(tx, vacant, "the one that works"))
    standby = Dispatcher(store.settings, store.database, cast(DarkroomBroker, broker), cast(Wakeups, waits))
    standby.wait(standby.run_once())
    assert waits.seconds == [pytest.approx(TICK_SECONDS, abs=TICK_SECONDS / 2)]


def _lead_and_send(dispatcher: Dispatcher, broker: SlowBroker, *, batches: int) -> None:
    def turned() -> bool:
        dispatcher.run_once()
        return len(broker.batches) == batches

    wait_until(turned, "the dispatcher leads and sends")
