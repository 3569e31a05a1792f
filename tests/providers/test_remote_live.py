"""Remote jobs on a whole running system: no thread waits for them, nothing is submitted twice, nothing is forgotten.

Real processes, real signals, and a service outside of them that keeps its jobs and counts its requests.
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import pytest

from tests.support.fakes.remote_service import Plan, RemoteService, remote_type, signed
from tests.support.running_system import RunningSystem, running_system
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)  # a whole system, on a machine with much else to do

SLOTS = 2
MANY = 300


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSystem]:
    with opened_shop(
        "paint",
        "first",
        "second",
        TASKS__first__FALLBACK='["second"]',
        TASKS__first__ALLOW_PROVIDERS='["second"]',
        WORKER_THREADS=str(SLOTS),
        LEASE_SECONDS="6",
        PROVIDERS__paint__OPTIONS__poll_seconds="0.5",
        TASKS__paint__MAX_ATTEMPTS="2",
    ) as shop:
        yield shop


@pytest.fixture
def shop(shared: RunningSystem) -> RunningSystem:
    shared.service.plan = lambda order: Plan()
    shared.service.cancel_status = shared.service.poll_status = 200
    shared.service.knows_nothing = False
    return shared


@contextlib.contextmanager
def opened_shop(*types: str, **settings: str) -> Iterator[RunningSystem]:
    """A system with these task types, each with its provider, on one service."""
    with RemoteService() as service:
        made = {"CREDITS__ENABLED": "true", "CREDITS__SIGNUP_GRANT": "100000", "WORKER_PROCESSES": "1"}
        for name in types:
            made |= remote_type(service, name)
        with running_system(service=service, **(made | settings)) as system:
            yield system


def asked(shop: RunningSystem, task_id: str) -> list[str]:
    """The providers that were asked for a task, in order."""
    rows = shop.sql("SELECT provider FROM remote_job WHERE task_id = ? ORDER BY id", task_id)
    return [provider for (provider,) in rows]


def breakers(shop: RunningSystem) -> dict[str, str]:
    """{provider: its breaker}, of those that ever had trouble."""
    return dict(shop.sql("SELECT name, breaker FROM provider_state"))


def refusal(shop: RunningSystem, type_: str, **params: Any) -> tuple[int, str]:
    """The status and the pointer of an order that is refused."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        shop.order(type_, **params)
    return refused.value.code, json.load(refused.value)["errors"][0]["pointer"]


def report(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """Send a report; the status of its answer."""
    request = urllib.request.Request(url, body, dict(headers), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def worker_pid(shop: RunningSystem) -> int:
    (row,) = shop.all("SELECT pid FROM worker WHERE state = 'live'")
    return int(row["pid"])


def kill_worker(shop: RunningSystem) -> None:
    """As the kernel does it; returns when another one is there."""
    old = worker_pid(shop)
    psutil.Process(old).kill()
    eventually(
        "another worker is there",
        lambda: (
            [row["pid"] for row in shop.all("SELECT pid FROM worker WHERE state = 'live'")] not in ([], [old])
        ),
    )


# --- waiting costs nothing ---


def test_hundreds_of_jobs_wait_beside_two_slots_and_all_end_by_polls_and_reports(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600, reports=len(shop.service.orders) % 2 == 0)
    tasks = [shop.order("paint") for _ in range(MANY)]
    eventually(
        "all of them wait at the service",
        lambda: (
            shop.all("SELECT count(*) FROM task_queue WHERE status = 'ai_processing'")[0][0] == MANY
            and len(shop.service.jobs) == MANY
        ),
    )
    eventually(
        "no slot is taken",
        lambda: shop.all("SELECT max(busy) FROM worker WHERE state = 'live'")[0][0] == 0,
    )
    for job in list(shop.service.jobs.values()):
        shop.service.end(job)
    eventually(
        "all are completed",
        lambda: shop.all("SELECT count(*) FROM task_queue WHERE status = 'completed'")[0][0] == MANY,
    )
    assert {shop.service.submissions(task) for task in tasks} == {1}
    assert {tuple(shop.booked(task)) for task in tasks} == {(("debit", -1),)}
    assert shop.service.stats()["twice"] == 0


def test_progress_of_a_job_is_seen_and_ends_at_100(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600)
    task = shop.order("paint")
    shop.reaches(task, "ai_processing")
    (job,) = shop.service.of(task)
    job.progress = 40
    eventually(
        "progress is shown",
        lambda: tuple(shop.task(task)[each] for each in ("progress", "stage")) == (40, "painting"),
    )
    shop.service.end(job)
    assert shop.ends(task) == "completed"
    changes = [
        json.loads(row["doc"])["progress"]
        for row in shop.all("SELECT doc FROM work_change ORDER BY log_id")
        if json.loads(row["doc"])["task_id"] == task
    ]
    assert changes == sorted(changes) and changes[-1] == 100


# --- every class once, said by a job that was accepted ---


@pytest.mark.parametrize(
    ("error", "code", "submissions", "evidence"),
    [
        ("Transient", "provider_error", 2, ["failed", "failed"]),
        ("InvalidInput", "invalid_input", 1, ["failed"]),
        ("ContentRejected", "content_rejected", 1, ["failed"]),
        ("RateLimited", "provider_error", 2, ["failed", "failed"]),
    ],
)
def test_a_job_that_ends_with_an_error_follows_its_class(
    shop: RunningSystem, error, code, submissions, evidence
):
    shop.service.plan = lambda order: Plan(error=error)
    task = shop.order("paint", count=2)
    assert (shop.ends(task, 40), shop.error_code(task)) == ("failed", code)
    assert (shop.service.submissions(task), shop.evidence(task)) == (submissions, evidence)
    assert shop.booked(task) == [("debit", -2), ("refund", 2)]


def test_a_job_that_its_service_does_not_know_is_asked_about_again_and_not_ordered_again(shop: RunningSystem):
    """Its provider may not bill twice, and it may have been made and billed."""
    shop.service.plan = lambda order: Plan(error="Lost")
    task = shop.order("paint")
    shop.reaches(task, "ai_processing")
    asked = "SELECT doubt, doubts FROM remote_job WHERE task_id = ? AND doubts >= 2"
    eventually("it is asked again", lambda: shop.all(asked, task))
    assert (shop.task(task)["status"], shop.service.submissions(task)) == ("ai_processing", 1)
    assert shop.evidence(task) == ["waiting"]
    shop.cancel(task)
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_input"), (422, "content_rejected")])
def test_a_submission_that_is_refused_for_good_fails_and_is_refunded(shop: RunningSystem, status, code):
    shop.service.plan = lambda order: Plan(status=status)
    task = shop.order("paint")
    assert (shop.ends(task), shop.error_code(task)) == ("failed", code)
    assert (shop.service.submissions(task), shop.booked(task)) == (1, [("debit", -1), ("refund", 1)])


@pytest.mark.parametrize("status", [409, 429])
def test_a_full_service_is_waited_for_as_long_as_it_says_and_costs_no_attempt(shop: RunningSystem, status):
    shop.service.plan = lambda order: (
        Plan(status=status, headers={"Retry-After": "0.3"})
        if shop.service.submissions(order["task"]) < 4
        else Plan()
    )
    task = shop.order("paint")
    assert shop.ends(task) == "completed"
    row = shop.task(task)
    assert (row["failures"], row["attempt"], shop.service.submissions(task)) == (0, 4, 4)


def test_a_poll_that_fails_costs_nothing(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600)
    task = shop.order("paint")
    shop.reaches(task, "ai_processing")
    (job,) = shop.service.of(task)
    shop.service.poll_status = 503
    before = job.polls
    eventually("it was asked in vain", lambda: job.polls > before)
    shop.service.poll_status = 200
    shop.service.end(job)
    assert shop.ends(task) == "completed"
    assert (shop.task(task)["failures"], shop.service.submissions(task)) == (0, 1)


def test_a_job_that_made_too_few_pictures_completes_with_them_and_refunds_the_others_once(
    shop: RunningSystem,
):
    shop.service.plan = lambda order: Plan(made=2)
    task = shop.order("paint", count=5)
    assert shop.ends(task) == "completed"
    row = shop.task(task)
    assert (len(json.loads(row["images"])), row["missing"], row["stage"]) == (2, 3, "done, 2 of 5 pictures")
    assert shop.booked(task) == [("debit", -5), ("refund", 3)]


# --- deaths ---


def test_a_worker_killed_before_the_services_yes_leaves_an_unknown_outcome(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600, answer_after_seconds=600)
    task = shop.order("paint")
    eventually("the service has it", lambda: shop.service.submissions(task) == 1)
    kill_worker(shop)
    assert (shop.ends(task), shop.error_code(task)) == ("failed", "unknown_outcome")
    assert (shop.service.submissions(task), shop.evidence(task)) == (1, ["unknown"])
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]


def test_a_report_proves_that_the_service_has_the_job_though_its_answer_was_lost(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600, answer_after_seconds=600)
    task = shop.order("paint")
    eventually("the service has it", lambda: shop.service.submissions(task) == 1)
    (job,) = shop.service.of(task)
    assert (
        report(job.order["callback_url"], *signed({"id": job.id, "status": "running", "progress": 5})) == 200
    )
    assert shop.evidence(task) == ["waiting"]
    kill_worker(shop)
    shop.reaches(task, "ai_processing")
    job.over_at = 0
    assert report(job.order["callback_url"], *signed(job.document())) == 200
    assert shop.ends(task) == "completed"
    assert (shop.service.submissions(task), shop.evidence(task)) == (1, ["done"])
    assert shop.booked(task) == [("debit", -1)]


def test_a_worker_killed_while_its_jobs_wait_changes_nothing_for_them(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600)
    task = shop.order("paint")
    shop.reaches(task, "ai_processing")
    kill_worker(shop)
    shop.service.end(shop.service.of(task)[0])
    assert shop.ends(task) == "completed"
    row = shop.task(task)
    assert (row["attempt"], row["failures"], shop.service.submissions(task)) == (1, 0, 1)


# --- reports ---


def test_a_report_that_comes_before_the_services_yes_is_read_at_the_hand_off(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(reports=True, answer_after_seconds=1)
    task = shop.order("paint")
    assert shop.ends(task, 15) == "completed"  # the next poll without it would be in half a minute
    assert shop.evidence(task) == ["done"]
    assert shop.service.of(task)[0].polls == 0


def test_forged_repeated_and_late_reports_change_nothing(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600)
    task = shop.order("paint")
    shop.reaches(task, "ai_processing")
    (job,) = shop.service.of(task)
    url = job.order["callback_url"]
    body, headers = signed({"id": job.id, "status": "failed", "error": "ContentRejected"})
    assert report(url, body, {**headers, "x-signature": "0" * 64}) == 200  # stored, and not believed
    eventually(
        "it is read",
        lambda: (
            shop.all("SELECT count(*) FROM remote_report WHERE task_id = ? AND read_at IS NULL", task)[0][0]
            == 0
        ),
    )
    assert shop.task(task)["status"] == "ai_processing"
    assert report(url[:-3] + "AAA", body, headers) == 403
    job.over_at = 0
    told = signed(job.document())
    assert [report(url, *told) for _ in range(3)] == [200, 200, 200]
    assert shop.ends(task) == "completed"
    before = tuple(shop.task(task))
    assert report(url, body, headers) == 200
    assert tuple(shop.task(task)) == before
    assert shop.all("SELECT count(*) FROM remote_report WHERE task_id = ?", task)[0][0] == 2


# --- cancels ---


def test_a_cancel_reaches_the_service_even_when_it_refuses_at_first(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600)
    shop.service.cancel_status = 503
    task = shop.order("paint")
    shop.reaches(task, "ai_processing")
    before = shop.service.cancels
    shop.cancel(task)
    eventually("the service was asked", lambda: shop.service.cancels > before)
    assert shop.evidence(task) == ["waiting"]
    shop.service.cancel_status = 200
    eventually("it is cancelled there", lambda: shop.evidence(task) == ["cancelled"])
    assert shop.service.of(task)[0].is_cancelled
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]


def test_a_cancel_while_the_job_is_handed_in_waits_for_its_id_and_cancels_it(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(seconds=600, answer_after_seconds=4)
    task = shop.order("paint")
    eventually("the service has it", lambda: shop.service.submissions(task) == 1)
    shop.cancel(task)
    eventually("it is cancelled there", lambda: shop.evidence(task) == ["cancelled"])
    assert shop.service.of(task)[0].is_cancelled
    assert shop.booked(task) == [("debit", -1), ("refund", 1)]


# --- several providers ---


def test_a_task_may_name_a_provider_that_its_type_allows_and_no_other(shop: RunningSystem):
    task = shop.order("first", provider="second")
    assert shop.ends(task) == "completed"
    assert asked(shop, task) == ["second"]
    assert refusal(shop, "first", provider="first") == (422, "/params/provider")
    assert refusal(shop, "second", provider="second") == (422, "/params/provider")


def test_a_provider_that_is_down_is_replaced_by_its_fallback_or_waited_for(shop: RunningSystem):
    shop.service.plan = lambda order: Plan(status=401, headers={"Retry-After": "1"})
    alone = shop.order("second")
    eventually("the second is down", lambda: breakers(shop) == {"second": "open"})
    chained = shop.order("first")
    eventually("both are down", lambda: breakers(shop) == {"first": "open", "second": "open"})
    # From now on the first one refuses, and the second one works again.
    shop.service.plan = lambda order: Plan(status=401 if order["provider"] == "first" else 202)
    assert [shop.ends(task) for task in (alone, chained)] == ["completed", "completed"]
    assert {shop.task(task)["failures"] for task in (alone, chained)} == {0}
    assert breakers(shop) == {"first": "open", "second": "closed"}
    assert asked(shop, chained)[-1] == "second"
    shop.service.plan = lambda order: Plan()
    eventually(
        "a probe finds the first one up", lambda: probed(shop) == {"first": "closed", "second": "closed"}
    )


def probed(shop: RunningSystem) -> dict[str, str]:
    """The breakers after another order, which is the probe when one is due."""
    shop.ends(shop.order("first"))
    return breakers(shop)


# --- a system of its own ---


def test_a_kill_between_the_id_and_the_hand_off_submits_nothing_twice():
    with opened_shop("paint", PROVIDERS__paint__OPTIONS__die_at="hand_off") as shop:
        shop.service.plan = lambda order: Plan(seconds=600)
        at_the_hand_off = shop.order("paint")
        shop.reaches(at_the_hand_off, "ai_processing", seconds=60)
        row = shop.task(at_the_hand_off)
        assert (row["attempt"], row["deaths"], row["failures"]) == (2, 1, 0)
        shop.kill()
        shop.start()
        shop.service.end(shop.service.of(at_the_hand_off)[0])
        assert shop.ends(at_the_hand_off, 90) == "completed"
        assert shop.service.submissions(at_the_hand_off) == 1
        assert (shop.evidence(at_the_hand_off), shop.booked(at_the_hand_off)) == (["done"], [("debit", -1)])
