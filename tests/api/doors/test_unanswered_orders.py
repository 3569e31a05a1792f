"""An order whose web process ended before it answered is taken over by one repeat of it, and by nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from supervisor.database.interface.life_lock import LifeLock
from supervisor.database.open_life_lock import lives_on, open_life_lock
from supervisor.objects.open_store import open_file_store
from supervisor.processes.parent_death import dying_with_us
from supervisor.services.queue_position_cache import WaitingOrderCache
from supervisor.services.submission_batcher import Submissions
from supervisor.services.sweep import sweep
from supervisor.store.tasks import cut_orders, unanswered_orders, user_actions
from supervisor.store.tasks.new_task import Key, NewTask, Repeatable
from supervisor.store.tasks.submit import Submitted, submit_many
from supervisor.store.tasks.unanswered_orders import Unanswered
from tests.conftest import PARAMS, Clock, Store
from tests.support.houses.web_server import until
from tests.support.waiting import eventually

PROCESS = """
import threading
from config.load_settings import load_settings
from supervisor.database.open_database import open_database
from supervisor.database.open_life_lock import open_life_lock
settings = load_settings()
life = open_life_lock(open_database(settings), settings)
life.seek()
while not life.is_held:
    threading.Event().wait(0.01)
print(life.name, flush=True)
threading.Event().wait()
"""
OTHERS = """SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

Process = Callable[[], LifeLock]


@pytest.fixture
def process(store: Store) -> Iterator[Process]:
    """A web process as others see it; `close` is its death."""
    made: list[LifeLock] = []

    def start() -> LifeLock:
        life = open_life_lock(store.database, store.settings)
        made.append(life)
        life.seek()
        eventually("it is seen to live", lambda: life.is_held)
        return life

    yield start
    for life in made:
        life.close()


def _ends(store: Store, life: LifeLock) -> None:
    """The process's death, as others see it: a server notices the end of a connection only a moment later."""
    life.close()
    lives = lives_on(store.database)
    eventually("it is seen to have ended", lambda: store.write(lambda tx: lives.has_ended(tx, life.name)))


def _order(user: str = "o-1", door: str = "fal", body: str = "h", begun: float = 0.0) -> NewTask:
    return NewTask(user, "photography", PARAMS, repeats=Repeatable(user, door, body, lambda: begun))


def _submit(store: Store, life: LifeLock, *orders: NewTask) -> list[Submitted]:
    outcomes = store.write(lambda tx: submit_many(tx, store.settings, orders or [_order()], life=life))
    assert all(isinstance(each, Submitted) for each in outcomes), outcomes
    return [each for each in outcomes if isinstance(each, Submitted)]


def _task(submitted: Submitted) -> str:
    return str(submitted.view["task_id"])


def _left_by_a_dead(store: Store, process: Process, *orders: NewTask) -> list[str]:
    """Tasks of orders that a process has stored, and not answered before it ended."""
    life = process()
    made = [_task(each) for each in _submit(store, life, *orders)]
    _ends(store, life)
    return made


def _rows(store: Store) -> list[tuple[str, str]]:
    return [
        (row["task_id"], row["holder"])
        for row in store.all("SELECT task_id, holder FROM unanswered_order ORDER BY task_id")
    ]


def test_of_several_equal_orders_one_takes_over_what_a_dead_process_owed(
    store: Store, process: Process
) -> None:
    (task_id,) = _left_by_a_dead(store, process)
    life = process()
    made = _submit(store, life, _order(), _order())
    assert [_task(each) == task_id for each in made] == [True, False]
    assert [each.is_replay for each in made] == [True, False]
    assert store.balance() == store.settings.credits.signup_grant - 2, "paid as often as ordered"
    assert _rows(store) == sorted((_task(each), life.name) for each in made), "this process owes both now"


def test_while_the_process_lives_equal_orders_are_several(store: Store, process: Process) -> None:
    one, other = process(), process()
    made = [*_submit(store, one, _order(), _order()), *_submit(store, other), *_submit(store, one)]
    assert len({_task(each) for each in made}) == 4 and not any(each.is_replay for each in made)


def test_what_was_answered_is_not_taken_over(store: Store, process: Process) -> None:
    life = process()
    (made,) = _submit(store, life)
    store.write(lambda tx: cut_orders.note_answered(tx, [Unanswered("h", _task(made))], life.name))
    _ends(store, life)
    assert not _submit(store, process())[0].is_replay


def test_what_was_answered_is_not_taken_over_though_its_process_looked_ended_for_a_moment(
    store: Store, process: Process
) -> None:
    """As one does whose connection to PostgreSQL broke, and the sweep came just then."""
    life = process()
    task_id = _task(_submit(store, life)[0])
    _ends(store, life)
    assert store.write(lambda tx: unanswered_orders.note_cuts(tx, lives_on(store.database))) == 1
    store.write(lambda tx: cut_orders.note_answered(tx, [Unanswered("h", task_id)], life.name))
    assert not _submit(store, process())[0].is_replay


def test_a_process_deletes_no_row_of_another(store: Store, process: Process) -> None:
    (task_id,), other = _left_by_a_dead(store, process), process()
    store.write(lambda tx: unanswered_orders.forget(tx, [Unanswered("h", task_id)], other.name))
    assert _task(_submit(store, other)[0]) == task_id


def test_it_passes_from_one_dead_process_to_the_next(store: Store, process: Process) -> None:
    (task_id,) = _left_by_a_dead(store, process)
    for _ in range(3):
        assert _left_by_a_dead(store, process) == [task_id]
    assert store.balance() == store.settings.credits.signup_grant - 1


@pytest.mark.parametrize(
    "other",
    [_order("o-2"), _order(door="openai"), _order(body="g"), NewTask("o-1", "photography", PARAMS)],
    ids=["another user", "another door", "another body", "no door"],
)
def test_nothing_else_takes_it_over(store: Store, process: Process, other: NewTask) -> None:
    (task_id,), life = _left_by_a_dead(store, process), process()
    assert not _submit(store, life, other)[0].is_replay
    assert _task(_submit(store, life)[0]) == task_id, "it still waits for its repeat"


def test_an_order_with_a_key_is_found_by_its_key_alone(store: Store, process: Process) -> None:
    keyed = NewTask(
        "o-1", "photography", PARAMS, key=Key("o-1", "POST", "/fal", "k", "h"), repeats=_order().repeats
    )
    (task_id,) = _left_by_a_dead(store, process, keyed)
    assert _rows(store) == []
    life = process()
    assert not _submit(store, life)[0].is_replay
    assert _task(_submit(store, life, keyed)[0]) == task_id


def test_a_cancelled_task_is_not_taken_over(store: Store, process: Process) -> None:
    (task_id,) = _left_by_a_dead(store, process)
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert not _submit(store, process())[0].is_replay


def test_of_repeats_in_several_processes_one_takes_it_over(store: Store, process: Process) -> None:
    (task_id,), lives = _left_by_a_dead(store, process), [process() for _ in range(4)]
    with ThreadPoolExecutor(4) as several:
        made = list(several.map(lambda life: _submit(store, life)[0], lives))
    assert [_task(each) for each in made if each.is_replay] == [task_id]


def test_a_cut_that_the_process_noted_leaves_no_second_row(store: Store, process: Process) -> None:
    life, repeats = process(), _order().repeats
    assert repeats is not None
    task_id = _task(_submit(store, life)[0])
    store.write(lambda tx: cut_orders.note(tx, task_id, repeats, 0.5, life.name))
    assert _rows(store) == []
    other = process()
    assert [_task(each) == task_id for each in _submit(store, other, _order(), _order())] == [True, False]


def test_the_sweep_makes_cut_orders_of_them_for_a_minute(
    store: Store, process: Process, clock: Clock
) -> None:
    files: Any = open_file_store(store.settings)
    living = process()
    kept = _task(_submit(store, living, _order(body="other"))[0])
    for seconds, is_taken in ((59.0, True), (61.0, False)):
        (task_id,) = _left_by_a_dead(store, process)
        sweep(store.database, store.settings, files)
        assert _rows(store) == [(kept, living.name)], "a living process keeps its own"
        clock.advance(seconds)
        assert (_task(_submit(store, living)[0]) == task_id) is is_taken
        store.write(lambda tx: tx.execute("DELETE FROM cut_order"))
        store.write(lambda tx: tx.execute("DELETE FROM unanswered_order WHERE body_hash = 'h'"))


def test_the_sweep_forgets_a_row_whose_task_is_gone(store: Store, process: Process) -> None:
    life = process()
    store.write(
        lambda tx: unanswered_orders.note(tx, [("gone", Repeatable("o", "fal", "h", float))], life.name)
    )
    assert store.write(lambda tx: unanswered_orders.note_cuts(tx, lives_on(store.database))) == 0
    assert _rows(store) == []


def test_that_an_order_was_answered_is_stored_with_the_next_order(
    store: Store, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supervisor.services.submission_batcher.ANSWERED_SECONDS", 3600.0)
    life = process()

    async def order_twice() -> list[str]:
        order = WaitingOrderCache(store.database, store.settings)
        submissions = Submissions(store.settings, store.database, order, life)
        made = []
        for _ in range(2):
            made.append(_task(await submissions.submit(_order())))
            submissions.answered(Unanswered("h", made[-1]))
        return made

    first, second = asyncio.run(order_twice())
    assert first != second and [task_id for task_id, _ in _rows(store)] == [second]


def test_that_an_order_was_answered_is_stored_soon_though_no_other_comes(
    store: Store, process: Process
) -> None:
    life = process()

    async def order_once() -> None:
        order = WaitingOrderCache(store.database, store.settings)
        submissions = Submissions(store.settings, store.database, order, life)
        submissions.answered(Unanswered("h", _task(await submissions.submit(_order()))))
        await until(lambda: not _rows(store), "it is stored")

    asyncio.run(order_once())


# --- the locks ---


def test_a_killed_process_is_seen_to_have_ended_and_a_living_one_is_not(
    store: Store, process: Process
) -> None:
    settings = {
        "CONFIG": "",
        "DATA_DIR": store.settings.data_dir,
        "DATABASE_URL": store.settings.database_url,
    }
    child = subprocess.Popen(
        dying_with_us([sys.executable, "-c", PROCESS]),
        env={f"DARKROOM_{name}": str(value) for name, value in settings.items()},
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        name, life, lives = child.stdout.readline().strip(), process(), lives_on(store.database)
        assert not store.write(lambda tx: lives.has_ended(tx, name)) and not store.write(
            lambda tx: life.has_ended(tx, name)
        )
        child.kill()
    eventually("it has ended", lambda: store.write(lambda tx: lives.has_ended(tx, name)))
    assert not store.write(lambda tx: lives.has_ended(tx, life.name))


@pytest.mark.postgresql_only
def test_a_process_that_lost_its_connection_is_seen_to_live_again(store: Store, process: Process) -> None:
    life = process()
    with psycopg.connect(store.settings.database_url, autocommit=True) as server:
        server.execute(OTHERS)
    eventually("it knows", lambda: not life.is_held)
    task_id = _task(_submit(store, life)[0])
    assert _rows(store) == [], "no order is in the name of a lock that is not held"
    life.seek()
    eventually("it has it again", lambda: life.is_held)
    assert not store.write(lambda tx: lives_on(store.database).has_ended(tx, life.name))
    assert _task(_submit(store, life)[0]) != task_id


@pytest.mark.sqlite_only
def test_a_process_that_starts_deletes_the_files_of_the_dead(store: Store, process: Process) -> None:
    folder = store.settings.data_dir
    living = process()
    (folder / "darkroom.db.alive-01OLD").touch()
    one = process()
    assert {each.name for each in folder.glob("*.alive-*")} == {
        f"darkroom.db.alive-{each.name}" for each in (living, one)
    }
    one.close()
    assert len(list(folder.glob("*.alive-*"))) == 1


@pytest.mark.sqlite_only
def test_a_process_that_starts_never_holds_a_file_that_another_one_deletes(
    store: Store, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had made its file, and not locked it yet, when the other one found it free."""
    starting, delete = open_life_lock(store.database, store.settings), Path.unlink
    path = store.settings.data_dir / f"darkroom.db.alive-{starting.name}"
    path.touch()

    def lock_then_delete(self: Path, missing_ok: bool = False) -> None:
        if self == path:
            monkeypatch.setattr(Path, "unlink", delete)
            monkeypatch.setattr("supervisor.database.sqlite.sqlite_life_lock._delete_free", lambda _: None)
            starting.seek()
        delete(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", lock_then_delete)
    process()
    starting.seek()
    assert starting.is_held and path.exists()
    starting.close()
