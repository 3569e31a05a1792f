"""The outbox of webhooks in the store: written with the step, sent at least once, never by two workers at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.task_params import BadTask, check_submission
from supervisor.schema.shared.webhook_rows import MOST_WAITING_PER_USER, TOO_MANY
from supervisor.store.retention import ageing
from supervisor.store.sql.rows import decoded
from supervisor.store.tasks import claims, user_actions
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries
from supervisor.store.webhooks.deliveries import Delivery, Message
from supervisor.webhooks import turns
from supervisor.webhooks.schedule import JITTER, SCHEDULE, Again, End, after_failure, is_accepted, pause_after
from supervisor.webhooks.turns import Due, UnderWay, next_to_send
from tests.conftest import PARAMS, Clock, Store
from tests.support.workers import complete
from web.handling.responses import shown_task

HOOK = "https://app.example.org/hooks/darkroom"


@pytest.fixture
def told_task(store: Store) -> Callable[..., str]:
    """Submitted with a webhook; its id."""

    def make(user: str = "o-1", url: str = HOOK) -> str:
        new = NewTask(user, "photography", PARAMS, webhook=url)
        return str(store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"])

    return make


@pytest.fixture
def delivery(store: Store, told_task: Callable[..., str]) -> Callable[..., str]:
    """What a cancelled task owes its webhook; its id."""

    def make(user: str = "o-1", url: str = HOOK) -> str:
        task_id = told_task(user, url)
        store.write(lambda tx: user_actions.cancel(tx, task_id))
        return f"msg_{task_id}_1"

    return make


def row(store: Store, delivery_id: str) -> dict[str, Any]:
    (found,) = store.all("SELECT * FROM webhook_delivery WHERE id = ?", delivery_id)
    return found


def claim(store: Store, *hints: Delivery) -> list[Message]:
    return store.write(lambda tx: deliveries.claim(tx, hints))


def sent_out(store: Store) -> Message:
    """The one delivery that is due, in a worker's hands."""
    (message,) = claim(store, *store.write(lambda tx: deliveries.due(tx).get()))
    return message


def end(store: Store, live_worker: Callable[..., str], task_id: str, how: str) -> None:
    """Take an admitted task to its end."""
    if how == "cancelled":
        store.write(lambda tx: user_actions.cancel(tx, task_id))
        return
    live_worker()
    (held,) = [each for each in store.dispatch() if each.task_id == task_id]
    if how == "completed":
        made = [{"key": "results/x.jpg", "width": 4, "height": 3}]
        store.write(lambda tx: complete(tx, task_id, held.lease, made, 0))
    else:
        store.write(lambda tx: claims.fail(tx, task_id, held.lease, "no_person_found", "Nobody is seen."))


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
def test_the_step_that_ends_a_task_writes_what_get_shows(
    store: Store, told_task: Callable[..., str], live_worker: Callable[..., str], how: str
) -> None:
    task_id = told_task()
    assert store.all("SELECT * FROM webhook_delivery") == []
    end(store, live_worker, task_id, how)
    found = row(store, f"msg_{task_id}_1")
    assert (found["type"], found["url"], found["state"]) == (f"task.{how}", HOOK, "waiting")
    view = store.database.read(lambda tx: user_actions.get(tx, task_id))
    assert view is not None
    shown = shown_task({**view, "queue_position": None, "eta_seconds": None}, lambda key: f"linked {key}")
    if how == "completed":
        shown["result"] = {"images": [{"key": "results/x.jpg", "width": 4, "height": 3}], "outputs": None}
    assert decoded(found["data"]) == shown


def test_a_task_without_a_webhook_leaves_nothing(store: Store, completed_task: Callable[..., str]) -> None:
    completed_task()
    assert store.all("SELECT * FROM webhook_delivery") == []


def test_each_charge_of_a_task_has_an_end_of_its_own(store: Store, told_task: Callable[..., str]) -> None:
    task_id = told_task()
    for _ in range(2):
        store.write(lambda tx: user_actions.cancel(tx, task_id))
        store.write(lambda tx: user_actions.resubmit(tx, store.settings, task_id))
    ids = [each["id"] for each in store.all("SELECT id FROM webhook_delivery ORDER BY id")]
    assert ids == [f"msg_{task_id}_1", f"msg_{task_id}_2"]


def test_a_hint_that_comes_twice_is_taken_up_once(store: Store, delivery: Callable[..., str]) -> None:
    delivery_id = delivery()
    hints = store.write(lambda tx: deliveries.due(tx).get())
    assert [each.id for each in hints] == [delivery_id]
    assert [each.attempts for each in claim(store, *hints, *hints)] == [1]
    assert claim(store, *hints) == [] and store.write(lambda tx: deliveries.due(tx).get()) == []


def test_a_lost_hint_is_sent_again_and_the_old_one_finds_nothing(
    store: Store, delivery: Callable[..., str], clock: Clock
) -> None:
    delivery()
    (lost,) = store.write(lambda tx: deliveries.due(tx).get())
    clock.advance(deliveries.HINT_SECONDS + 1)
    (again,) = store.write(lambda tx: deliveries.due(tx).get())
    assert claim(store, lost) == []
    assert len(claim(store, again)) == 1


def test_a_lost_workers_attempt_is_repeated_and_its_late_success_counts(
    store: Store, delivery: Callable[..., str], clock: Clock
) -> None:
    delivery_id = delivery()
    late = sent_out(store)
    clock.advance(deliveries.CLAIM_SECONDS + 1)
    again = sent_out(store)
    assert (late.attempts, again.attempts) == (1, 2)
    assert not store.write(lambda tx: deliveries.put_off(tx, late, None, status=500, reason="late"))
    assert store.write(lambda tx: deliveries.delivered(tx, late, 200))
    assert row(store, delivery_id)["state"] == "delivered"
    assert not store.write(lambda tx: deliveries.put_off(tx, again, 5.0, status=500, reason="too late"))


def test_workers_that_die_in_every_attempt_do_not_keep_a_delivery_for_ever(
    store: Store, delivery: Callable[..., str], clock: Clock
) -> None:
    delivery_id = delivery()
    for _ in SCHEDULE:
        sent_out(store)
        clock.advance(deliveries.CLAIM_SECONDS + 1)
    assert store.write(lambda tx: deliveries.due(tx).get()) == []
    assert row(store, delivery_id)["state"] == "failed"


def test_a_postponed_message_waits_its_time(store: Store, delivery: Callable[..., str], clock: Clock) -> None:
    delivery_id = delivery()
    message = sent_out(store)
    assert store.write(lambda tx: deliveries.put_off(tx, message, 300, status=503, reason="It is full."))
    assert store.write(lambda tx: deliveries.due(tx).get()) == []
    clock.advance(301)
    assert sent_out(store).attempts == 2
    found = row(store, delivery_id)
    assert (found["last_status"], found["last_error"]) == (503, "It is full.")


def test_the_schedule_is_the_standards_and_ends_after_a_day() -> None:
    pauses = [pause_after(n, chance=0.0) for n in range(1, len(SCHEDULE) + 1)]
    assert pauses[0] == 5 and pauses[-1] is None
    assert sum(pause for pause in pauses if pause is not None) == 24 * 3600
    drawn = pause_after(3, chance=0.999)
    assert drawn is not None and pauses[2] is not None
    assert pauses[2] < drawn < pauses[2] * (1 + JITTER)
    assert pause_after(1, chance=0.0, retry_after=120) == 120
    assert pause_after(4, chance=0.0, retry_after=120) == pauses[3]


@pytest.mark.parametrize(
    ("attempts", "status", "is_final", "verdict"),
    [
        (1, 500, False, Again(5.0)),
        (1, None, False, Again(5.0)),  # no answer at all
        (1, 301, False, Again(5.0)),
        (1, 410, False, End.GONE),
        (len(SCHEDULE), 410, False, End.GONE),
        (1, None, True, End.GIVEN_UP),  # an address that is none
        (len(SCHEDULE), 500, False, End.GIVEN_UP),
    ],
)
def test_a_failed_attempt_is_made_again_or_ends_by_its_status_and_its_number(
    attempts: int, status: int | None, is_final: bool, verdict: Again | End
) -> None:
    assert after_failure(attempts, status, is_final=is_final, chance=0.0) == verdict


def test_only_an_answer_of_the_200s_is_a_confirmation() -> None:
    assert [status for status in range(100, 600) if is_accepted(status)] == list(range(200, 300))


def test_a_receiver_that_is_gone_gets_nothing_until_a_resend(
    store: Store, delivery: Callable[..., str]
) -> None:
    first, second = delivery(), delivery()
    elsewhere, of_another = delivery(url=HOOK + "/2"), delivery(user="o-2")
    messages = {each.id: each for each in claim(store, *store.write(lambda tx: deliveries.due(tx).get()))}
    store.write(lambda tx: deliveries.put_off(tx, messages[second], 5, status=500, reason="ill"))
    store.write(lambda tx: deliveries.receiver_is_gone(tx, messages[first]))
    later = delivery()
    states = {each["id"]: each["state"] for each in store.all("SELECT id, state FROM webhook_delivery")}
    assert states == {
        first: "gone", second: "gone", later: "gone", elsewhere: "sending", of_another: "sending"
    }  # fmt: skip
    assert {each["id"] for each in store.database.read(lambda tx: deliveries.page(tx, failed=True))} == {
        first, second, later
    }  # fmt: skip
    assert store.write(lambda tx: deliveries.resend(tx, second))
    assert sent_out(store).id == second
    assert row(store, delivery())["state"] == "waiting"
    assert not store.write(lambda tx: deliveries.resend(tx, "msg_nobody_1"))


def test_one_users_receiver_does_not_take_all_the_room(
    store: Store, delivery: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MOST_SENDING", 3)
    monkeypatch.setattr(turns, "MOST_SENDING_PER_USER", 2)
    ours = [delivery() for _ in range(3)]
    theirs = [delivery(user="o-2") for _ in range(3)]
    assert {each.id for each in store.write(lambda tx: deliveries.due(tx).get())} == {*ours[:2], theirs[0]}
    assert store.write(lambda tx: deliveries.due(tx).get()) == []


def test_a_webhook_behind_a_thousand_of_another_user_is_sent_in_the_same_round(
    store: Store, delivery: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "LOOKED_AT", 4)
    monkeypatch.setattr(turns, "MOST_SENDING_PER_USER", 2)
    crowd = [delivery() for _ in range(8)]
    behind = delivery(user="o-2")
    assert {each.id for each in store.write(lambda tx: deliveries.due(tx).get())} == {*crowd[:2], behind}


def test_one_host_that_many_users_name_does_not_take_all_the_room(
    store: Store, delivery: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MOST_SENDING_PER_HOST", 2)
    hanging = [delivery(user=f"o-{n}") for n in range(4)]
    elsewhere = delivery(user="o-9", url="https://other.example.org/hook")
    assert {each.id for each in store.write(lambda tx: deliveries.due(tx).get())} == {*hanging[:2], elsewhere}


def test_waiting_messages_of_a_user_are_bounded_and_further_ones_are_kept_as_failed(
    store: Store, delivery: Callable[..., str]
) -> None:
    first = delivery()
    copied = "task_id, charge, user_openid, url, type, data, state, created_at, due_at"
    store.write(
        lambda tx: tx.execute(
            f"""WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
                INSERT INTO webhook_delivery (id, {copied})
                SELECT id || '_' || n, {copied} FROM webhook_delivery CROSS JOIN numbers WHERE id = ?""",
            MOST_WAITING_PER_USER,
            first,
        )
    )
    refused = row(store, delivery())
    assert (refused["state"], refused["last_error"]) == ("failed", TOO_MANY)
    assert refused["ended_at"] is not None
    assert row(store, delivery(user="o-2"))["state"] == "waiting"


USERS = st.sampled_from("abc")
HOSTS = st.sampled_from(["one.example", "two.example"])


@given(st.lists(st.tuples(USERS, HOSTS), max_size=60), st.dictionaries(USERS, st.integers(0, 12)))
def test_turns_keep_every_limit_and_leave_no_usable_place_empty(
    due: list[tuple[str, str]], sending: dict[str, int]
) -> None:
    rows = [Due(str(n), user, host) for n, (user, host) in enumerate(due)]
    chosen = set(next_to_send(rows, UnderWay(sending, {})))
    of_user, of_host = Counter(sending), Counter[str]()
    for each in rows:
        if each.id in chosen:
            of_user[each.user] += 1
            of_host[each.host] += 1
    for each in rows:
        if each.id not in chosen:
            assert (
                of_user[each.user] >= turns.MOST_SENDING_PER_USER
                or of_host[each.host] >= turns.MOST_SENDING_PER_HOST
            )
    for user, number in of_user.items():
        assert number <= max(turns.MOST_SENDING_PER_USER, sending.get(user, 0))
    assert max(of_host.values(), default=0) <= turns.MOST_SENDING_PER_HOST


def test_old_messages_are_removed_and_a_removed_task_takes_its_address_along(
    store: Store, delivery: Callable[..., str], clock: Clock
) -> None:
    delivery()
    message = sent_out(store)
    store.write(lambda tx: deliveries.receiver_is_gone(tx, message))
    assert store.write(lambda tx: deliveries.prune(tx, 10)) == 0
    clock.advance(deliveries.FORGET_SECONDS + 60)
    waiting = delivery()
    assert store.write(lambda tx: deliveries.prune(tx, 10)) == 1
    assert [each["id"] for each in store.all("SELECT id FROM webhook_delivery")] == [waiting]
    assert store.all("SELECT * FROM webhook_gone") == []
    store.write(lambda tx: ageing.forget_finished_tasks(tx, "photography", 3600, 10))
    assert [f"msg_{each['task_id']}_1" for each in store.all("SELECT task_id FROM webhook")] == [waiting]


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example.org/hook",
        "https://me:secret@app.example.org/hook",
        "https://:secret@app.example.org/hook",
        "https://app.example.org/" + "x" * 2048,
        "https://",
        "app.example.org",
        None,
        7,
    ],
)
@pytest.mark.sqlite_only
def test_an_address_that_cannot_receive_is_refused_at_once(store: Store, url: Any) -> None:
    body = {"type": "photography", "params": PARAMS, "webhook": url}
    with pytest.raises(BadTask) as refused:
        check_submission(json.loads(json.dumps(body)), store.settings, may_jump_the_queue=False)
    assert refused.value.errors[0][0] == "/webhook"


@pytest.mark.postgresql_only
def test_a_look_for_due_messages_locks_only_those_it_sends(store: Store) -> None:
    """A receiver that hangs keeps a thousand due, and the dispatcher looks at them in every round."""
    store.write(
        lambda tx: tx.execute(
            f"""INSERT INTO webhook_delivery (id, task_id, charge, user_openid, url, type, data, state, due_at)
                SELECT 'msg_t' || n || '_1', 't' || n, 1, 'u' || n, 'https://hangs.example.org/', 'task.completed',
                    '{{}}', 'waiting', {tx.now} FROM generate_series(1, 60) AS n"""
        )
    )

    def look(tx: Any) -> tuple[int, int]:
        sent = len(deliveries.due(tx).get())
        with psycopg.connect(store.settings.database_url) as other:
            free = other.execute("SELECT id FROM webhook_delivery FOR UPDATE SKIP LOCKED").fetchall()
        return sent, len(free)

    assert store.write(look) == (40, 20)
