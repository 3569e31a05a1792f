"""A whole worker in this process: slots, waiting, drain, the watchdog, the event loop, ticks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker
from dramatiq.asyncio import EventLoopThread
from dramatiq.broker import MessageProxy
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import (
    Retries,
    ShutdownNotifications,
    SkipMessage,
    TimeLimit,
    TimeLimitExceeded,
    raise_thread_exception,
)
from dramatiq.middleware.prometheus import Prometheus
from dramatiq.results import Results
from periodiq import PeriodiqMiddleware, cron

from actors.broker import consumer as consumer_module
from actors.broker import slots as slots_module
from actors.broker.broker import DarkroomBroker
from actors.broker.periodic_once import utc_minute
from actors.entry.middleware import broker_middleware
from actors.worker.event_loop import CoroutineWouldNotEnd, PatientEventLoopThread
from actors.worker.watchdog import _LoopWatch, dead_threads
from supervisor.broker.broker_client import open_client
from tests.support.servers.broker_server import darkroom_broker, hint
from tests.support.waiting import eventually


class Gated:
    """An actor `work` with jobs that run until the gate is opened. broker: the broker that declares it."""

    def __init__(self, broker: Any) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.gate = threading.Event()

        @dramatiq.actor(broker=broker, queue_name="tasks", actor_name="work")
        def work(name: str) -> None:
            self.started.append(name)
            self.gate.wait(60)
            self.ended.append(name)


class StartWorker:
    """Starts a worker on a broker, as the command does."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    def __call__(self, broker: Any, **options: Any) -> Worker:
        broker.emit_after("process_boot")
        worker = Worker(broker, **options)
        worker.start()
        self.workers.append(worker)
        return worker

    def stop_all(self) -> None:
        """All together, as each notices within a second."""
        workers, self.workers = self.workers, []
        for worker in workers:
            for thread in worker.workers:
                thread.stop()
        for worker in workers:
            worker.stop(timeout=90_000)


@pytest.fixture
def start_worker() -> Iterator[StartWorker]:
    """The workers that it starts are stopped at the end of the test."""
    start = StartWorker()
    yield start
    start.stop_all()


@pytest.fixture
def waits_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a message, a freed slot or a stop ends a wait in time for the test."""
    for wait in ("WAIT_SECONDS", "LOCAL_WAIT_SECONDS", "BUSY_SECONDS"):
        monkeypatch.setattr(consumer_module, wait, 60.0)
    monkeypatch.setattr(slots_module, "WAIT_SECONDS", 60.0)


# --- the list of middleware ---


def test_interrupts_of_a_thread_are_armed_last_and_disarmed_first():
    kinds = [type(middleware) for middleware in broker_middleware(dramatiq.Middleware())]
    assert kinds[-2:] == [ShutdownNotifications, TimeLimit]
    assert dramatiq.Middleware in kinds
    assert not {Retries, Prometheus, Results} & set(kinds)


# --- slots ---


def test_slots_decide_threads_and_prefetch_whatever_the_command_says(server, start_worker):
    broker = darkroom_broker(server, *broker_middleware(), slots=3)
    broker.declare_queue("tasks")
    broker.declare_queue("control")
    worker = start_worker(broker, worker_threads=8)
    assert len(worker.workers) == 3 + 2
    eventually(
        "the consumers are there", lambda: all(thread.consumer for thread in worker.consumers.values())
    )
    prefetch = {
        name: thread.consumer.prefetch for name, thread in worker.consumers.items() if thread.consumer
    }
    assert (prefetch["tasks"], prefetch["control"]) == (3, 2)


def test_long_jobs_do_not_block_the_control_queue(server, start_worker):
    broker = darkroom_broker(server, *broker_middleware(), slots=2)
    jobs, swept = Gated(broker), threading.Event()
    dramatiq.actor(broker=broker, queue_name="control", actor_name="sweep")(lambda name: swept.set())
    start_worker(broker)
    try:
        broker.enqueue_many(hint(name) for name in "abcd")
        eventually("both slots are busy", lambda: len(jobs.started) == 2)
        broker.enqueue(hint("s", queue="control", actor="sweep"))
        assert swept.wait(90)
    finally:
        jobs.gate.set()


def test_two_processes_share_the_work_and_neither_hoards(server, start_worker):
    first, second = (darkroom_broker(server, *broker_middleware(), slots=2) for _ in range(2))
    jobs = [Gated(first), Gated(second)]
    start_worker(first)
    first.enqueue_many(hint(name) for name in "abcd")
    try:
        eventually("the first is full", lambda: len(jobs[0].started) == 2)
        start_worker(second)
        eventually("the others run in the second", lambda: len(jobs[1].started) == 2)
    finally:
        for job in jobs:
            job.gate.set()


def test_stock_a_process_prefetches_twice_its_capacity(server):
    """Characterisation: two jobs wait behind long ones, and no other worker can take them."""
    broker = RedisBroker(client=open_client(server.address), middleware=[])
    jobs = Gated(broker)
    for name in "abcd":
        broker.enqueue(hint(name))
    worker = Worker(broker, worker_threads=2)
    worker.start()
    try:
        client: Any = broker.client
        eventually("it has fetched all", lambda: client.llen("dramatiq:tasks") == 0)
        eventually("it runs two", lambda: len(jobs.started) == 2)
        assert client.scard(f"dramatiq:__acks__.{broker.broker_id}.tasks") == 4
    finally:
        jobs.gate.set()
        worker.stop(timeout=90_000)


# --- waiting ---


def commands(client: Any, name: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{name}", {}).get("calls", 0))


def waiting_consumers(client: Any) -> int:
    return int(client.info("clients")["blocked_clients"])


def test_an_idle_worker_waits_instead_of_polling(server, start_worker, monkeypatch):
    monkeypatch.setattr(consumer_module, "WAIT_SECONDS", 0.5)
    monkeypatch.setattr(consumer_module, "LOCAL_WAIT_SECONDS", 0.5)
    broker = darkroom_broker(server, *broker_middleware(), slots=16)
    broker.declare_queue("tasks")
    start_worker(broker)
    with server.client() as client:
        eventually("it waits", lambda: waiting_consumers(client) == 1)
        before = {name: commands(client, name) for name in ("blmove", "evalsha")}
        eventually("three waits later", lambda: commands(client, "blmove") >= before["blmove"] + 3)
        fetches = commands(client, "evalsha") - before["evalsha"]
    assert fetches <= 3  # heartbeats; stock polls on a growing sleep, two consumers a queue


def test_a_message_starts_a_job_without_waiting_for_the_next_look(server, start_worker, waits_are_long):
    broker = darkroom_broker(server, *broker_middleware())
    jobs = Gated(broker)
    jobs.gate.set()
    start_worker(broker)
    with server.client() as client:
        eventually("it waits", lambda: waiting_consumers(client) == 1)
    darkroom_broker(server).enqueue(hint("a"))
    eventually("the job has run", lambda: jobs.ended == ["a"], seconds=45)


def test_messages_of_a_stock_producer_reach_several_idle_processes_at_once(
    server, start_worker, waits_are_long
):
    brokers = [darkroom_broker(server, *broker_middleware(), slots=1) for _ in range(3)]
    jobs = [Gated(broker) for broker in brokers]
    for broker in brokers:
        start_worker(broker)
    try:
        with server.client() as client:
            eventually("all wait", lambda: waiting_consumers(client) == 3)
        stock = RedisBroker(client=open_client(server.address), middleware=[])
        for name in "abc":
            stock.enqueue(hint(name))
        eventually("each has one", lambda: all(len(job.started) == 1 for job in jobs), seconds=45)
    finally:
        for job in jobs:
            job.gate.set()


def test_a_freed_slot_takes_the_next_message_at_once(server, start_worker, waits_are_long):
    broker = darkroom_broker(server, *broker_middleware(), slots=1)
    jobs = Gated(broker)
    start_worker(broker)
    broker.enqueue_many([hint("a"), hint("b")])
    eventually("the slot is busy", lambda: jobs.started == ["a"])
    jobs.gate.set()
    eventually("the next has run", lambda: jobs.ended == ["a", "b"], seconds=45)


def test_an_idle_worker_stops_at_once_however_long_its_threads_wait(server, start_worker, waits_are_long):
    broker = darkroom_broker(server, *broker_middleware())
    broker.declare_queue("tasks")
    worker = start_worker(broker)
    with server.client() as client:
        eventually("it waits", lambda: waiting_consumers(client) == 1)
    began = time.monotonic()
    start_worker.workers.remove(worker)
    worker.stop(timeout=90_000)
    assert time.monotonic() - began < 30


# --- the watchdog ---


class Death(BaseException):
    """Nothing in dramatiq catches it."""


def test_a_thread_that_dies_is_seen_and_one_that_is_stopped_is_not(server, start_worker, monkeypatch):
    monkeypatch.setattr(slots_module, "WAIT_SECONDS", 1.0)
    broker = darkroom_broker(
        server, *broker_middleware()[:-3]
    )  # without the watchdog, which would end this process
    broker.declare_queue("tasks")
    worker = start_worker(broker)
    assert dead_threads(worker) == []
    stopped, killed = worker.workers[0], worker.workers[1]
    stopped.stop()
    stopped.join(90)
    assert dead_threads(worker) == []
    assert killed.ident is not None
    raise_thread_exception(killed.ident, Death)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda args: None)
        killed.join(90)
    assert dead_threads(worker) == [killed.name]


# --- the event loop ---


@pytest.fixture
def loop_thread() -> Iterator[PatientEventLoopThread]:
    thread = PatientEventLoopThread(logging.getLogger("tests"), cleanup_seconds=0.2)
    thread.start(timeout=90)
    yield thread
    thread.stop()


def test_a_loop_that_turns_by_itself_is_not_called_by_the_watchdog(
    loop_thread: PatientEventLoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call wakes an idle process."""
    calls: list[Any] = []
    monkeypatch.setattr(loop_thread.loop, "call_soon_threadsafe", lambda call, *_: calls.append(call))
    monkeypatch.setattr("actors.worker.watchdog.get_event_loop_thread", lambda: loop_thread)
    watch = _LoopWatch()
    for _ in range(5):
        watch.note_turn()
        watch.check()
    assert not calls and not watch.unanswered
    for _ in range(4):
        watch.check()
    assert len(calls) == 1 and watch.unanswered == 3, "it is called once it is silent, and then judged"
    watch.note_turn()
    watch.check()
    assert not watch.unanswered


def interrupted_outcome(
    thread: EventLoopThread, coroutine: Callable[[threading.Event], Awaitable[str]]
) -> Any:
    """What run_coroutine returns or raises when its thread is interrupted while the coroutine runs."""
    running = threading.Event()
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(thread.run_coroutine(coroutine(running)))
        except (Exception, TimeLimitExceeded) as error:  # noqa: BLE001  the outcome is what we look at
            outcome.append(error)

    caller = threading.Thread(target=run)
    caller.start()
    assert running.wait(90)
    assert caller.ident is not None
    raise_thread_exception(caller.ident, TimeLimitExceeded)
    caller.join(90)
    return outcome[0]


async def cleaning_up(running: threading.Event, seconds: float, done: list[str]) -> str:
    """Needs so long to end after its cancel."""
    try:
        running.set()
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(seconds)
        done.append("cleaned up")
    return "never"


def test_an_interrupt_before_the_coroutine_begins_leaves_nothing_running(loop_thread):
    begun: list[str] = []

    async def work() -> None:
        begun.append("begun")

    def strike(callback: Callable[[], None]) -> None:
        loop_thread.loop.call_soon_threadsafe = schedule  # type: ignore[method-assign]
        raise TimeLimitExceeded

    schedule = loop_thread.loop.call_soon_threadsafe
    loop_thread.loop.call_soon_threadsafe = strike  # type: ignore[method-assign]
    with pytest.raises(TimeLimitExceeded):
        loop_thread.run_coroutine(work())
    assert begun == []


def test_a_result_and_an_error_come_back(loop_thread):
    async def answer() -> int:
        return 42

    async def too_late() -> None:
        raise TimeoutError("its own")

    assert loop_thread.run_coroutine(answer()) == 42
    with pytest.raises(TimeoutError, match="its own"):
        loop_thread.run_coroutine(too_late())


def test_an_interrupt_waits_for_the_cleanup(loop_thread):
    loop_thread.cleanup_seconds = 30
    done: list[str] = []
    outcome = interrupted_outcome(loop_thread, lambda running: cleaning_up(running, 1.5, done))
    assert isinstance(outcome, TimeLimitExceeded)
    assert done == ["cleaned up"]


@pytest.fixture
def stock_loop_thread() -> Iterator[EventLoopThread]:
    thread = EventLoopThread(logging.getLogger("tests"))
    thread.daemon = True
    thread.start(timeout=90)
    yield thread

    async def end_all() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread.run_coroutine(end_all())
    thread.stop()


def test_stock_an_interrupt_leaves_a_coroutine_running(stock_loop_thread):
    """Characterisation: after a second the thread counts as free, and a retry would overlap the first run."""
    done: list[str] = []
    interrupted_outcome(stock_loop_thread, lambda running: cleaning_up(running, 8, done))
    assert done == []


def test_a_coroutine_that_will_not_end_is_an_error_of_its_own(loop_thread):
    done: list[str] = []
    outcome = interrupted_outcome(loop_thread, lambda running: cleaning_up(running, 1.0, done))
    assert isinstance(outcome, CoroutineWouldNotEnd)
    eventually("it ends at last", lambda: done)


def test_a_time_limit_cancels_an_async_actor(server, start_worker):
    broker = darkroom_broker(server, *broker_middleware())
    seen: list[str] = []

    @dramatiq.actor(broker=broker, queue_name="tasks", actor_name="work", time_limit=1000)
    async def work(name: str) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(f"{name} cancelled")

    start_worker(broker)
    broker.enqueue(hint("a"))
    eventually("it was cancelled", lambda: seen == ["a cancelled"])
    client: Any = broker.client
    eventually("and is done with", lambda: client.hlen("dramatiq:tasks.msgs") == 0)
    assert client.zcard("dramatiq:tasks.XQ") == 0


# --- once a minute ---


class Ticks:
    """A periodic actor `sweep` that counts its runs."""

    def __init__(self, broker: Any) -> None:
        self.runs: list[str] = []
        actor = dramatiq.actor(
            broker=broker, queue_name="control", actor_name="sweep", periodic=cron("* * * * *")
        )
        actor(lambda name: self.runs.append(name))


def tick(name: str, at: datetime) -> Any:
    return hint(name, queue="control", actor="sweep").copy(options={"scheduled_at": str(at)})


def control_is_idle(broker: Any) -> bool:
    return bool(broker.client.hlen("dramatiq:control.msgs") == 0)


def this_minute() -> datetime:
    """A time in the current minute that stays in it, and young, for a while."""
    return datetime.now(UTC).replace(microsecond=0)


def test_five_ticks_of_a_minute_and_a_stale_one_are_one_run(server, start_worker):
    broker = darkroom_broker(server, *broker_middleware())
    ticks = Ticks(broker)
    now = this_minute()
    elsewhere = now.astimezone(timezone(timedelta(hours=9)))
    broker.enqueue_many(
        [
            tick("stale", now - timedelta(minutes=2)),
            tick("0", elsewhere),
            *(tick(str(n), now) for n in range(1, 5)),
        ]
    )
    start_worker(broker)
    eventually("all are done with", lambda: control_is_idle(broker))
    assert len(ticks.runs) == 1
    assert ticks.runs != ["stale"]


def test_stock_five_ticks_are_five_runs(server):
    """Characterisation: periodiq alone skips only old messages."""
    stock = RedisBroker(client=open_client(server.address), middleware=[PeriodiqMiddleware(skip_delay=55)])
    ticks = Ticks(stock)
    for n in range(5):
        stock.enqueue(tick(str(n), this_minute()))
    worker = Worker(stock, worker_threads=2)
    worker.start()
    eventually("all are done with", lambda: control_is_idle(stock))
    worker.stop(timeout=90_000)
    assert len(ticks.runs) == 5


def test_other_actors_and_other_minutes_run(server):
    broker = darkroom_broker(server, *broker_middleware())
    once = next(m for m in broker.middleware if type(m).__name__ == "PeriodicOnce")
    now = this_minute()
    first, second = (MessageProxy(tick(str(n), now + timedelta(minutes=n))) for n in range(2))
    other = MessageProxy(hint("x", actor="prune").copy(options={"scheduled_at": str(now)}))
    by_hand = MessageProxy(hint("x", queue="control", actor="sweep"))
    for message in (first, second, other, by_hand, by_hand):
        once.before_process_message(broker, message)
    with pytest.raises(SkipMessage):
        once.before_process_message(broker, MessageProxy(tick("again", now)))


def test_a_tick_delivered_again_after_its_worker_died_still_runs(server):
    broker = darkroom_broker(server, *broker_middleware())
    once = next(m for m in broker.middleware if type(m).__name__ == "PeriodicOnce")
    message = MessageProxy(tick("a", this_minute()))
    once.before_process_message(broker, message)
    once.before_process_message(broker, message)


def test_a_tick_runs_when_the_broker_cannot_be_asked(server):
    broker = darkroom_broker(server, *broker_middleware())
    once = next(m for m in broker.middleware if type(m).__name__ == "PeriodicOnce")
    server.stop()
    try:
        once.before_process_message(broker, MessageProxy(tick("a", this_minute())))
    finally:
        server.start()


@pytest.mark.parametrize(
    "scheduled_at", ["2026-01-31T23:59:00+00:00", "2026-02-01 01:29:58.5+01:30", "2026-01-31T23:59:59Z"]
)
def test_a_minute_is_given_in_utc(scheduled_at):
    assert utc_minute(scheduled_at) == "2026-01-31T23:59"


def test_a_stopped_worker_leaves_nothing_behind(server, start_worker):
    broker: DarkroomBroker = darkroom_broker(server, *broker_middleware())
    jobs = Gated(broker)
    start_worker(broker)
    broker.enqueue_many(hint(name) for name in "abc")
    eventually("two run", lambda: len(jobs.started) == 2)
    jobs.gate.set()
    eventually("all have ended", lambda: len(jobs.ended) == 3)
    start_worker.stop_all()
    assert broker.client.keys("dramatiq:__acks__*") == []
    assert broker.client.hlen("dramatiq:tasks.msgs") == 0
