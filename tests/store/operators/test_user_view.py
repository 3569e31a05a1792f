"""One user as operators see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.core.claim import Claim
from supervisor.store.limits import blocks, notices
from supervisor.store.operators import user_view
from tests.conftest import Store


def seen(store: Store, user: str = "o-7") -> Any:
    return store.database.read(lambda tx: user_view.read(tx, store.settings, user))


def test_a_user_who_was_never_seen_is_none(store: Store, admitted_task: Callable[..., str]) -> None:
    admitted_task("o-8")
    assert seen(store) is None


def test_everything_of_a_user_and_nothing_of_another(
    store: Store,
    admitted_task: Callable[..., str],
    claimed_task: Callable[..., Claim],
    failed_task: Callable[..., str],
) -> None:
    waits, runs, failed = admitted_task("o-7", count=3), claimed_task("o-7").task_id, failed_task("o-7")
    admitted_task("o-8")
    user = seen(store)
    assert {each["task_id"] for each in user["open"]} == {waits, runs}
    assert [each["task_id"] for each in user["ended"]] == [failed]
    assert user["ended"][0]["error"]["code"] == "invalid_input"
    assert (user["balance"], user["spent_of_day"]) == (96, 4)
    assert sum(each["amount"] for each in user["entries"]) == 96
    limits = {each["name"]: (each["used"], each["most"]) for each in user["limits"]}
    assert limits == {"open_tasks": (2, 20), "running_tasks": (1, 4)}
    assert user["block"] is None and user["tokens_from"] is None and user["refusals"] == []


def test_refusals_of_the_last_day_have_their_reasons(store: Store, pending_task: Callable[..., str]) -> None:
    pending_task("o-7", "sculpture")
    store.admit_waiting()
    store.write(lambda tx: blocks.block(tx, "o-7", "stolen card"))
    for _ in range(2):
        pending_task("o-7")
    store.admit_waiting()
    noticed = {(notices.Notice.BLOCKED, "o-7"): 3, (notices.Notice.STREAMS, "o-8"): 9}
    store.write(lambda tx: notices.add(tx, noticed))
    user = seen(store)
    told = {(each["what"], each["reason"]): each for each in user["refusals"]}
    assert {of: each["times"] for of, each in told.items()} == {
        ("requests", "blocked"): 3,
        ("tasks", "user_blocked"): 2,
        ("tasks", "unknown_type"): 1,
    }
    assert "o-7 is blocked" in told["tasks", "user_blocked"]["message"]
    assert user["block"]["reason"] == "stolen card"
