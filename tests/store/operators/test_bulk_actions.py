"""Actions on many tasks: each task once, whoever is killed or runs beside; recorded, counted, stopped, gone on with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from supervisor.core.claim import Claim
from supervisor.core.errors import BulkNotFound
from supervisor.selection.task_filter import Action, BadFilter, read_filter
from supervisor.services import bulk_action_runner
from supervisor.services.bulk_action_runner import run_action
from supervisor.store.operators import audit, bulk_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import claims
from tests.conftest import Clock, Store
from tests.support.questions import Spy

ANN = Operator("ann", "operator")
View = dict[str, Any]


def preview(store: Store, action: Action, **words: str) -> View:
    wanted = read_filter(words, action)
    return store.database.read(lambda tx: bulk_actions.preview(tx, store.settings, action, wanted))


def start(store: Store, action: Action, **words: str) -> View:
    seen = preview(store, action, **words)
    return store.write(lambda tx: bulk_actions.start(tx, ANN, action, seen))


def show(store: Store, bulk_id: str) -> View:
    return store.database.read(lambda tx: bulk_actions.get(tx, bulk_id))


def run(store: Store, bulk_id: str) -> View:
    run_action(store.database, store.settings, bulk_id, threading.Event())
    return show(store, bulk_id)


def count(store: Store, action: str) -> dict[str, int]:
    """How often each task was acted on, by the record."""
    rows = store.all("SELECT target, count(*) AS n FROM audit WHERE action = ? GROUP BY target", action)
    return {row["target"]: int(row["n"]) for row in rows}


def one_part(store: Store, bulk_id: str, most: int) -> bool:
    """The next part of at most so many tasks."""
    following = store.database.read(lambda tx: bulk_actions.next_tasks(tx, store.settings, bulk_id, most))
    assert following is not None
    return store.write(
        lambda tx: bulk_actions.do_part(tx, store.settings, bulk_id, following.step, following.tasks)
    )


def test_a_preview_counts_and_changes_nothing(store: Store, failed_task: Callable[..., str]) -> None:
    ids = {failed_task("o-1", count=2), failed_task("o-2"), failed_task("o-2", type_="fitting")}
    seen = preview(store, "retry", type="photography")
    assert (seen["count"], seen["credits"]) == (2, 3)
    assert {each["task_id"] for each in seen["sample"]} < ids
    assert seen["filter"].keys() == {"type", "to", "status"}
    assert store.value("SELECT count(*) FROM audit") == 0
    assert store.value("SELECT count(*) FROM task_queue WHERE status = 'pending'") == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"user": "o-1"}, {"a", "b"}),
        ({"type": "fitting"}, {"c"}),
        ({"code": "provider_error"}, {"b"}),
        ({"text": "QUOTA"}, {"b"}),
        ({"text": "50%"}, {"d"}),
        ({"text": "Überlastet"}, {"e"}),
        ({"text": "5_%"}, set()),
        ({"text": "the cluster"}, {"a"}),
        ({"provider": "studio"}, {"a", "b", "c", "d", "e"}),
        ({"provider": "another"}, set()),
        ({"from": "2000-01-01"}, {"a", "b", "c", "d", "e"}),
        ({"to": "2000-01-01"}, set()),
        ({"user": "o-1", "code": "internal"}, {"a"}),
    ],
)
def test_every_condition_narrows(
    store: Store, claimed_task: Callable[..., Claim], words: dict[str, str], expected: set[str]
) -> None:
    made = {
        "a": (claimed_task("o-1"), "internal", "It broke.", "the cluster is tired"),
        "b": (claimed_task("o-1"), "provider_error", "The quota is used up.", ""),
        "c": (claimed_task("o-2", type_="fitting"), "internal", "It broke.", ""),
        "d": (claimed_task("o-3"), "internal", "Only 50% of it came.", ""),
        "e": (claimed_task("o-4"), "no_answer", "No answer.", "Überlastet"),
    }
    for claim, code, message, detail in made.values():
        store.write(lambda tx, c=claim, d=detail, k=code, m=message: _fail(tx, c, k, m, d))  # type: ignore[misc]
    names = {claim.task_id: name for name, (claim, *_) in made.items()}
    seen = preview(store, "retry", **words)
    assert {names[each["task_id"]] for each in seen["sample"]} == expected
    assert seen["count"] == len(expected)


def _fail(tx: Any, claim: Claim, code: str, message: str, detail: str) -> None:
    from supervisor.store.tasks import history

    history.note_failure(tx, claim.task_id, claim.lease, code, message, detail)
    claims.fail(tx, claim.task_id, claim.lease, code, message)


def test_many_are_tried_again_each_once_paid_and_recorded(
    store: Store, failed_task: Callable[..., str]
) -> None:
    ids = {failed_task(f"o-{n % 3}") for n in range(17)}
    before = {user: store.balance(user) for user in ("o-0", "o-1", "o-2")}
    begun = start(store, "retry", code="invalid_input")
    ended = run(store, begun["id"])
    assert (ended["state"], ended["matched"], ended["done"], ended["refused"]) == ("done", 17, 17, 0)
    assert ended["credits"] == 17 == sum(before.values()) - sum(store.balance(user) for user in before)
    assert count(store, "retry") == dict.fromkeys(ids, 1)
    assert {row["charge"] for row in store.all("SELECT charge FROM task_queue")} == {2}
    (alone,) = store.database.read(lambda tx: audit.newest(tx, 50))
    assert (alone["action"], alone["target"], alone["after"]["matched"]) == ("bulk_retry", begun["id"], 17)
    (part,) = store.database.read(lambda tx: audit.of_task(tx, min(ids)))
    assert (part["bulk_id"], part["operator"], part["role"]) == (begun["id"], *ANN)


def test_what_is_refused_stays_as_it_is_and_is_counted_with_its_reason(
    store: Store, failed_task: Callable[..., str]
) -> None:
    poor, rich = [failed_task("o-poor") for _ in range(2)], [failed_task("o-rich") for _ in range(3)]
    store.write(
        lambda tx: tx.execute(
            "INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount) VALUES"
            f" ('o-poor', '{poor[0]}', 7, 'debit', -99)"
        )
    )
    ended = run(store, start(store, "retry", code="invalid_input")["id"])
    assert (ended["done"], ended["refused"]) == (4, 1)
    (why,) = ended["reasons"]
    assert (why["reason"], why["count"]) == ("insufficient_credits", 1) and "balance is 0" in why["examples"][
        0
    ]
    assert sum(store.task(task_id)["status"] == "failed" for task_id in poor) == 1
    assert all(store.task(task_id)["status"] == "pending" for task_id in rich)


def test_open_tasks_are_cancelled_with_their_refunds_and_later_orders_are_not(
    store: Store, admitted_task: Callable[..., str], claimed_task: Callable[..., Claim], clock: Clock
) -> None:
    ids = {admitted_task("o-7") for _ in range(4)} | {claimed_task("o-7").task_id}
    others = admitted_task("o-8")
    begun = start(store, "cancel", user="o-7")
    clock.advance(1)
    later = admitted_task("o-7")
    ended = run(store, begun["id"])
    assert (ended["done"], ended["credits"]) == (5, 5)
    assert all(store.task(task_id)["status"] == "cancelled" for task_id in ids)
    assert {store.task(each)["status"] for each in (others, later)} == {"pending"}
    assert store.balance("o-7") == 99


def test_running_tasks_are_released(
    store: Store, claimed_task: Callable[..., Claim], admitted_task: Callable[..., str]
) -> None:
    held = [claimed_task("o-7") for _ in range(3)]
    admitted_task("o-7")
    ended = run(store, start(store, "release", user="o-7")["id"])
    assert (ended["done"], ended["refused"], ended["credits"]) == (3, 1, 0)
    assert [store.task(claim.task_id)["status"] for claim in held] == ["pending"] * 3


@pytest.mark.parametrize("has_statistics", [False, True])
def test_a_part_finds_its_few_tasks_by_their_ids_and_not_among_all_that_match(
    store: Store, failed_task: Callable[..., str], has_statistics: bool
) -> None:
    for n in range(40):
        failed_task(f"o-{n % 9}")
    if has_statistics:
        store.write(lambda tx: tx.execute("ANALYZE"))
    bulk_id = start(store, "retry", type="photography")["id"]

    def explained(tx: Any) -> list[str]:
        following = bulk_actions.next_tasks(tx, store.settings, bulk_id, 2)
        assert following is not None
        if tx.dialect.name == "postgresql":
            tx.execute("SET LOCAL enable_seqscan = off")
        spy: Any = Spy(tx, explains=True)
        assert bulk_actions.do_part(spy, store.settings, bulk_id, following.step, following.tasks)
        return [plan for plan in spy.plans if "SELECT id FROM task_queue" in plan and "status" in plan]

    plans = store.write(explained)
    assert plans and not [plan for plan in plans if "task_queue_finished" in plan]


def test_what_was_killed_goes_on_where_it_was(store: Store, failed_task: Callable[..., str]) -> None:
    """Its runner dies after it has read what is next, and after a part."""
    ids = {failed_task(f"o-{n}") for n in range(7)}
    bulk_id = start(store, "retry", code="invalid_input")["id"]
    following = store.database.read(lambda tx: bulk_actions.next_tasks(tx, store.settings, bulk_id, 3))
    assert following is not None
    assert one_part(store, bulk_id, 3)
    # The late runner comes back with what it had read before.
    assert not store.write(
        lambda tx: bulk_actions.do_part(tx, store.settings, bulk_id, following.step, following.tasks)
    )
    assert show(store, bulk_id)["done"] == 3
    assert run(store, bulk_id)["done"] == 7
    assert count(store, "retry") == dict.fromkeys(ids, 1)


def test_several_runners_at_once_do_each_part_once(
    store: Store, failed_task: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_action_runner, "OTHERS_RUN_SECONDS", 0.001)
    monkeypatch.setattr(bulk_action_runner, "TASKS_AT_ONCE", 2)
    ids = {failed_task(f"o-{n % 5}") for n in range(30)}
    bulk_id = start(store, "retry", code="invalid_input")["id"]
    runners = [threading.Thread(target=run, args=(store, bulk_id)) for _ in range(3)]
    for each in runners:
        each.start()
    for each in runners:
        each.join()
    ended = show(store, bulk_id)
    assert (ended["state"], ended["done"], ended["refused"], ended["passed"]) == ("done", 30, 0, 0)
    assert count(store, "retry") == dict.fromkeys(ids, 1)
    assert store.value("SELECT count(*) FROM credit_entry WHERE kind = 'debit' AND charge = 2") == 30


def test_a_task_that_fails_again_meanwhile_is_not_tried_a_third_time(
    store: Store, failed_task: Callable[..., str], clock: Clock
) -> None:
    ids = [failed_task(f"o-{n}") for n in range(4)]
    clock.advance(1)
    bulk_id = start(store, "retry", code="invalid_input")["id"]
    assert one_part(store, bulk_id, 2)
    clock.advance(1)
    for task_id in ids:
        if store.task(task_id)["status"] == "pending":
            store.write(
                lambda tx, task_id=task_id: tx.execute(  # type: ignore[misc]
                    f"""UPDATE task_queue SET status = 'failed', stage = 'failed', finished_at = {tx.now},
                        error = '{{"code":"invalid_input","message":"Again."}}' WHERE id = '{task_id}'"""
                )
            )
    assert run(store, bulk_id)["done"] == 4
    assert count(store, "retry") == dict.fromkeys(ids, 1)


def test_what_no_longer_matches_is_passed(store: Store, failed_task: Callable[..., str]) -> None:
    ids = [failed_task(f"o-{n}") for n in range(3)]
    bulk_id = start(store, "retry", code="invalid_input")["id"]
    following = store.database.read(lambda tx: bulk_actions.next_tasks(tx, store.settings, bulk_id))
    assert following is not None
    store.write(lambda tx: tx.execute(f"UPDATE task_queue SET status = 'pending' WHERE id = '{ids[0]}'"))
    assert store.write(
        lambda tx: bulk_actions.do_part(tx, store.settings, bulk_id, following.step, following.tasks)
    )
    ended = run(store, bulk_id)
    assert (ended["done"], ended["passed"], ended["state"]) == (2, 1, "done")


def test_it_is_stopped_and_goes_on(store: Store, failed_task: Callable[..., str]) -> None:
    for n in range(6):
        failed_task(f"o-{n}")
    bulk_id = start(store, "retry", code="invalid_input")["id"]
    following = store.database.read(lambda tx: bulk_actions.next_tasks(tx, store.settings, bulk_id, 2))
    assert following is not None and one_part(store, bulk_id, 2)
    stopped = store.write(lambda tx: bulk_actions.stop(tx, ANN, bulk_id))
    assert (stopped["state"], stopped["done"]) == ("stopped", 2)
    assert store.database.read(lambda tx: bulk_actions.next_tasks(tx, store.settings, bulk_id)) is None
    assert run(store, bulk_id)["done"] == 2
    assert store.write(lambda tx: bulk_actions.resume(tx, ANN, bulk_id))["state"] == "running"
    assert store.database.read(bulk_actions.running) == [bulk_id]
    assert run(store, bulk_id)["done"] == 6
    again = store.write(lambda tx: bulk_actions.stop(tx, ANN, bulk_id))  # it is done: nothing to stop
    assert again["state"] == "done"
    actions = [row["action"] for row in store.all("SELECT action FROM audit WHERE kind = 'bulk' ORDER BY id")]
    assert actions == ["bulk_retry", "bulk_stop", "bulk_resume"]
    with pytest.raises(BulkNotFound):
        store.write(lambda tx: bulk_actions.stop(tx, ANN, "none"))


def test_more_than_a_page_is_walked_through_types_and_times(
    store: Store, failed_task: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_actions.next_tasks, "__defaults__", (4,))
    ids = {failed_task(f"o-{n}", type_=("photography", "fitting")[n % 2]) for n in range(11)}
    assert run(store, start(store, "retry", code="invalid_input")["id"])["done"] == 11
    assert count(store, "retry") == dict.fromkeys(ids, 1)


def test_old_actions_are_forgotten_and_running_ones_kept(
    store: Store, failed_task: Callable[..., str], clock: Clock
) -> None:
    failed_task()
    done = start(store, "retry", code="invalid_input")["id"]
    run(store, done)
    goes_on = start(store, "cancel", user="o-1")["id"]
    clock.advance(100)
    assert store.write(lambda tx: bulk_actions.prune(tx, 60, 10)) == 1
    assert [each["id"] for each in store.database.read(bulk_actions.newest)] == [goes_on]


def test_an_action_of_which_nobody_can_read_the_filter_holds_no_other_up(
    store: Store, failed_task: Callable[..., str]
) -> None:
    """A newer version, beside which this one runs for an upgrade, may know more conditions."""
    of_tomorrow = start(store, "retry", user="o-1")["id"]
    store.write(
        lambda tx: tx.execute(
            "UPDATE bulk_action SET filter = :filter WHERE id = :id",
            filter='{"colour": "red"}', id=of_tomorrow,
        )
    )  # fmt: skip
    failed_task("o-2")
    ours = start(store, "retry", user="o-2")["id"]
    bulk_action_runner.run_all(store.database, store.settings, threading.Event())
    assert (show(store, of_tomorrow)["state"], show(store, ours)["state"]) == ("running", "done")


def test_a_time_that_has_not_come_is_refused(store: Store) -> None:
    """Its filter would end before it begins: no runner could read it again."""
    with pytest.raises(BadFilter, match="that is in the future"):
        preview(store, "retry", **{"from": "2999-01-01"})


def test_reasons_are_grouped_whatever_their_sentences_name(
    store: Store, failed_task: Callable[..., str], claimed_task: Callable[..., Claim]
) -> None:
    """Forty users with forty balances are one reason, and hide no other."""
    for n in range(40):
        task_id = failed_task(f"o-{n:02}")
        store.write(
            lambda tx, n=n, i=task_id: tx.execute(  # type: ignore[misc]
                "INSERT INTO credit_entry (user_openid, task_id, charge, kind, amount)"
                f" VALUES ('o-{n:02}', '{i}', 7, 'debit', {n % 2 - store.balance(f'o-{n:02}')})"
            )
        )
    failed_task("zz-gone")
    store.write(lambda tx: tx.execute("DELETE FROM works WHERE user_openid = 'zz-gone'"))
    ended = run(store, start(store, "retry", code="invalid_input")["id"])
    assert ended["refused"] + ended["done"] == 41
    poor, *others = ended["reasons"]
    assert poor["reason"] == "insufficient_credits" and poor["count"] == 20
    assert 1 <= len(poor["examples"]) <= bulk_actions.MOST_EXAMPLES
    assert [(each["reason"], each["count"]) for each in others] == [("not_retryable", 1)]


def test_reasons_as_a_release_before_stored_them_are_shown_and_added_to(
    store: Store, failed_task: Callable[..., str], claimed_task: Callable[..., Claim]
) -> None:
    claimed_task("o-1")
    bulk_id = start(store, "cancel", user="o-1")["id"]
    store.write(
        lambda tx: tx.execute(
            "UPDATE bulk_action SET reasons = :old WHERE id = :id",
            old='{"Too few.": 3, "Gone.": 1}', id=bulk_id,
        )
    )  # fmt: skip
    assert show(store, bulk_id)["reasons"] == [
        {"reason": "other", "count": 4, "examples": ["Gone.", "Too few."]}
    ] or show(store, bulk_id)["reasons"][0]["examples"] == ["Too few.", "Gone."]
    assert run(store, bulk_id)["state"] == "done"


def test_one_that_fails_is_tried_a_few_times_then_stopped_with_the_reason_and_holds_no_other_up(
    store: Store, failed_task: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in ("o-1", "o-2"):
        failed_task(user)
    bad, good = (start(store, "retry", user=user)["id"] for user in ("o-1", "o-2"))
    as_ever = bulk_actions.do_part

    def do_part(tx: Any, settings: Any, bulk_id: str, *rest: Any, **more: Any) -> bool:
        if bulk_id == bad:
            raise ZeroDivisionError("division by zero")
        return as_ever(tx, settings, bulk_id, *rest, **more)

    monkeypatch.setattr(bulk_actions, "do_part", do_part)
    told: list[tuple[str, str]] = []
    for n in range(1, 2 * bulk_actions.MOST_FAILURES):
        bulk_action_runner.run_all(
            store.database,
            store.settings,
            threading.Event(),
            lambda bulk_id, error: told.append((bulk_id, type(error).__name__)),
        )
        assert show(store, good)["state"] == "done"
        assert show(store, bad)["state"] == ("running" if n < bulk_actions.MOST_FAILURES else "stopped")
    assert told == [(bad, "ZeroDivisionError")] * bulk_actions.MOST_FAILURES
    assert "division by zero" in show(store, bad)["failure"]
    monkeypatch.undo()
    assert store.write(lambda tx: bulk_actions.resume(tx, ANN, bad))["failure"] is None
    assert run(store, bad)["done"] == 1
    assert count(store, "retry").keys() == {row["id"] for row in store.all("SELECT id FROM task_queue")}


def test_a_part_that_is_done_forgets_earlier_failures(store: Store, failed_task: Callable[..., str]) -> None:
    failed_task("o-1")
    bulk_id = start(store, "retry", user="o-1")["id"]
    for _ in range(bulk_actions.MOST_FAILURES - 1):
        assert store.write(lambda tx: bulk_actions.note_failure(tx, bulk_id, "It broke.")) == "running"
    assert one_part(store, bulk_id, 1)
    assert show(store, bulk_id)["failure"] is None
    assert store.write(lambda tx: bulk_actions.note_failure(tx, bulk_id, "It broke.")) == "running"
    assert store.write(lambda tx: bulk_actions.note_failure(tx, "none", "It broke.")) is None


@pytest.mark.parametrize(("held", "sizes"), [(0.0, [1] * 9), (3600.0, [1, 2, 3, 3])])
def test_a_part_is_as_large_as_holds_the_writer_for_a_moment(
    store: Store,
    failed_task: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    held: float,
    sizes: list[int],
) -> None:
    monkeypatch.setattr(bulk_action_runner, "HELD_SECONDS", held)
    monkeypatch.setattr(bulk_action_runner, "TASKS_AT_ONCE", 3)
    as_ever, done = bulk_actions.do_part, list[int]()

    def do_part(tx: Any, settings: Any, bulk_id: str, step: int, tasks: Any, **more: Any) -> bool:
        done.append(len(tasks))
        return as_ever(tx, settings, bulk_id, step, tasks, **more)

    monkeypatch.setattr(bulk_actions, "do_part", do_part)
    for n in range(9):
        failed_task(f"o-{n}")
    assert run(store, start(store, "retry", code="invalid_input")["id"])["done"] == 9
    assert done == [*sizes, 0]
