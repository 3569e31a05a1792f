"""A dispatcher's round: what it claims, and what it costs a database server."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.broker.broker import DarkroomBroker
from actors.dispatcher import locked_rows
from actors.dispatcher.dispatcher import Dispatcher
from actors.dispatcher.locked_rows import LockedRows
from config.settings import Settings
from supervisor.broker.claim_lists import ClaimLists
from supervisor.core.claim import Claim
from supervisor.database.interface.database import Database
from supervisor.database.open_wakeups import dispatch_wakeups
from supervisor.database.postgres.postgres_database import PostgresDatabase
from supervisor.store.queue import ready_tasks, workers
from supervisor.store.tasks import images
from tests.conftest import DEADLINE_SECONDS, Clock, Store, wait_until
from tests.support.databases import Plain, counted_exchanges, plain_connection
from tests.support.quiet_broker import QuietBroker
from tests.support.servers.postgres_proxy import PostgresProxy

Rounds = Callable[..., list[str]]


@pytest.fixture
def broker() -> QuietBroker:
    return QuietBroker()


def _leading(settings: Settings, database: Database, broker: QuietBroker) -> Dispatcher:
    """A dispatcher that leads, and has no tick to write for the time of a test."""
    made = Dispatcher(
        settings,
        database,
        cast(DarkroomBroker, broker),
        dispatch_wakeups(database, settings),
        cast(ClaimLists, broker),
    )

    def leads() -> bool:
        made.run_once()
        return made._held is not None and made.run_once() > 0

    wait_until(leads, "it leads, and has nothing left to do")
    made._beat_due = time.monotonic() + DEADLINE_SECONDS
    return made


@pytest.fixture
def dispatcher(store: Store, broker: QuietBroker) -> Iterator[Dispatcher]:
    made = _leading(store.settings, store.database, broker)
    yield made
    made.sender.close()


@pytest.fixture
def claimed(dispatcher: Dispatcher, broker: QuietBroker) -> Rounds:
    """The ids that one round claims, in the order of its messages."""

    def run() -> list[str]:
        broker.messages.clear()
        dispatcher.run_once()
        return [claim["id"] for claim in broker.messages]

    return run


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many statements each exchange of this process with the server has had."""
    return counted_exchanges(monkeypatch)


@pytest.mark.postgresql_only
def test_a_task_written_by_sql_is_admitted_and_claimed_in_two_exchanges(
    store: Store,
    pending_task: Callable[..., str],
    live_worker: Callable[..., str],
    claimed: Rounds,
    exchanges: list[int],
) -> None:
    live_worker()
    for user in ("o-1", "o-2"):
        task_id = pending_task(user)
        exchanges.clear()
        assert claimed() == [task_id]
        assert len(exchanges) == 2, exchanges
        assert store.task(task_id)["status"] == "processing"


@pytest.mark.postgresql_only
def test_an_order_over_http_is_claimed_in_two_exchanges(
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
    claimed: Rounds,
    exchanges: list[int],
) -> None:
    live_worker()
    task_id = admitted_task()
    exchanges.clear()
    assert claimed() == [task_id]
    assert len(exchanges) == 2, exchanges


@pytest.mark.postgresql_only
def test_a_round_without_work_is_rolled_back_and_so_waits_for_no_disk(
    store: Store, live_worker: Callable[..., str], claimed: Rounds, exchanges: list[int]
) -> None:
    live_worker()
    assert claimed() == []
    marks = store.all("SELECT * FROM commit_mark ORDER BY writer")
    exchanges.clear()
    assert claimed() == []
    assert len(exchanges) == 2, "a question and ROLLBACK"
    assert store.all("SELECT * FROM commit_mark ORDER BY writer") == marks


@pytest.mark.postgresql_only
def test_claims_are_sent_though_the_answer_to_their_commit_was_lost(
    settings: Settings,
    store: Store,
    broker: QuietBroker,
    pending_task: Callable[..., str],
    live_worker: Callable[..., str],
) -> None:
    wire = PostgresProxy(settings.database_url)
    wired = PostgresDatabase(wire.url)
    dispatcher = _leading(settings, wired, broker)
    try:
        live_worker()
        task_id = pending_task()
        verdicts = iter(["after"])
        wire.cut = lambda: next(verdicts, None)
        dispatcher.run_once()
        assert next(verdicts, None) is None, "the commit was cut off"
        (claim,) = broker.messages
        row = store.task(task_id)
        assert (row["status"], row["lease"], row["attempt"]) == ("processing", 1, 1)
        assert (claim["id"], claim["lease"], claim["worker_id"]) == (task_id, 1, row["worker_id"])
        assert json.loads(claim["params"]) == json.loads(row["params"])
    finally:
        dispatcher.sender.close()
        wired.close()
        wire.close()


def test_tasks_by_sql_and_ready_ones_are_claimed_in_one_fair_order(
    store: Store,
    admitted_task: Callable[..., str],
    pending_task: Callable[..., str],
    live_worker: Callable[..., str],
    claimed: Rounds,
) -> None:
    ready = [admitted_task("many") for _ in range(3)]
    new = [pending_task("new") for _ in range(3)]
    live_worker(slots=4)
    first = claimed()
    assert first == sorted(first, key=lambda each: (store.task(each)["turn"], store.task(each)["created_at"]))
    # Of one user's tasks of one millisecond, the ids decide, which chance has made.
    assert [len({*first} & {*theirs}) for theirs in (ready, new)] == [2, 2], "both users' tasks take turns"


def test_more_ready_tasks_than_one_question_reads_and_new_ones_are_each_claimed_once(
    store: Store, producer: Plain, live_worker: Callable[..., str], claimed: Rounds
) -> None:
    def insert(count: int, prefix: str) -> None:
        for n in range(count):
            producer.execute(
                """INSERT INTO task_queue (user_openid, type, params)
                    VALUES (?, 'photography', '{"images":["https://example.org/p.jpg"]}')""",
                (f"{prefix}-{n}",),
            )

    insert(150, "early")
    assert claimed() == [], "no worker is there"
    insert(30, "late")
    live_worker(slots=500)
    both = claimed()
    assert len(both) == len(set(both)) == 180
    assert store.value("SELECT count(*) FROM task_queue WHERE lease = 1 AND attempt = 1") == 180


def test_a_users_limit_holds_for_tasks_by_sql_in_the_round_of_their_admission(
    store: Store, pending_task: Callable[..., str], live_worker: Callable[..., str], claimed: Rounds
) -> None:
    live_worker()
    for _ in range(3):
        pending_task("many")
    assert len(claimed()) == 3
    late = [pending_task("many") for _ in range(3)] + [pending_task("few")]
    assert len(claimed()) == 2, "one more of the first user's four, and the other user's"
    assert [store.task(each)["status"] for each in late].count("pending") == 2


def test_a_task_that_sql_has_ordered_for_later_runs_at_its_time(
    store: Store, clock: Clock, producer: Plain, live_worker: Callable[..., str], dispatcher: Dispatcher
) -> None:
    live_worker()
    at = (clock.now() + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    producer.execute(
        """INSERT INTO task_queue (user_openid, type, params, run_after)
            VALUES ('later', 'photography', '{"images":["https://example.org/p.jpg"]}', ?)""",
        (at,),
    )
    assert dispatcher._held is not None
    turn = dispatcher._turn(dispatcher._held, time.monotonic(), is_tick=False)
    assert turn is not None and turn.round is not None
    assert 0 < (turn.round.next_due_seconds or 0) <= 60, "the round of its admission knows its time"
    (row,) = store.all("SELECT * FROM task_queue")
    assert (row["status"], row["ready"], row["admitted_charge"]) == ("pending", 0, 1)
    clock.advance(61)
    dispatcher.run_once()
    assert store.task(row["id"])["status"] == "processing"


def test_uploads_and_large_params_of_tasks_by_sql_are_checked_in_the_round(
    store: Store, pending_task: Callable[..., str], live_worker: Callable[..., str], claimed: Rounds
) -> None:
    live_worker()
    for user in ("o-1", "o-2"):
        image = images.NewImage(f"upload-of-{user}", user, f"uploads/{user}.jpg", 4, 3, 99, "0" * 64)
        store.write(lambda tx, image=image: images.add(tx, image))

    def order(image: str, prompt: str = "") -> str:
        return pending_task("o-1", params=json.dumps({"images": [image], "prompt": prompt}))

    own, large, other = order("upload-of-o-1"), order("upload-of-o-1", "x" * 1500), order("upload-of-o-2")
    assert set(claimed()) == {own, large}
    error = json.loads(store.task(other)["error"])
    assert error["code"] == "image_not_found"


def _insert(connection: Plain, user: str, count: int = 1) -> None:
    for _ in range(count):
        connection.execute(
            """INSERT INTO task_queue (user_openid, type, params)
                VALUES (?, 'photography', '{"images":["https://example.org/p.jpg"]}')""",
            (user,),
        )


@pytest.fixture
def other(settings: Settings) -> Iterator[Plain]:
    """A second connection of a producer, whose transaction stays open."""
    with contextlib.closing(plain_connection(settings)) as connection:
        connection.execute("BEGIN")
        yield connection


@pytest.mark.postgresql_only
def test_tasks_that_an_open_transaction_has_locked_keep_no_slot_from_others(
    store: Store,
    other: Plain,
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
    claimed: Rounds,
) -> None:
    locked, free = [admitted_task("a"), admitted_task("a")], admitted_task("b")
    for each in locked:
        other.execute("SELECT 1 FROM task_queue WHERE id = ? FOR UPDATE", (each,))
    live_worker(slots=1)
    wait_until(lambda: claimed() == [free], "the third task has the slot")
    live_worker("worker-2", slots=2)
    other.execute("ROLLBACK")
    for each in locked:
        wait_until(lambda each=each: claimed() or store.task(each)["lease"], "they run once they are free")


@pytest.mark.postgresql_only
def test_a_task_whose_next_try_falls_due_during_a_round_is_tried_at_once_after_it(
    other: Plain,
    admitted_task: Callable[..., str],
    live_worker: Callable[..., str],
    dispatcher: Dispatcher,
    claimed: Rounds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a busy machine most rounds take as long as it waits for its second try."""
    monkeypatch.setattr(locked_rows, "FIRST_SECONDS", 3600.0)
    task_id = admitted_task("a")
    other.execute("SELECT 1 FROM account WHERE user_openid = 'a' FOR UPDATE")
    live_worker()
    assert claimed() == []
    other.execute("ROLLBACK")
    later, decide = [0.0], dispatcher._decide
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + later[0], sleep=time.sleep)
    monkeypatch.setattr("actors.dispatcher.dispatcher.time", clock)

    def decide_slowly(*given: Any, **more: Any) -> Any:
        decided = decide(*given, **more)
        later[0] = 3601.0
        return decided

    monkeypatch.setattr(dispatcher, "_decide", decide_slowly)
    assert dispatcher.run_once() == 0.0
    monkeypatch.setattr(dispatcher, "_decide", decide)
    assert claimed() == [task_id]


@pytest.mark.postgresql_only
def test_an_account_that_an_open_transaction_has_locked_holds_up_its_own_users_tasks_alone(
    store: Store,
    producer: Plain,
    other: Plain,
    live_worker: Callable[..., str],
    claimed: Rounds,
) -> None:
    """As a cancel by SQL does, until it is committed."""
    live_worker()
    _insert(producer, "held")
    _insert(producer, "known")
    assert len(claimed()) == 2
    other.execute("SELECT 1 FROM account WHERE user_openid = 'held' FOR UPDATE")
    for user in ("held", "known", "new"):
        _insert(producer, user)
    assert {store.task(each)["user_openid"] for each in claimed()} == {"known", "new"}
    other.execute("ROLLBACK")
    wait_until(claimed, "and its own run as soon as it is free")


@pytest.mark.postgresql_only
def test_more_tasks_of_a_locked_account_than_a_round_admits_hold_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
    producer: Plain,
    other: Plain,
    live_worker: Callable[..., str],
    claimed: Rounds,
) -> None:
    monkeypatch.setattr("actors.dispatcher.dispatcher.ADMITTED_A_ROUND", 3)
    live_worker()
    _insert(producer, "a-held")
    assert len(claimed()) == 1
    other.execute("SELECT 1 FROM account WHERE user_openid = 'a-held' FOR UPDATE")
    _insert(producer, "a-held", 5)
    _insert(producer, "b")
    wait_until(claimed, "the other user's task runs")


@pytest.mark.postgresql_only
def test_a_locked_account_does_not_hold_up_the_rescue_of_other_users_tasks(
    store: Store, other: Plain, claimed_task: Callable[..., Claim], dispatcher: Dispatcher
) -> None:
    held, free = claimed_task("held"), claimed_task("free")
    other.execute("SELECT 1 FROM account WHERE user_openid = 'held' FOR UPDATE")
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    dispatcher._emptied.add("worker-1")
    dispatcher.run_once()
    assert store.task(free.task_id)["status"] == "pending"
    assert store.task(held.task_id)["status"] == "processing"
    other.execute("ROLLBACK")
    dispatcher.run_once()
    assert store.task(held.task_id)["status"] == "pending"


def test_a_pick_does_not_read_the_long_queue_of_a_user_at_their_limit(
    monkeypatch: pytest.MonkeyPatch, producer: Plain, live_worker: Callable[..., str], claimed: Rounds
) -> None:
    read: list[int] = []
    chunk_of = ready_tasks._chunk_of

    def counting(*args: Any, **named: Any) -> list[Any]:
        rows = chunk_of(*args, **named)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(ready_tasks, "_chunk_of", counting)
    _insert(producer, "many", 150)
    _insert(producer, "few", 2)
    assert claimed() == []
    live_worker()
    assert len(claimed()) == 4 + 2
    read.clear()
    assert claimed() == []
    assert sum(read) <= 64, "at most the first chunk"


def test_what_is_held_up_is_tried_again_after_twice_the_time_until_it_is_forgotten() -> None:
    memory = LockedRows(10.0)
    assert memory.seconds_to_next(0.0, 0.0) is None
    memory.note(["a"], 0.0, 0.0)
    assert memory.passing(0.003) == ["a"] and memory.passing(0.004) == []
    assert memory.seconds_to_next(0.003, 0.003) == pytest.approx(0.001)
    memory.note(["b"], 0.003, 0.003)
    assert memory.passing(0.0035) == ["a", "b"], "a round in which it was passed says nothing of it"
    memory.note(["a"], 1.0, 1.0)
    assert memory.passing(1.007) == ["a"] and memory.passing(1.009) == []
    for now in range(2, 12):
        memory.note(["a"], float(now), float(now))
    assert memory.seconds_to_next(11.0, 11.0) == pytest.approx(1.0), "a second is the longest"
    memory.note([], 100.0, 100.0)
    memory.note(["a"], 100.0, 100.0)
    assert memory.seconds_to_next(100.0, 100.0) == pytest.approx(0.004)


def test_what_falls_due_during_the_round_that_left_it_alone_is_tried_after_it() -> None:
    memory = LockedRows(10.0)
    memory.note(["a", "b"], 0.0, 0.0)
    assert memory.passing(0.003) == ["a", "b"], "a round begins"
    memory.note([], 0.003, 0.007)
    assert memory.seconds_to_next(0.003, 0.007) == 0.0, "its end is late"
    memory.note(["a"], 0.007, 0.009)
    assert memory.seconds_to_next(0.007, 0.009) == pytest.approx(0.008), "b was tried: it has no slot"


def test_locks_of_a_moment_add_no_wait_however_often_a_busy_user_is_met_with_one() -> None:
    memory = LockedRows(0.0)
    for now in range(0, 200, 2):
        memory.note(["a"], float(now), float(now))
        assert memory.seconds_to_next(float(now), float(now)) == pytest.approx(0.004)
        memory.note([], now + 1.0, now + 1.0)
        assert memory.seconds_to_next(now + 1.0, now + 1.0) is None
