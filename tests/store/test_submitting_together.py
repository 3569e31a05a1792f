"""A batch of submissions: each has the same outcome as alone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peewee
import pytest

from config.settings import Settings
from supervisor.core.errors import (
    AccountLocked,
    BadParams,
    DatabaseBusy,
    InsufficientCredits,
    KeyReused,
    QueueFull,
    TooManyOpenTasks,
)
from supervisor.database.postgres import locked_steps
from supervisor.schema.migrate import migrate
from supervisor.services import submission_batcher
from supervisor.services.queue_position_cache import WaitingOrderCache
from supervisor.services.submission_batcher import Submissions
from supervisor.store.ledger import credits
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.new_task import Key, NewTask
from supervisor.store.tasks.submit import Outcome, Submitted, submit_many
from tests.conftest import DEADLINE_SECONDS, Store, wait_until
from tests.support.databases import Plain, fresh_settings, open_quickly, plain_connection

_WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
PARAMS = {"images": ["https://example.org/a.jpg"]}


class Shop(Store):
    def __init__(self, folder: Path, **settings: Any) -> None:
        chosen = fresh_settings(folder, secret="of the tests, and of nothing else 0123", **settings)
        migrate(chosen)  # some of the settings are rules of the database
        super().__init__(chosen, open_quickly(chosen))

    def submit(self, *orders: NewTask, pending: int | None = None) -> list[Outcome]:
        return self.write(lambda tx: submit_many(tx, self.settings, list(orders), pending=pending))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Any]:
    opened: list[Shop] = []

    def make(**settings: Any) -> Shop:
        opened.append(Shop(tmp_path, **settings))
        return opened[-1]

    yield make
    for each in opened:
        each.database.close()


def _new(user: str = "o-1", count: int = 1, **more: Any) -> NewTask:
    return NewTask(user, "photography", {**PARAMS, "count": count}, **more)


def _way(store: Store) -> Submissions:
    return Submissions(store.settings, store.database, WaitingOrderCache(store.database, store.settings))


def _kinds(outcomes: list[Outcome]) -> list[Any]:
    return [type(outcome) for outcome in outcomes]


def test_every_order_has_its_own_outcome_and_only_the_good_ones_are_stored(shop: Any) -> None:
    here = shop()
    outcomes = here.submit(
        _new(),
        NewTask("o-1", "unknown", PARAMS),
        NewTask("o-1", "photography", {"images": ["NOT-THERE"]}),
        NewTask("o-1", "photography", {"images": "x"}),
        _new("o-2"),
    )
    assert _kinds(outcomes) == [Submitted, *[outcome.__class__ for outcome in outcomes[1:4]], Submitted]
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, BadParams)]
    assert codes == ["unknown_type", "image_not_found", "bad_params"]
    assert [row["user_openid"] for row in here.all("SELECT user_openid FROM task_queue ORDER BY id")] == [
        "o-1",
        "o-2",
    ]


def test_the_last_credit_is_spent_once(shop: Any) -> None:
    here = shop(credits={"signup_grant": 5})
    outcomes = here.submit(_new(count=2), _new(count=2), _new(count=2), _new(count=1), _new("o-2", count=5))
    assert _kinds(outcomes) == [Submitted, Submitted, InsufficientCredits, Submitted, Submitted]
    assert {row["balance"] for row in here.all("SELECT balance FROM account")} == {0}
    sums = here.all("SELECT sum(amount) AS left FROM credit_entry GROUP BY user_openid")
    assert [row["left"] for row in sums] == [0, 0]


def test_limits_hold_within_a_batch(shop: Any) -> None:
    here = shop(limits={"open_tasks_per_user": 2, "pending_tasks": 5})
    outcomes = here.submit(*(_new() for _ in range(3)), *(_new(f"o-{n}") for n in range(2, 7)))
    assert _kinds(outcomes) == [*[Submitted] * 2, TooManyOpenTasks, *[Submitted] * 3, *[QueueFull] * 2]
    assert _kinds(here.submit(_new("o-9"), pending=4)) == [Submitted], "the reading it is given counts"


def test_works_of_one_moment_sort_as_their_orders_came(shop: Any) -> None:
    here = shop()
    outcomes = here.submit(*(_new() for _ in range(20)))
    views = [outcome.view for outcome in outcomes if isinstance(outcome, Submitted)]
    newest_first = here.all("SELECT id, task_id FROM works ORDER BY created_at DESC, id DESC")
    assert [row["id"] for row in newest_first] == [view["work_id"] for view in reversed(views)]
    assert [row["task_id"] for row in newest_first] == [view["task_id"] for view in reversed(views)]


def test_turns_follow_the_order_of_the_batch_after_existing_tasks(shop: Any) -> None:
    here = shop()
    here.submit(_new("many"), _new("many"))
    here.submit(_new("few"), *(_new("many") for _ in range(3)), _new("many", priority=-1))
    rows = here.all("SELECT user_openid, priority, turn FROM task_queue ORDER BY id")
    assert [(row["user_openid"], row["priority"], row["turn"]) for row in rows] == [
        *[("many", 0, n) for n in range(2)],
        ("few", 0, 0),
        *[("many", 0, n) for n in range(2, 5)],
        ("many", -1, 0),
    ]


def test_ids_of_a_batch_sort_by_the_arrival_of_its_orders(shop: Any) -> None:
    here = shop(limits={"open_tasks_per_user": 0})
    outcomes = here.submit(*(_new(f"o-{n}") for n in range(50)))
    ids = [outcome.view["task_id"] for outcome in outcomes]
    assert ids == sorted(ids)


def test_a_view_is_what_the_store_would_read(shop: Any) -> None:
    here = shop()
    (one, later) = here.submit(_new(), _new(run_after="2100-01-01T00:00:00.000Z"))
    for outcome in (one, later):
        read = here.database.read(lambda tx: user_actions.get(tx, outcome.view["task_id"]))  # noqa: B023
        counts_down = {"due_in_seconds": None}  # no answer to a submission says it
        assert read is not None and outcome.view == read | counts_down
    assert one.view["is_in_line"] and not later.view["is_in_line"]


async def test_when_the_database_refuses_one_the_others_are_stored(shop: Any) -> None:
    here = shop()
    way = Submissions(here.settings, here.database, WaitingOrderCache(here.database, here.settings))
    await way.submit(_new(task_id="mine"))
    orders = [_new("o-2"), _new(task_id="mine"), _new("o-3", task_id="bad id"), _new("o-4")]
    with contextlib.closing(sqlite3.connect(here.settings.data_dir / "darkroom.db")) as other:
        other.execute("BEGIN IMMEDIATE")  # another process writes: meanwhile a batch gathers
        asked = asyncio.gather(*(way.submit(each) for each in orders), return_exceptions=True)
        await asyncio.sleep(0.05)
        other.rollback()
    outcomes = await asked
    assert _kinds(outcomes) == [Submitted, peewee.IntegrityError, peewee.IntegrityError, Submitted]
    assert len(here.all("SELECT 1 FROM task_queue")) == 3


async def test_a_database_that_cannot_be_written_fails_the_batch_and_the_next_batch_tries_again(
    shop: Any,
) -> None:
    here = shop()
    way = Submissions(here.settings, here.database, WaitingOrderCache(here.database, here.settings))
    write, failed = here.database.write, 0

    def fail(step: Any) -> Any:
        nonlocal failed
        failed += 1
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_exception(DatabaseBusy("locked"))
        return future

    here.database.write = fail
    outcomes = await asyncio.wait_for(
        asyncio.gather(*(way.submit(_new()) for _ in range(9)), return_exceptions=True), 10
    )
    assert _kinds(outcomes) == [DatabaseBusy] * 9 and failed <= 3
    here.database.write = write
    assert isinstance(await way.submit(_new()), Submitted)


async def test_many_submissions_become_few_transactions(shop: Any) -> None:
    here = shop(limits={"open_tasks_per_user": 0})
    written: list[Any] = []
    write = here.database.write
    here.database.write = lambda step: (written.append(step), write(step))[1]
    way = Submissions(here.settings, here.database, WaitingOrderCache(here.database, here.settings))
    outcomes = await asyncio.gather(*(way.submit(_new(f"o-{n % 7}")) for n in range(200)))
    assert len({outcome.view["task_id"] for outcome in outcomes}) == 200
    assert len(written) < 10


def _waiting_order(producer: Plain) -> NewTask:
    """An order whose transaction waits until the producer rolls back: its key is being stored."""
    key = Key("held", "POST", "/v1/tasks", "k", "hash")
    producer.execute("BEGIN")
    producer.execute(
        """INSERT INTO idempotency_key (user_openid, method, path, key, body_hash, task_id)
            SELECT 'held', 'POST', '/v1/tasks', 'k', 'hash', id FROM task_queue WHERE user_openid = 'held'"""
    )
    return _new("held", key=key)


@pytest.mark.postgresql_only
@pytest.mark.parametrize("long_seconds", [600.0, 0.01])
async def test_orders_that_come_during_a_transaction_are_the_next_one_unless_it_takes_long(
    store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch, long_seconds: float
) -> None:
    monkeypatch.setattr(submission_batcher, "LONG_SECONDS", long_seconds)
    monkeypatch.setattr(locked_steps, "FIRST_SECONDS", 20.0)  # a lock is what its transaction takes long over
    way = _way(store)
    await asyncio.gather(*(way.submit(_new(user)) for user in ("held", "free")))
    written: list[Any] = []
    write = store.database.write
    monkeypatch.setattr(store.database, "write", lambda step: (written.append(step), write(step))[1])
    held = asyncio.create_task(way.submit(_waiting_order(producer)))
    await asyncio.to_thread(
        wait_until, lambda: producer.execute(_WAITS).fetchone() == (1,), "it waits for its key"
    )
    others = asyncio.gather(*(way.submit(_new("free")) for _ in range(12)))
    if long_seconds < 1:
        await others
        assert not held.done()
        producer.execute("ROLLBACK")
    else:
        await asyncio.sleep(0.1)  # two of the pauses that it would make by itself
        assert len(written) == 1 and not others.done()
        producer.execute("ROLLBACK")
        await others
        assert len(written) == 2
    assert isinstance(await held, Submitted)


def test_equal_orders_in_a_batch_are_one_task(shop: Any) -> None:
    here = shop()
    key = Key("o-1", "POST", "/v1/tasks", "k", "hash")
    other = Key("o-1", "POST", "/v1/tasks", "k", "another")
    outcomes = here.submit(_new(key=key), _new(key=key), _new(key=other), _new())
    assert _kinds(outcomes) == [Submitted, Submitted, KeyReused, Submitted]
    assert [outcome.is_replay for outcome in outcomes if isinstance(outcome, Submitted)] == [
        False,
        True,
        False,
    ]
    assert len(here.all("SELECT 1 FROM task_queue")) == 2


def test_the_twin_of_a_refused_order_is_refused_alike(shop: Any) -> None:
    here = shop(credits={"signup_grant": 0})
    key = Key("o-1", "POST", "/v1/tasks", "k", "hash")
    assert _kinds(here.submit(_new(key=key), _new(key=key))) == [InsufficientCredits] * 2
    here.database.write_now(lambda tx: credits.grant(tx, "o-1", 1, "r"))
    assert _kinds(here.submit(_new(key=key))) == [Submitted]


@pytest.mark.postgresql_only
async def test_orders_beside_a_transaction_that_has_taken_long_already_wait_no_more(
    store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_batcher, "LONG_SECONDS", 0.2)
    monkeypatch.setattr(locked_steps, "FIRST_SECONDS", 20.0)  # a lock is what its transaction takes long over
    way = _way(store)
    await asyncio.gather(*(way.submit(_new(user)) for user in ("held", "free")))
    held = asyncio.create_task(way.submit(_waiting_order(producer)))
    await asyncio.to_thread(
        wait_until, lambda: producer.execute(_WAITS).fetchone() == (1,), "it waits for its key"
    )
    await way.submit(_new("free"))
    loop, waits = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def noting(when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
        if callback == way._start_step:
            waits.append(when - loop.time())
        return call_at(when, callback, *args, **more)

    monkeypatch.setattr(loop, "call_at", noting)
    await way.submit(_new("free"))
    assert waits and max(waits) <= 0
    producer.execute("ROLLBACK")
    assert isinstance(await held, Submitted)


@pytest.mark.postgresql_only
async def test_orders_of_a_locked_account_hold_up_no_other_user_s(
    store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_batcher, "MOST_HELD_SECONDS", 600.0)
    way = _way(store)
    await asyncio.gather(*(way.submit(_new(user)) for user in ("held", "free")))
    producer.execute("BEGIN")
    producer.execute("SELECT 1 FROM account WHERE user_openid = 'held' FOR UPDATE")
    held = []
    for other in ("free", "free", "newcomer"):  # more than there are steps under way, and writer threads
        held.append(asyncio.create_task(way.submit(_new("held"))))
        assert isinstance(await way.submit(_new(other)), Submitted)
    assert not any(each.done() for each in held)
    producer.execute("ROLLBACK")
    ids = [(await asyncio.wait_for(each, DEADLINE_SECONDS)).view["task_id"] for each in held]
    rows = store.all("SELECT id FROM task_queue WHERE user_openid = 'held' ORDER BY turn")
    assert [row["id"] for row in rows][1:] == ids == sorted(ids), "in the order in which they came"


@pytest.mark.postgresql_only
async def test_orders_of_an_account_that_another_transaction_is_opening_hold_up_no_other_user_s(
    store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a producer's first order for a user does, until it is committed."""
    monkeypatch.setattr(submission_batcher, "MOST_HELD_SECONDS", 600.0)
    way = _way(store)
    await way.submit(_new("free"))
    producer.execute("BEGIN")
    producer.execute("INSERT INTO account (user_openid) VALUES ('held')")
    held = []
    for other in ("free", "free", "newcomer"):
        held.append(asyncio.create_task(way.submit(_new("held"))))
        beside, taken = way.submit(_new(other)), way.submit(_new("another newcomer"))
        assert all(isinstance(each, Submitted) for each in await asyncio.gather(beside, taken))
    assert not any(each.done() for each in held)
    producer.execute("COMMIT")
    for each in held:
        assert isinstance(await asyncio.wait_for(each, DEADLINE_SECONDS), Submitted)
    grants = "SELECT count(*) FROM credit_entry WHERE user_openid = 'held' AND kind = 'grant'"
    assert store.value(grants) == 1


@pytest.mark.postgresql_only
def test_an_order_that_needs_a_locked_row_of_another_kind_is_the_only_one_left_out(
    store: Store, producer: Plain
) -> None:
    store.write(lambda tx: submit_many(tx, store.settings, [_new("held"), _new("free")]))
    order = _waiting_order(producer)
    outcomes = store.write(
        lambda tx: submit_many(tx, store.settings, [_new("free"), order, _new("free")], waits=False)
    )
    assert _kinds(outcomes) == [Submitted, AccountLocked, Submitted]


@pytest.mark.postgresql_only
async def test_equal_orders_of_a_locked_account_are_one_task_once_it_is_free(
    store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_batcher, "MOST_HELD_SECONDS", 600.0)
    way = _way(store)
    await way.submit(_new("held"))
    producer.execute("BEGIN")
    producer.execute("SELECT 1 FROM account WHERE user_openid = 'held' FOR UPDATE")
    key = Key("held", "POST", "/v1/tasks", "k", "hash")
    first = asyncio.create_task(way.submit(_new("held", key=key)))
    await way.submit(_new("free"))
    gone = asyncio.create_task(way.submit(_new("held")))
    second = asyncio.create_task(way.submit(_new("held", key=key)))
    await way.submit(_new("free"))
    gone.cancel()  # its caller has disconnected: it is stored all the same
    producer.execute("ROLLBACK")
    one, two = await asyncio.wait_for(asyncio.gather(first, second), DEADLINE_SECONDS)
    assert (one.is_replay, two.is_replay) == (False, True)
    assert one.view["task_id"] == two.view["task_id"]
    assert store.value("SELECT count(*) FROM task_queue WHERE user_openid = 'held'") == 3


@pytest.mark.postgresql_only
async def test_an_order_whose_account_stays_locked_is_refused_and_not_stored(
    store: Store, producer: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission_batcher, "MOST_HELD_SECONDS", 0.2)
    way = _way(store)
    await way.submit(_new("held"))
    producer.execute("BEGIN")
    producer.execute("SELECT 1 FROM account WHERE user_openid = 'held' FOR UPDATE")
    key = Key("held", "POST", "/v1/tasks", "k", "hash")
    with pytest.raises(DatabaseBusy, match="nothing was stored"):
        await asyncio.wait_for(way.submit(_new("held", key=key)), DEADLINE_SECONDS)
    producer.execute("ROLLBACK")
    assert store.value("SELECT count(*) FROM task_queue WHERE user_openid = 'held'") == 1
    again = await asyncio.wait_for(way.submit(_new("held", key=key)), DEADLINE_SECONDS)
    assert not again.is_replay, "the key is free for the next try"


@pytest.mark.postgresql_only
async def test_an_order_is_stored_though_its_account_is_locked_at_every_moment(
    store: Store, settings: Settings
) -> None:
    way = _way(store)
    await way.submit(_new("hot"))
    is_over = threading.Event()

    def keep_locking() -> None:
        with contextlib.closing(plain_connection(settings)) as connection:
            while not is_over.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM account WHERE user_openid = 'hot' FOR UPDATE")
                time.sleep(0.003)
                connection.execute("COMMIT")

    with concurrent.futures.ThreadPoolExecutor(3) as several:
        locking = [several.submit(keep_locking) for _ in range(3)]
        try:
            for _ in range(10):
                assert isinstance(await way.submit(_new("hot")), Submitted)
        finally:
            is_over.set()
    assert all(each.exception() is None for each in locking)
