"""Claims and leases: one worker at a time, and a worker that lost its lease writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from supervisor.core.claim import Claim
from supervisor.core.errors import AlreadyFinished, LeaseLost, TaskNotFound
from supervisor.database.open_database import open_database
from supervisor.store.queue import dispatch, workers
from supervisor.store.recovery import stuck_tasks
from supervisor.store.tasks import claims, images, remote_wait, results, user_actions
from supervisor.store.tasks.claims import Wanted
from supervisor.store.tasks.images import NewImage
from supervisor.store.tasks.results import ResultFile
from tests.conftest import Clock, Store, processes
from tests.support.databases import INSERTS, REFUSED, UPDATES, Plain
from tests.support.well import Well, ask
from tests.support.workers import complete, report_progress


def _claim_every(url: str, worker: str, task_ids: list[str]) -> list[str]:
    """In a process of its own: try to claim each task twice; returns the claims that it got."""
    database = open_database(url)
    futures = [
        database.write(lambda tx, task_id=task_id: claims.claim_for(tx, [Wanted(task_id, worker, 60)]).get())
        for task_id in task_ids * 2
    ]
    had = [row["id"] for future in futures for row in future.result(timeout=60)]
    database.close()
    return had


def test_of_many_claims_of_a_task_one_is_given(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    names = [live_worker(f"worker-{n}") for n in range(3)]
    task_ids = [admitted_task(f"o-{n % 5}") for n in range(20)]
    with processes(3) as pool:
        urls = [store.settings.database_url] * 3
        had = [task for each in pool.map(_claim_every, urls, names, [task_ids] * 3) for task in each]
    assert len(had) == len(set(had)), "none was had twice"
    store.dispatch()  # a row that another process held just then
    rows = store.all("SELECT lease, attempt FROM task_queue")
    assert {(row["lease"], row["attempt"]) for row in rows} == {(1, 1)}


def test_a_claim_raises_lease_and_attempt_and_a_poll_the_lease_alone(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    assert (claim.lease, claim.attempt, claim.charge, claim.count) == (1, 1, 1, 1)
    store.write(
        lambda tx: remote_wait.hand_off(
            tx, claim.task_id, claim.lease, poll_in_seconds=0, remote_limit_seconds=9
        )
    )
    assert [poll.lease for poll in store.claim_polls()] == [2]
    row = store.task(claim.task_id)
    assert (row["lease"], row["attempt"], row["worker_id"]) == (2, 1, "worker-1")


def test_lease_and_attempt_grow_through_retry_and_resubmission(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    task_id = claim.task_id
    for expected in (2, 3):
        lease = expected - 1
        store.write(lambda tx, lease=lease: claims.fail(tx, task_id, lease, "internal", "It broke."))
        store.write(lambda tx: user_actions.resubmit(tx, store.settings, task_id))
        (again,) = store.dispatch()
        assert (again.lease, again.attempt, again.charge) == (expected,) * 3
        assert again.budget.failures == 0


WRITES: dict[str, Callable[[Any, str, int], Any]] = {
    "complete": lambda tx, task, lease: complete(tx, task, lease, []),
    "fail": lambda tx, task, lease: claims.fail(tx, task, lease, "internal", "It broke."),
    "retry": lambda tx, task, lease: claims.retry(tx, task, lease, 2.0),
    "postpone": lambda tx, task, lease: claims.postpone(tx, task, lease, 2.0),
    "release": claims.release,
    "hand_off": lambda tx, task, lease: remote_wait.hand_off(
        tx, task, lease, poll_in_seconds=1, remote_limit_seconds=9
    ),
    "not_yet": lambda tx, task, lease: remote_wait.not_yet(tx, task, lease, 1),
}


def _swept(store: Store, claim: Claim, clock: Clock) -> None:
    clock.advance(10_000)
    assert store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.0))


def _cancelled(store: Store, claim: Claim, clock: Clock) -> None:
    store.write(lambda tx: user_actions.cancel(tx, claim.task_id))


def _completed(store: Store, claim: Claim, clock: Clock) -> None:
    store.write(lambda tx: complete(tx, claim.task_id, claim.lease, []))


def _claimed_by_another(store: Store, claim: Claim, clock: Clock) -> None:
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
    assert len(store.dispatch()) == 1


@pytest.mark.parametrize("meanwhile", [_swept, _cancelled, _completed, _claimed_by_another])
def test_a_late_worker_writes_nothing(
    meanwhile: Callable[[Store, Claim, Clock], None],
    store: Store,
    clock: Clock,
    claimed_task: Callable[..., Claim],
) -> None:
    claim = claimed_task()
    meanwhile(store, claim, clock)
    before = store.task(claim.task_id), store.entries(claim.task_id)
    for name, write in WRITES.items():
        with pytest.raises(LeaseLost, match=rf"Lease 1 of task {claim.task_id} is no longer held\."):
            store.write(lambda tx, write=write: write(tx, claim.task_id, claim.lease))
        assert (store.task(claim.task_id), store.entries(claim.task_id)) == before, name
    assert not store.write(lambda tx: report_progress(tx, claim.task_id, claim.lease, 50, "late"))
    assert (store.task(claim.task_id), store.entries(claim.task_id)) == before


def test_a_lease_is_not_held_between_hand_off_and_poll(
    store: Store, handed_off_task: Callable[..., str]
) -> None:
    task_id = handed_off_task()
    for name in ("complete", "fail", "not_yet"):
        with pytest.raises(LeaseLost):
            store.write(lambda tx, name=name: WRITES[name](tx, task_id, 1))


def test_only_a_failed_attempt_spends_the_budget(store: Store, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    spent = []
    for put_back in (
        lambda tx, task, lease: claims.release(tx, task, lease),
        lambda tx, task, lease: claims.postpone(tx, task, lease, 0.0),
        lambda tx, task, lease: claims.release(tx, task, lease, died=True),
        lambda tx, task, lease: claims.retry(tx, task, lease, 0.0),
    ):
        store.write(lambda tx, put_back=put_back, claim=claim: put_back(tx, claim.task_id, claim.lease))
        row = store.task(claim.task_id)
        spent.append((row["failures"], row["deaths"]))
        (claim,) = store.dispatch()
    assert spent == [(0, 0), (0, 0), (0, 1), (1, 1)]
    assert claim.attempt == 5


# --- the contents of a claim ---


def test_a_claim_waits_for_run_after(store: Store, clock: Clock, claimed_task: Callable[..., Claim]) -> None:
    claim = claimed_task()
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 60.0))
    wanted = [Wanted(claim.task_id, "worker-1", 60)]
    assert store.dispatch() == [] and store.write(lambda tx: claims.claim_for(tx, wanted).get()) == []
    clock.advance(61)
    store.write(dispatch.ripen)
    assert [each.lease for each in store.dispatch()] == [2]


def test_only_for_a_live_registered_worker_is_claimed(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    task_id = admitted_task()

    def claimed_by(worker: str) -> list[Any]:
        return store.write(lambda tx: claims.claim_for(tx, [Wanted(task_id, worker, 60)]).get())

    assert claimed_by("never registered") == []
    for worker, mark in (("draining", workers.drain), ("dead", workers.mark_dead), ("gone", workers.leave)):
        live_worker(worker)
        store.write(lambda tx, mark=mark, worker=worker: mark(tx, worker))
        assert claimed_by(worker) == []
    live_worker()
    assert len(claimed_by("worker-1")) == 1


@pytest.mark.postgresql_only
@pytest.mark.parametrize("mark", [workers.drain, workers.mark_dead, workers.leave])
def test_a_worker_that_stops_beside_a_claim_sees_it_or_is_not_given_it(
    mark: Callable[..., Any], store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    task_id, worker = admitted_task(), live_worker()
    stops: list[Any] = []

    def claim_beside(tx: Any) -> None:
        assert len(claims.claim_for(tx, [Wanted(task_id, worker, 60)]).get()) == 1
        stops.append(store.database.write(lambda tx: mark(tx, worker)))
        assert not _is_done(stops[0]), "it waits for the claim"

    store.database.write_now(claim_beside)
    stops[0].result(timeout=90)
    assert [held.task_id for held in store.database.read(lambda tx: claims.held_by(tx, worker))] == [task_id]


def _is_done(future: Any) -> bool:
    try:
        future.result(timeout=0.3)
    except TimeoutError:
        return False
    return True


def test_a_cancelled_task_is_not_claimed(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    task_id = admitted_task()
    live_worker()
    store.write(lambda tx: user_actions.cancel(tx, task_id))
    assert store.dispatch() == []


def test_a_claim_has_the_data_that_the_worker_needs(store: Store, live_worker: Callable[..., str]) -> None:
    live_worker()
    mine = NewImage("upload-1", "o-1", "uploads/1.jpg", 4, 3, 100, "ab" * 32)
    store.write(lambda tx: images.add(tx, mine))
    params = {"images": ["upload-1"], "count": 2, "prompt": "ein Bärenfoto 熊"}
    store.write(
        lambda tx: user_actions.submit(tx, store.settings, user_actions.NewTask("o-1", "photography", params))
    )
    (claim,) = store.dispatch()
    assert (claim.user, claim.type, claim.count, claim.params) == ("o-1", "photography", 2, params)
    assert claim.image_keys == {"upload-1": "uploads/1.jpg"}
    assert (claim.budget.failures, claim.budget.deaths, claim.budget.max_attempts) == (0, 0, 3)


def test_a_claim_shows_nothing_of_another_users_uploads(
    store: Store, live_worker: Callable[..., str]
) -> None:
    live_worker()
    mine = NewImage("upload-1", "o-1", "uploads/1.jpg", 4, 3, 100, "ab" * 32)
    store.write(lambda tx: images.add(tx, mine))
    store.write(
        lambda tx: user_actions.submit(
            tx, store.settings, user_actions.NewTask("o-1", "photography", {"images": ["upload-1"]})
        )
    )
    store.write(lambda tx: tx.execute("UPDATE image SET user_openid = 'o-2'"))
    (claim,) = store.dispatch()
    assert claim.image_keys == {}


def test_a_worker_knows_its_claims(
    store: Store, claimed_task: Callable[..., Claim], polled_task: Callable[..., tuple[str, int]]
) -> None:
    running, polled = claimed_task(), polled_task()
    claimed_task(worker="worker-2")
    held = store.database.read(lambda tx: claims.held_by(tx, "worker-1"))
    assert sorted(held) == sorted([(running.task_id, 1, False, False), (*polled, True, False)])


# --- remote jobs ---


def test_a_poll_claim_moves_the_next_poll_so_a_lost_poller_needs_no_rescue(
    store: Store, clock: Clock, polled_task: Callable[..., tuple[str, int]]
) -> None:
    task_id, lease = polled_task()
    assert store.claim_polls() == []
    clock.advance(331)  # ai_timeout_seconds and a margin; the poller never reported
    (again,) = store.claim_polls()
    assert (again.task_id, again.lease) == (task_id, lease + 1)
    store.write(lambda tx: workers.mark_dead(tx, "worker-1"))
    store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.0, deadlines=False))
    with pytest.raises(LeaseLost):
        store.write(lambda tx: complete(tx, task_id, lease, []))
    row = store.task(task_id)
    assert (row["status"], row["worker_id"], row["attempt"], row["deaths"]) == ("ai_processing", None, 1, 0)


def test_not_yet_gives_the_lease_back_and_waits(
    store: Store, clock: Clock, polled_task: Callable[..., tuple[str, int]]
) -> None:
    task_id, lease = polled_task()
    store.write(lambda tx: remote_wait.not_yet(tx, task_id, lease, 20))
    assert store.claim_polls() == []
    clock.advance(21)
    assert [again.lease for again in store.claim_polls()] == [lease + 1]
    assert store.task(task_id)["attempt"] == 1
    assert store.claim_polls() == []


def _remote_job(producer: Plain, task_id: str, charge: int, reference: str, state: str) -> None:
    """A request that was written down before it left, and what became known of it."""
    producer.execute(
        """INSERT INTO remote_job (task_id, charge, lease, provider, reference, state)
            VALUES (?, ?, 1, 'p', ?, 'submitting')""",
        (task_id, charge, reference),
    )
    for known in {"submitting": (), "waiting": ("waiting",), "done": ("waiting", "done")}[state]:
        producer.execute("UPDATE remote_job SET state = ? WHERE reference = ?", (known, reference))


def test_a_remote_job_is_append_only_evidence(store: Store, producer: Plain, database_kind: str) -> None:
    _remote_job(producer, "t", 1, "ref", "waiting")
    producer.execute("UPDATE remote_job SET remote_id = 'theirs' WHERE reference = 'ref'")
    before = store.all("SELECT * FROM remote_job")
    columns = "task_id, charge, lease, provider, reference, state"
    inserts = [
        f"{verb} INTO remote_job ({columns}{more}) VALUES ('t', 1, 1, 'p', {values})"
        for verb in INSERTS[database_kind]
        for more, values in (
            ("", "'ref', 'submitting'"), ("", "'new', 'waiting'"), (", id", "'new', 'submitting', 1")
        )
    ]  # fmt: skip
    updates = [
        f"{verb} remote_job SET {changed}"
        for verb in UPDATES[database_kind]
        for changed in ("task_id = 'u'", "remote_id = NULL", "state = 'submitting'", "state = 'sent'")
    ]
    for statement in (*inserts, *updates, "DELETE FROM remote_job"):
        with pytest.raises((*REFUSED, psycopg.errors.GeneratedAlways)):
            producer.execute(statement)
        assert store.all("SELECT * FROM remote_job") == before, statement


@pytest.mark.parametrize("end", ["cancel", "expire"])
def test_the_remote_job_of_an_ended_task_is_to_be_cancelled(
    end: str, store: Store, clock: Clock, handed_off_task: Callable[..., str], producer: Plain
) -> None:
    task_id = handed_off_task(poll_in_seconds=900)
    for charge, state in ((1, "waiting"), (1, "done"), (2, "waiting")):
        _remote_job(producer, task_id, charge, f"{charge} {state}", state)
    if end == "cancel":
        store.write(lambda tx: user_actions.cancel(tx, task_id))
    else:
        well = Well(store, clock)
        well.passes(86_500)
        for _ in range(3):
            ask(store.write, task_id)
            well.passes(31)
        store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.0))
    rows = store.all("SELECT reference FROM remote_job WHERE cancel_wanted = 1")
    assert [row["reference"] for row in rows] == ["1 waiting"]


# --- finished pictures ---


def test_the_first_finished_picture_of_a_place_wins_and_the_next_attempt_finds_it(store: Store) -> None:
    first = ResultFile(0, "results/t/1-0.jpg", "aa", 4, 3)
    late = ResultFile(0, "results/t/2-0.jpg", "bb", 4, 3)
    second = ResultFile(1, "results/t/2-1.jpg", "cc", 4, 3)
    for file in (second, first, late):
        store.write(lambda tx, file=file: results.add(tx, "t", 1, "hash", file))
    assert store.database.read(lambda tx: results.found(tx, "t", 1, "hash")) == [first, second]
    for other in (("t", 2, "hash"), ("t", 1, "other"), ("u", 1, "hash")):
        assert store.database.read(lambda tx, other=other: results.found(tx, *other)) == []


# --- what users do to their tasks ---


@pytest.mark.parametrize("who", [None, "o-1"])
def test_a_task_is_seen_and_changed_by_its_own_user_only(
    who: str | None, store: Store, admitted_task: Callable[..., str]
) -> None:
    task_id = admitted_task("o-1")
    assert store.database.read(lambda tx: user_actions.get(tx, task_id, "o-2")) is None
    for change in (
        lambda tx: user_actions.cancel(tx, task_id, "o-2"),
        lambda tx: user_actions.resubmit(tx, store.settings, task_id, "o-2"),
    ):
        with pytest.raises(TaskNotFound):
            store.write(change)
    assert store.write(lambda tx: user_actions.cancel(tx, task_id, who))["status"] == "cancelled"
    with pytest.raises(AlreadyFinished, match="is already cancelled"):
        store.write(lambda tx: user_actions.cancel(tx, task_id, who))


def test_pages_show_every_task_once_newest_first(store: Store, producer: Plain) -> None:
    producer.execute(
        """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25)
            INSERT INTO task_queue (user_openid, type, params) SELECT 'o-1', 'photography', '{}' FROM n"""
    )  # one statement, so one created_at: the id decides
    seen: list[str] = []
    cursor = None
    while True:
        page = store.database.read(
            lambda tx, cursor=cursor: user_actions.page(tx, "o-1", limit=10, cursor=cursor)
        )
        seen += [item["task_id"] for item in page.items]
        cursor = page.next
        if cursor is None:
            break
    rows = store.all("SELECT id FROM task_queue ORDER BY created_at DESC, id DESC")
    assert seen == [row["id"] for row in rows]
    assert store.database.read(lambda tx: user_actions.page(tx, "o-2")).items == []
    with pytest.raises(ValueError, match="cursor is not one that this list has given"):
        store.database.read(lambda tx: user_actions.page(tx, "o-1", cursor="nonsense"))


def test_of_several_that_end_together_only_those_that_are_held_are_recorded(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    held, lost, other = claimed_task("o-1"), claimed_task("o-2"), claimed_task("o-1")
    store.write(lambda tx: user_actions.cancel(tx, lost.task_id))
    made = [claims.Made(each.task_id, each.lease, []) for each in (held, lost, other)]
    told = store.write(lambda tx: claims.complete_all(tx, made).get())
    assert [type(each) for each in told] == [type(None), LeaseLost, type(None)]
    found = [store.task(each.task_id)["status"] for each in (held, lost, other)]
    assert found == ["completed", "cancelled", "completed"]


def test_several_claims_together_get_each_its_own_task_and_a_stale_one_none(
    store: Store, admitted_task: Callable[..., str], live_worker: Callable[..., str]
) -> None:
    task_ids, worker = [admitted_task(f"o-{n % 2}") for n in range(4)], live_worker("worker-1")
    store.write(lambda tx: user_actions.cancel(tx, task_ids[2]))
    wanted = [Wanted(task_id, worker, 60.0) for task_id in task_ids]
    claimed = store.write(lambda tx: claims.claim_for(tx, wanted).get())
    expected = [(task_id, 1, worker) for task_id in (task_ids[0], task_ids[1], task_ids[3])]
    assert sorted((each["id"], each["lease"], each["worker_id"]) for each in claimed) == sorted(expected)


def test_a_claim_whose_params_were_too_large_to_send_is_read_from_its_row(
    store: Store, claimed_task: Callable[..., Claim]
) -> None:
    claim = claimed_task()
    told = store.database.read(lambda tx: claims.tell_again(tx, claim.task_id, claim.lease))
    assert told is not None and dataclasses.replace(told, wait_seconds=claim.wait_seconds) == claim
    store.write(lambda tx: claims.release(tx, claim.task_id, claim.lease))
    assert store.database.read(lambda tx: claims.tell_again(tx, claim.task_id, claim.lease)) is None


def test_a_claim_that_never_reached_its_worker_is_begun_once(
    store: Store, clock: Clock, claimed_task: Callable[..., Claim]
) -> None:
    late, other = claimed_task("a"), claimed_task("b", worker="worker-2")
    found = [(late.task_id, late.lease), (other.task_id, other.lease)]
    begin = lambda tx: claims.begin_late(tx, "worker-1", found, lambda *_: 630.0)  # noqa: E731
    assert [claim.task_id for claim in store.write(begin)] == [late.task_id]
    assert store.task(late.task_id)["begun_lease"] == late.lease
    assert store.write(begin) == []
