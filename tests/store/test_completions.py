"""The end of an attempt that succeeded: one commit, in which everything that follows from it is counted and stored."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import pytest

from actors.attempts.record import completed
from supervisor.core.claim import Claim
from supervisor.core.errors import LeaseLost, OutcomeUnknown
from supervisor.database.postgres.postgres_database import PostgresDatabase
from supervisor.store.counters import counters
from supervisor.store.tasks import claims, user_actions
from tests.conftest import Store
from tests.support.databases import counted_exchanges
from tests.support.servers.postgres_proxy import PostgresProxy

Counted = dict[tuple[str, str], dict[str, float]]
OF = '{"outcome":"completed","type":"photography"}'


def _counted(store: Store) -> Counted:
    found = store.database.read(counters.read_all)
    return {of: values for of, values in found.items() if '"completed"' in of[1]}


def _ran_for(store: Store, claim: Claim, seconds: float) -> None:
    store.write(
        lambda tx: tx.run(
            f"UPDATE task_queue SET processing_started_at = {tx.ago(':seconds')} WHERE id = :task_id",
            seconds=seconds,
            task_id=claim.task_id,
        )
    )


def _complete(store: Store, *ended: Claim) -> list[Exception | None]:
    made = [claims.Made(each.task_id, each.lease, []) for each in ended]
    return list(store.write(lambda tx: claims.complete_all(tx, made).get()))


def test_each_completed_task_is_counted_in_the_bucket_of_its_time(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    short, long, endless, lost = (claimed_task(f"o-{n}") for n in range(4))
    for claim, seconds in ((short, 7.0), (long, 200.0), (endless, 5000.0), (lost, 7.0)):
        _ran_for(store, claim, seconds)
    store.write(lambda tx: user_actions.cancel(tx, lost.task_id))
    assert [type(each) for each in _complete(store, short, long, endless, lost)] == [type(None)] * 3 + [
        LeaseLost
    ]
    counted = _counted(store)
    times = counted[("darkroom_task_run_seconds", OF)]
    assert counted[("darkroom_tasks_finished_total", OF)] == {"": 3}
    assert times.pop("sum") == pytest.approx(5207, abs=60)
    assert times == {"10": 1, "300": 1, "+Inf": 1}


def test_a_completion_is_counted_once(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    assert _complete(store, claim) == [None]
    before = _counted(store)
    (again,) = _complete(store, claim)
    assert isinstance(again, LeaseLost) and _counted(store) == before


@pytest.mark.postgresql_only
def test_a_completion_is_one_exchange_with_the_server(
    store: Store, claimed_task: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others wait for the rows that it locks, so they wait for no more than that."""
    claim = claimed_task()
    waited = counted_exchanges(monkeypatch)
    store.database.write(completed(claim, [], {1}), order_key=claim.task_id).result(timeout=90)
    assert len(waited) == 1 and store.task(claim.task_id)["status"] == "completed"


@pytest.mark.postgresql_only
def test_a_completion_whose_answer_was_lost_is_of_unknown_outcome_and_is_stored_once(
    store: Store, claimed_task: Callable[..., Claim], wire: PostgresProxy
) -> None:
    claim, cuts = claimed_task(), iter(["after"])
    wire.cut = lambda: next(cuts, None)
    with contextlib.closing(PostgresDatabase(wire.url)) as wired:
        with pytest.raises(OutcomeUnknown):
            wired.write(completed(claim, [], {1}), order_key=claim.task_id).result(timeout=90)
        with pytest.raises(LeaseLost):  # what the worker meets as it stores it again
            wired.write(completed(claim, [], {1}), order_key=claim.task_id).result(timeout=90)
    assert store.task(claim.task_id)["status"] == "completed"
    assert _counted(store)[("darkroom_tasks_finished_total", OF)] == {"": 1}


@pytest.mark.postgresql_only
def test_a_step_beside_a_completion_whose_answer_was_lost_gets_its_result(
    store: Store, claimed_task: Callable[..., Claim], wire: PostgresProxy
) -> None:
    """It is known to be stored: a paid request's beginning that is refused at its repetition would never be sent."""
    claim, cuts, go_on = claimed_task(), iter([None, "after"]), threading.Event()
    wire.cut = lambda: next(cuts, None)
    with contextlib.closing(PostgresDatabase(wire.url, connections=2)) as wired:  # one writer thread
        wired.write(lambda tx: go_on.wait(90))
        beside = wired.write(lambda tx: tx.value("SELECT 'stored'"), order_key="another")
        ended = wired.write(completed(claim, [], {1}), order_key=claim.task_id)
        go_on.set()
        with pytest.raises(OutcomeUnknown):
            ended.result(timeout=90)
        assert beside.result(timeout=90) == "stored"
