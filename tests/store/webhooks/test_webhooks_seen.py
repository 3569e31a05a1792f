"""Operators' view of webhooks: each attempt of a task's message, the totals, and addresses in trouble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor.core.errors import WebhookNotFound
from supervisor.store.operators import audit, operator_actions
from supervisor.store.operators.audit import Operator
from supervisor.store.tasks import user_actions
from supervisor.store.tasks.new_task import NewTask
from supervisor.store.webhooks import deliveries, webhook_attempts, webhook_health
from supervisor.store.webhooks.deliveries import Message
from tests.conftest import PARAMS, Clock, Store

HOOK = "https://app.example.org/hooks/darkroom"


@pytest.fixture
def owed(store: Store) -> Callable[..., str]:
    """The id of an ended task with a webhook to send."""

    def make(user: str = "o-1", url: str = HOOK) -> str:
        new = NewTask(user, "photography", PARAMS, webhook=url)
        task_id = str(store.write(lambda tx: user_actions.submit(tx, store.settings, new))["task_id"])
        store.write(lambda tx: user_actions.cancel(tx, task_id))
        return task_id

    return make


def taken_up(store: Store) -> list[Message]:
    """All that is due, in a worker's hands."""
    return store.write(lambda tx: deliveries.claim(tx, deliveries.due(tx).get()))


def put_off(store: Store, message: Message, seconds: float | None, status: int | None, reason: str) -> None:
    store.write(lambda tx: deliveries.put_off(tx, message, seconds, status=status, reason=reason))


def tries(store: Store, task_id: str) -> list[dict[str, Any]]:
    (delivery,) = store.database.read(lambda tx: webhook_attempts.of_task(tx, task_id))
    return list(delivery["tries"])


def health(store: Store) -> dict[str, Any]:
    return store.database.read(webhook_health.read)


def test_each_attempt_is_kept_with_its_answer_its_reason_and_when_the_next_was_due(
    store: Store, owed: Callable[..., str], clock: Clock
) -> None:
    task_id = owed()
    (message,) = taken_up(store)
    put_off(store, message, 300, 503, "The receiver answers 503.")
    clock.advance(301)
    (message,) = taken_up(store)
    store.write(lambda tx: deliveries.delivered(tx, message, 204))
    first, second = tries(store, task_id)
    assert (first["attempt"], first["status"], first["error"]) == (1, 503, "The receiver answers 503.")
    assert first["ended_at"] is not None and first["ended_at"] < first["next_at"] <= second["at"]
    assert (second["attempt"], second["status"], second["error"]) == (2, 204, None)
    assert second["next_at"] is None


def test_an_attempt_lost_with_its_worker_is_distinguished_from_one_that_ended(
    store: Store, owed: Callable[..., str], clock: Clock
) -> None:
    task_id = owed()
    taken_up(store)
    clock.advance(deliveries.CLAIM_SECONDS + 1)
    (again,) = taken_up(store)
    store.write(lambda tx: deliveries.receiver_is_gone(tx, again))
    assert [(each["ended_at"] is None, each["status"]) for each in tries(store, task_id)] == [
        (True, None),
        (False, 410),
    ]


def test_the_query_of_an_address_is_never_shown(store: Store, owed: Callable[..., str]) -> None:
    task_id = owed(url=HOOK + "?key=s3cret")
    (message,) = taken_up(store)
    put_off(store, message, 5, 500, "The receiver answers 500.")
    (delivery,) = store.database.read(lambda tx: webhook_attempts.of_task(tx, task_id))
    (address,) = health(store)["addresses"]
    assert delivery["url"] == address["url"] == HOOK


def test_attempts_are_forgotten_with_their_delivery(
    store: Store, owed: Callable[..., str], clock: Clock
) -> None:
    owed()
    (message,) = taken_up(store)
    store.write(lambda tx: deliveries.delivered(tx, message, 200))
    clock.advance(deliveries.FORGET_SECONDS + 60)
    kept = owed()
    taken_up(store)
    store.write(lambda tx: deliveries.prune(tx, 10))
    assert [each["delivery_id"] for each in store.all("SELECT delivery_id FROM webhook_attempt")] == [
        f"msg_{kept}_1"
    ]


def test_waiting_and_ended_messages_are_counted(store: Store, owed: Callable[..., str], clock: Clock) -> None:
    owed()
    (arrived,) = taken_up(store)
    store.write(lambda tx: deliveries.delivered(tx, arrived, 200))
    assert health(store)["oldest_seconds"] == 0 and health(store)["addresses"] == []
    owed()
    clock.advance(120)
    taken_up(store)
    owed()
    seen = health(store)
    assert seen["open"] == {"waiting": 1, "sending": 1}
    assert seen["ended"] == {"delivered": 1, "failed": 0, "gone": 0}
    assert 120 <= seen["oldest_seconds"] < 180
    clock.advance(webhook_health.LATELY_SECONDS)
    assert health(store)["ended"]["delivered"] == 0


def test_addresses_in_trouble_are_listed_by_user_with_their_error(
    store: Store, owed: Callable[..., str]
) -> None:
    gone, ill, well = HOOK + "/gone", HOOK + "/ill", HOOK + "/well"
    for user, url in (("o-1", gone), ("o-1", ill), ("o-1", ill), ("o-2", well)):
        owed(user, url)
    for message in taken_up(store):
        if message.url == gone:
            store.write(lambda tx, m=message: deliveries.receiver_is_gone(tx, m))  # type: ignore[misc]
        elif message.url == ill:
            put_off(store, message, 300, 500, "The receiver answers 500.")
        else:
            store.write(lambda tx, m=message: deliveries.delivered(tx, m, 200))  # type: ignore[misc]
    first, second = health(store)["addresses"]
    assert (first["url"], first["owed"], first["given_up"], first["gone_since"]) == (ill, 2, 0, None)
    assert first["last_status"] == 500 and first["next_at"] is not None
    assert (second["url"], second["owed"], second["given_up"]) == (gone, 0, 1)
    assert second["gone_since"] is not None and second["next_at"] is None


def test_a_resend_keeps_the_id_begins_the_schedule_anew_and_is_recorded(
    store: Store, owed: Callable[..., str]
) -> None:
    task_id = owed()
    (message,) = taken_up(store)
    put_off(store, message, None, 500, "The receiver answers 500.")
    sent = store.write(lambda tx: operator_actions.resend(tx, Operator("o-oncall", "operator"), message.id))
    assert sent == {"webhook_id": message.id, "task_id": task_id, "state": "waiting"}
    (again,) = taken_up(store)
    assert (again.id, again.attempts) == (message.id, 1)
    assert [each["attempt"] for each in tries(store, task_id)] == [1, 1]
    (entry,) = store.database.read(lambda tx: audit.of_task(tx, task_id))
    assert (entry["action"], entry["operator"]) == ("resend", "o-oncall")
    assert entry["before"] == {"webhook_id": message.id, "state": "failed", "attempts": 1}
    with pytest.raises(WebhookNotFound):
        store.write(lambda tx: operator_actions.resend(tx, Operator("o-oncall", "operator"), "msg_nobody_1"))
