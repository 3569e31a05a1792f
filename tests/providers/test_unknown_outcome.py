"""Paid requests on a whole running system: the outcome of a request whose answer is lost.

Real processes, real signals, and a service outside of them that counts its requests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.support.fakes.fake_ai_service import SECRET, Asked, FakeAiService, Reply, http_type, picture_reply
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

AI_TIMEOUT_SECONDS = {"careful": 600, "easy": 600, "hasty_careful": 3, "hasty_easy": 3}
NEVER = 3600.0


def settings_for(service: FakeAiService) -> dict[str, str]:
    """Types on one service: `careful` may not bill twice, and asks for one picture at a time; `easy` may.

    Those that are hasty wait for an answer for three seconds, the others longer than any test.
    """
    settings = {
        "CREDITS__ENABLED": "true",
        "CREDITS__SIGNUP_GRANT": "100",
        "DRAIN_SECONDS": "2",
        "LEASE_SECONDS": "6",
    }
    for name, seconds in AI_TIMEOUT_SECONDS.items():
        settings |= {
            f"TASKS__{name}__AI_TIMEOUT_SECONDS": str(seconds),
            f"TASKS__{name}__TIME_LIMIT_SECONDS": "900",
        }
        if name.endswith("careful"):
            settings |= http_type(service, name, MAY_BILL_TWICE="false", SUBMIT__PICTURES_PER_REQUEST="1")
        else:
            settings |= http_type(service, name, MAY_BILL_TWICE="true")
    return settings


@contextlib.contextmanager
def opened(**more: str) -> Iterator[RunningSystem]:
    with (
        FakeAiService() as service,
        running_system(service=service, **(settings_for(service) | more)) as shop,
    ):
        yield shop


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSystem]:
    with opened() as shop:
        yield shop


def no_first_answer() -> Callable[[Asked], Reply]:
    """The first request of a task is never answered, every other at once."""
    seen: set[str] = set()

    def reply(asked: Asked) -> Reply:
        task = asked.headers["X-Task"]
        is_first = task not in seen
        seen.add(task)
        return picture_reply(after_seconds=NEVER if is_first else 0.0)

    return reply


@pytest.fixture
def shop(shared: RunningSystem) -> RunningSystem:
    shared.service.reply = no_first_answer()
    return shared


def test_a_worker_killed_in_mid_call_is_an_unknown_outcome_where_a_second_bill_is_not_allowed(shop):
    task = shop.order("careful")
    shop.in_mid_call(task).kill()
    assert shop.ends(task) == "failed"
    assert shop.error_code(task) == "unknown_outcome"
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]
    assert shop.service.asked_for(task) == 1
    assert shop.evidence(task) == ["unknown"]
    assert shop.task(task)["attempt"] == 1


def test_a_worker_killed_in_mid_call_runs_it_again_where_a_second_bill_is_allowed(shop):
    task = shop.order("easy")
    shop.in_mid_call(task).kill()
    assert shop.ends(task) == "completed"
    assert shop.booked(task) == [("debit", -1)]
    assert shop.service.asked_for(task) == 2
    assert shop.evidence(task) == ["unknown", "done"]
    row = shop.task(task)
    assert (row["attempt"], row["deaths"], row["failures"]) == (2, 1, 0)


def test_an_answer_that_comes_in_time_is_one_request_and_one_debit(shop):
    shop.service.reply = lambda asked: picture_reply()
    task = shop.order("careful")
    assert shop.ends(task) == "completed"
    assert (shop.service.asked_for(task), shop.evidence(task)) == (1, ["done"])
    assert shop.booked(task) == [("debit", -1)]
    (image,) = json.loads(shop.task(task)["images"])
    assert (shop.data_dir / "files" / image["key"]).stat().st_size > 100


@pytest.mark.parametrize(
    ("type_", "requests", "code"), [("hasty_careful", 1, "ai_timeout"), ("hasty_easy", 2, None)]
)
def test_no_answer_within_the_ai_time_out_follows_the_same_rule(shop, type_, requests, code):
    task = shop.order(type_)
    shop.ends(task)
    assert (shop.service.asked_for(task), shop.error_code(task)) == (requests, code)
    assert shop.evidence(task) == ["unknown", "done"][:requests]


def test_a_service_that_makes_one_picture_at_a_time_is_asked_for_each(shop):
    shop.service.reply = lambda asked: picture_reply()
    task = shop.order("careful", count=3)
    assert shop.ends(task) == "completed"
    assert (shop.service.asked_for(task), shop.evidence(task)) == (3, ["done"] * 3)
    rows = shop.all("SELECT reference FROM remote_job WHERE task_id = ? ORDER BY id", task)
    assert [row["reference"] for row in rows] == [f"{task}.1.1.0.{part}" for part in range(3)]
    assert len(json.loads(shop.task(task)["images"])) == 3
    assert shop.booked(task) == [("debit", -3)]


def test_a_cancel_in_mid_call_breaks_the_request_off(shop):
    before = shop.service.broken_off
    task = shop.order("careful")
    shop.in_mid_call(task)
    shop.cancel(task)
    eventually("the service is left alone", lambda: shop.service.broken_off == before + 1)
    eventually("it is written down", lambda: shop.evidence(task) == ["unknown"])
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]


def test_the_services_key_is_in_no_row(shop):
    shop.service.reply = lambda asked: picture_reply()
    task = shop.order("careful")
    assert shop.ends(task) == "completed"
    assert any(asked.headers["Authorization"] == f"Bearer {SECRET}" for asked in shop.service.asked)
    with contextlib.closing(sqlite3.connect(shop.database)) as connection:
        assert SECRET not in "\n".join(connection.iterdump())
    files = [path for path in shop.data_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


@dataclasses.dataclass(frozen=True)
class Drained:
    """The calls in progress when the system was asked to drain, by subject."""

    shop: RunningSystem
    careful: str
    of_two: str
    unanswered: str
    easy: str


@pytest.fixture(scope="module")
def drained() -> Iterator[Drained]:
    """A house that has drained while the service took its time, and answered only when it had given `easy` back."""
    with opened() as shop:
        answer, never = threading.Event(), threading.Event()
        shop.service.reply = lambda asked: picture_reply(when=never)
        unanswered = shop.order("hasty_careful")
        shop.in_mid_call(unanswered)
        shop.service.reply = lambda asked: picture_reply(when=answer)
        careful, of_two, easy = shop.order("careful"), shop.order("careful", count=2), shop.order("easy")
        for task in (careful, of_two, easy):
            shop.in_mid_call(task)
        up = psutil.Process(shop.pid)
        up.terminate()
        eventually(
            "those that may be paid twice are given back", lambda: shop.task(easy)["status"] == "pending"
        )
        answer.set()
        gone = lambda: not up.is_running() or up.status() == psutil.STATUS_ZOMBIE  # noqa: E731
        eventually("`up` has ended", gone)
        yield Drained(shop, careful, of_two, unanswered, easy)


def test_a_drain_lets_an_answer_come_that_must_not_be_paid_twice_and_gives_the_others_back(drained):
    shop = drained.shop
    assert shop.task(drained.careful)["status"] == "completed"
    assert (shop.service.asked_for(drained.careful), shop.evidence(drained.careful)) == (1, ["done"])
    row = shop.task(drained.easy)
    assert (row["status"], row["failures"], row["deaths"]) == ("pending", 0, 0)
    assert (shop.service.asked_for(drained.easy), shop.evidence(drained.easy)) == (1, ["unknown"])


def test_a_drain_begins_no_further_request_of_an_attempt(drained):
    shop, task = drained.shop, drained.of_two
    row = shop.task(task)
    assert (row["status"], row["failures"], row["deaths"]) == ("pending", 0, 0)
    assert (shop.service.asked_for(task), shop.evidence(task)) == (1, ["done"])
    assert len(shop.all("SELECT n FROM result_file WHERE task_id = ?", task)) == 1


def test_a_drain_waits_no_longer_than_the_ai_time_out(drained):
    shop, task = drained.shop, drained.unanswered
    assert (shop.task(task)["status"], shop.error_code(task)) == ("failed", "ai_timeout")
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]
    assert (shop.service.asked_for(task), shop.evidence(task)) == (1, ["unknown"])


def test_a_system_killed_during_a_call_follows_the_rule_at_its_next_start():
    with opened() as shop:
        shop.service.reply = no_first_answer()
        careful, easy = shop.order("careful"), shop.order("easy")
        shop.in_mid_call(careful), shop.in_mid_call(easy)
        shop.kill()
        eventually("the workers are gone", lambda: shop.service.broken_off == 2)
        shop.start()
        assert (shop.ends(careful), shop.error_code(careful)) == ("failed", "unknown_outcome")
        assert shop.ends(easy) == "completed"
        assert (shop.service.asked_for(careful), shop.service.asked_for(easy)) == (1, 2)
