"""The shared state of an AI service: its breaker, and the number of tasks that a pick may give it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.provider import ProviderLimits
from config.settings import Settings
from supervisor.core.claim import Claim
from supervisor.core.errors import ProviderIsDown
from supervisor.remote.breaker import MOST_SECONDS, TROUBLES, Breaker, Sign, after, open_seconds
from supervisor.remote.job_states import RemoteState
from supervisor.store.limits import pauses, providers
from supervisor.store.limits.providers import Change
from supervisor.store.queue import ready_tasks
from supervisor.store.remote import remote_jobs
from supervisor.store.remote.remote_jobs import Evidence
from supervisor.store.tasks import user_actions
from tests.conftest import PARAMS, Clock, Store
from tests.support.workers import complete

NO_LIMITS = ProviderLimits()


def ask(store: Store, name: str = "ai") -> int | None:
    return store.write(lambda tx: providers.take_room(tx, name, NO_LIMITS, probe_seconds=60))


def ends(
    store: Store, sign: Sign, probe: int | None = None, wait: float = 10, name: str = "ai"
) -> Change | None:
    return store.write(lambda tx: providers.note(tx, name, sign, probe=probe, wait_seconds=wait))


def state(store: Store, name: str = "ai") -> str:
    return store.database.read(lambda tx: providers.breakers(tx).get()).get(name, "closed")


# --- the decision ---


@given(st.lists(st.tuples(st.sampled_from(Sign), st.booleans())))
def test_an_open_breaker_moves_by_its_probe_alone(ends):
    breaker = Breaker()
    for sign, is_probe in ends:
        before, breaker = breaker, after(breaker, sign, is_probe=is_probe)
        if before.is_open and not is_probe:
            assert breaker == before
        if before.is_open and is_probe:
            assert breaker.is_open == (sign is not Sign.WELL)
        if not before.is_open and breaker.is_open:
            assert sign is Sign.DOWN or before.troubles == TROUBLES - 1
        assert 0 <= breaker.troubles < TROUBLES
        assert breaker.is_open == (breaker.openings > 0)


@given(st.integers(1, 10_000), st.floats(0.001, 100_000))
def test_it_stays_open_for_the_given_time_and_twice_as_long_each_time(openings, wait):
    seconds = open_seconds(openings, wait)
    assert seconds >= wait
    assert seconds <= max(wait, MOST_SECONDS)
    if seconds < MOST_SECONDS:
        assert open_seconds(openings + 1, wait) in (2 * seconds, MOST_SECONDS)


# --- where it is kept ---


def test_a_provider_that_is_down_is_asked_by_one_probe_at_a_time_until_it_is_up(store: Store, clock: Clock):
    assert ask(store) is None
    opened = ends(store, Sign.DOWN)
    assert opened is not None and opened.open_seconds == 10
    assert state(store) == "open"
    with pytest.raises(ProviderIsDown) as down:
        ask(store)
    assert 0 < down.value.wait_seconds <= 10
    clock.advance(10.1)
    assert state(store) == "half_open"
    probe = ask(store)
    assert probe is not None
    with pytest.raises(ProviderIsDown):  # one at a time
        ask(store)
    longer = ends(store, Sign.TROUBLE, probe)
    assert longer is not None and longer.open_seconds == 20
    clock.advance(20.1)
    second = ask(store)
    assert second is not None
    closed = ends(store, Sign.WELL, second)
    assert closed is not None and not closed.now.is_open
    assert (state(store), ask(store)) == ("closed", None)


def test_a_request_from_before_the_opening_decides_nothing(store: Store):
    ends(store, Sign.DOWN)
    assert ends(store, Sign.WELL) is None
    assert ends(store, Sign.DOWN) is None
    assert state(store) == "open"


def test_a_probe_whose_worker_died_is_followed_by_another_that_counts(store: Store, clock: Clock):
    ends(store, Sign.DOWN)
    clock.advance(11)
    lost = ask(store)
    clock.advance(61)
    newest = ask(store)
    assert newest is not None and newest != lost
    assert ends(store, Sign.WELL, lost) is None
    assert ends(store, Sign.WELL, newest) is not None


def test_trouble_in_a_row_opens_it_and_one_success_begins_a_new_count(store: Store):
    for _ in range(TROUBLES - 1):
        assert ends(store, Sign.TROUBLE) is None
    ends(store, Sign.WELL)
    for _ in range(TROUBLES - 1):
        assert ends(store, Sign.TROUBLE) is None
    assert state(store) == "closed"
    assert ends(store, Sign.TROUBLE) is not None
    assert state(store) == "open"
    assert state(store, "another") == "closed"


# --- the pick ---


@pytest.fixture
def shop(store: Store, live_worker: Callable[..., str]) -> Callable[..., Store]:
    """A store with a type `own` that goes to `ai`, then to the fallback."""

    def make(limits: dict[str, Any] | None = None, **own: Any) -> Store:
        http = {"kind": "http", "may_bill_twice": False}
        changed = Settings(
            data_dir=store.settings.data_dir,
            providers={"ai": {**http, "limits": limits or {}}, "second": http},  # type: ignore[dict-item]
            tasks={"own": {"provider": "ai", **own}},  # type: ignore[dict-item]
            limits={"running_tasks_per_user": 0, "open_tasks_per_user": 0},  # type: ignore[arg-type]
        )
        store.settings = changed
        live_worker()
        for _ in range(5):
            new = user_actions.NewTask("o-1", "own", {**PARAMS, "count": 1}, 0, None)
            store.write(functools.partial(user_actions.submit, settings=changed, new=new))
        return store

    return make


def begin(store: Store, claim: Claim) -> Evidence:
    return store.write(lambda tx: remote_jobs.begin(tx, claim, "ai", store.settings.providers["ai"], 0))


def picked(store: Store) -> int:
    return len(store.dispatch())


def test_a_type_whose_providers_are_all_down_leaves_the_pick(shop):
    store = shop()
    ends(store, Sign.DOWN)
    assert picked(store) == 0
    assert store.value("SELECT count(*) FROM task_queue WHERE status = 'pending' AND ready = 1") == 5


def test_of_a_type_whose_provider_may_be_probed_one_task_is_picked(shop, clock: Clock):
    store = shop()
    ends(store, Sign.DOWN)
    clock.advance(11)
    assert (picked(store), picked(store)) == (1, 0)


def test_a_fallback_keeps_its_type_in_the_pick_while_the_first_is_down(shop):
    store = shop(fallback=["second"])
    ends(store, Sign.DOWN)
    assert picked(store) == 5
    ends(store, Sign.DOWN, name="second")
    assert (
        store.database.read(
            lambda tx: providers.rooms(tx, store.settings, pauses.by_kind(tx)).get()("own", "")
        )
        == 0
    )


def test_a_provider_that_a_task_may_name_keeps_its_type_in_the_pick(shop):
    store = shop(allow_providers=["second"])
    ends(store, Sign.DOWN)
    assert picked(store) == 5


def test_a_full_provider_costs_no_claims(shop):
    store = shop({"concurrency": 2})
    first, second = store.dispatch()
    assert picked(store) == 0
    evidence = begin(store, first)
    assert picked(store) == 0
    store.write(lambda tx: remote_jobs.settle(tx, evidence, RemoteState.DONE))
    store.write(lambda tx: complete(tx, first.task_id, first.lease, []))
    assert picked(store) == 1
    assert second.task_id != first.task_id


def test_a_provider_that_was_asked_enough_for_this_second_costs_no_claims(shop, clock: Clock):
    store = shop({"rps": 2})
    for claim in store.dispatch():
        begin(store, claim)
    assert store.value("SELECT count(*) FROM remote_job") == 2
    assert picked(store) == 0
    clock.advance(1)
    assert picked(store) == 2


def test_a_long_queue_behind_a_full_service_is_not_read_to_its_end(shop, monkeypatch):
    store = shop({"concurrency": 1})
    read: list[str] = []
    every = ready_tasks.heads
    monkeypatch.setattr(
        ready_tasks, "heads", lambda *given: (read.append(w.type) or w for w in every(*given))
    )
    assert picked(store) == 1
    assert len(read) == 2  # the one that was taken, and the one after it
