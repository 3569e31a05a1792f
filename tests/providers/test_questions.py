"""A poll of a remote job orders nothing: the effect of an answer, of a wrong answer and of none."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.attempts import attempt as attempts
from actors.attempts import run_providers
from actors.attempts.outcomes import OrderAgain, after_error, after_question, after_remote_error
from actors.attempts.reconcile import look_up_unheard
from actors.entry.claim_handlers import WORK
from actors.providers.base import (
    Ambiguous,
    ContentRejected,
    Failed,
    Job,
    Lost,
    ProviderDown,
    ProviderError,
    RateLimited,
    ResultGone,
    ResultLost,
    Transient,
    UnknownOutcome,
    Unreadable,
)
from actors.providers.base import Running as JobRuns
from actors.providers.comfyui.history import end_of, history_of, place_in_queue
from actors.remote_jobs import poll_batch
from actors.worker.worker import Running, Why, Worker
from config.provider import Provider
from config.settings import Settings
from supervisor.core import rescue
from supervisor.core.claim import Claim
from supervisor.core.errors import MayBeBilledAlready
from supervisor.objects.open_store import open_file_store
from supervisor.remote.unclear_answers import TIMES, UNKNOWN_SECONDS, Doubt, Doubts
from supervisor.services.sweep import sweep
from supervisor.store.recovery import clock_steps, stuck_tasks
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims
from tests.conftest import Clock, Store
from tests.support.fakes.fal_service import Fal
from tests.support.models.kept_objects import kept_of
from tests.support.providers.adapters import PORTRAIT
from tests.support.well import Well
from tests.support.workers import worker_of

GONE = Lost("The service does not know it.")
UNCLEAR = Unreadable("The answer can't be understood.")
SPAN: Any = SimpleNamespace(trace_id="", fail=lambda *_: None, set_attributes=lambda **_: None)


# --- what an answer is worth ---


def heard(said: Any, before: Doubts = Doubts(), *, easy: bool = False) -> tuple[Any, Doubts]:
    return after_question(said, before, may_bill_twice=easy, usual_seconds=5.0)


HICCUPS = [
    Transient("No answer."),
    UnknownOutcome("HTTP 524"),
    RateLimited("HTTP 429"),
    ProviderDown("HTTP 401"),
    TimeoutError(),
    RuntimeError("a bug"),
]


@given(
    said=st.lists(st.sampled_from([GONE, Failed(GONE), UNCLEAR, JobRuns(), *HICCUPS]), max_size=30),
    pauses=st.lists(st.floats(0.1, 100), min_size=30, max_size=30),
    easy=st.booleans(),
)
def test_nothing_ends_a_job_before_it_was_said_three_times_running(said, pauses, easy):
    doubts, begun, run = Doubts(), 0.0, list[str]()
    for now, each in zip(_times(pauses), said, strict=False):
        seconds = now - begun if doubts.times else 0.0
        answer, doubts = heard(each, Doubts(doubts.kind, doubts.times, seconds), easy=easy)
        kind = "" if isinstance(each, JobRuns) else _kind(each)
        if kind is not None:
            run = [*run, kind] if kind and run[-1:] == [kind] else [kind] * bool(kind)
            begun = now if len(run) == 1 else begun
        assert doubts.times == len(run)
        if isinstance(answer, Failed):
            assert len(run) >= TIMES
            if run[0] == "unknown":
                assert easy and now - begun >= UNKNOWN_SECONDS
            return
        assert isinstance(answer, JobRuns)
        assert len(run) < TIMES or (run[0] == "unknown" and (not easy or now - begun < UNKNOWN_SECONDS))


def _times(pauses: list[float]) -> Iterator[float]:
    now = 0.0
    for pause in pauses:
        now += pause
        yield now


def _kind(said: Any) -> str | None:
    error = said.error if isinstance(said, Failed) else said
    return {Lost: "unknown", Unreadable: "unreadable"}.get(type(error))


def test_a_result_that_is_gone_is_never_taken_for_an_unknown_job():
    answer, doubts = heard(ResultGone("HTTP 404"), Doubts(Doubt.GONE, 9, 900.0), easy=True)
    assert isinstance(answer, JobRuns) and doubts.kind is Doubt.GONE
    answer, doubts = heard(GONE, Doubts(Doubt.GONE, 9, 900.0), easy=True)
    assert isinstance(answer, JobRuns) and doubts == Doubts(Doubt.UNKNOWN, 1)


@pytest.mark.parametrize("hiccup", HICCUPS, ids=lambda error: type(error).__name__)
def test_no_answer_ends_a_job_and_none_changes_a_doubtful_one(hiccup):
    before = Doubts(Doubt.UNKNOWN, 2, 60.0)
    answer, doubts = heard(hiccup, before, easy=True)
    assert isinstance(answer, JobRuns) and doubts == before


def test_a_services_answer_about_the_job_is_believed_at_once():
    for said in (Failed(ContentRejected("No.")), Failed(Transient("Out of memory."))):
        assert heard(said) == (said, Doubts())
    for error in (ContentRejected("No."), ResultLost("Too large.")):
        assert heard(error) == (Failed(error), Doubts())


def test_a_job_that_may_be_known_still_is_waited_for_as_long_as_its_adapter_says():
    slow = Failed(Lost("It is idle.", sure_after_seconds=30.0))
    assert isinstance(heard(slow, Doubts(Doubt.UNKNOWN, 5, 29.0), easy=True)[0], JobRuns)
    assert isinstance(heard(slow, Doubts(Doubt.UNKNOWN, 5, 30.0), easy=True)[0], Failed)


@pytest.mark.parametrize("easy", [False, True])
def test_a_result_that_can_not_be_had_is_no_reason_to_order_it_again(easy):
    budget = rescue.Budget(failures=0, deaths=0, max_attempts=3)
    for error in (ResultLost("Its pictures are none."), ProviderError(UNCLEAR.message)):
        verdict = after_remote_error(budget, error, may_bill_twice=easy, chance=0.5)
        assert isinstance(verdict, rescue.GiveUp) and verdict.code == "provider_error"
    verdict = after_remote_error(budget, GONE, may_bill_twice=easy, chance=0.5)
    assert isinstance(verdict, OrderAgain if easy else rescue.GiveUp)


@pytest.mark.parametrize("document", [None, [], "<html>", {"status": "starting up"}])
def test_comfyui_is_believed_only_when_it_can_be_read(document):
    with pytest.raises(Unreadable):
        place_in_queue(document, "p-1")
    if not isinstance(document, dict):
        for read in (lambda: history_of(document, "p-1"), lambda: end_of(document, "p-1", ())):
            with pytest.raises(Unreadable):
                read()
    assert history_of({}, "p-1") is None


# --- the whole way: a service's answer, the row, what follows ---


@pytest.fixture
def fal() -> Iterator[Fal]:
    with Fal() as service:
        service.states = ["COMPLETED"]
        yield service


class House:
    """A type that fal makes, and workers that live for one poll each: all their knowledge is in the row."""

    def __init__(self, store: Store, clock: Clock, fal: Fal, folder: Path, *, easy: bool) -> None:
        self.store, self.fal, self.folder = store, fal, folder
        self.well = Well(store, clock)
        provider = {
            "preset": "fal",
            "url": fal.url,
            "secrets": {"KEY": "id:secret"},
            "may_bill_twice": easy,
            "allow_private_addresses": True,
        }
        self.settings = Settings(
            data_dir=store.settings.data_dir,
            database_url=store.settings.database_url,
            providers={"ai": provider},  # type: ignore[dict-item]
            tasks={"photography": {"provider": "ai"}},  # type: ignore[dict-item]
        )

    def _worker(self) -> Any:
        worker: Any = Worker(
            self.settings,
            None,  # type: ignore[arg-type]
            self.store.database,
            open_file_store(self.settings),
            WORK,
        )
        worker.id, worker.scratch = "worker-1", self.folder
        return worker

    async def _close(self, worker: Any) -> None:
        for provider in worker.providers.values():
            await provider.close()
        await worker.images.close()

    async def order(self, claim: Claim) -> None:
        worker = self._worker()
        try:
            await attempts._run(worker, Running(claim.task_id, claim.lease), claim, SPAN)
        finally:
            await self._close(worker)

    async def look(self, *, after_seconds: float = 75.0) -> None:
        """One poll of whatever is due."""
        self.well.passes(after_seconds)
        polls = self.store.claim_polls()
        assert polls, "a job that is not over is asked about"
        worker = self._worker()
        try:
            running = [Running(claim.task_id, claim.lease, takes_slot=False) for claim in polls]
            await poll_batch.poll_tasks(worker, list(zip(running, polls, strict=True)))
        finally:
            await self._close(worker)

    def rescue(self) -> list[str]:
        """The verdicts about stuck tasks."""
        return [
            each.action for each in self.store.write(lambda tx: stuck_tasks.rescue(tx, chance=lambda: 0.5))
        ]

    def status(self, claim: Claim) -> str:
        return str(self.store.task(claim.task_id)["status"])

    @property
    def orders(self) -> int:
        """How often the service was asked to make something."""
        return len(self.fal.paths("POST"))


@pytest.fixture
async def house(
    store: Store,
    clock: Clock,
    fal: Fal,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    async def photos(*_: Any) -> tuple[Path, ...]:
        return (PORTRAIT, PORTRAIT)

    monkeypatch.setattr(run_providers, "fetch_inputs", photos)
    monkeypatch.setattr(run_providers, "job_of", _with_keys(run_providers.job_of))
    (tmp_path / "scratch").mkdir()
    yield House(store, clock, fal, tmp_path / "scratch", easy=getattr(request, "param", False))


def _with_keys(job_of: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **more: dataclasses.replace(job_of(*args, **more), input_keys=(None, None))


BOTH = pytest.mark.parametrize("house", [False, True], ids=["careful", "easy"], indirect=True)
NOT_NOW = [401, 403, 404, 408, 410, 429, 500, 502, 503, 504, 520, 524]


@BOTH
@pytest.mark.parametrize("trouble", [401, 503])
async def test_a_question_without_an_answer_is_freed_without_the_collector(
    house, claimed_task, monkeypatch, trouble
):
    """A service may be away for hours, and be asked all the time about each of its jobs."""
    kept = kept_of(Job, monkeypatch)
    await house.order(claimed_task())
    house.fal.trouble = trouble
    await house.look()
    gc.collect()
    gc.disable()
    try:
        before = kept()
        for _ in range(3):
            await house.look()
        assert kept() == before and kept.made > 3
    finally:
        gc.enable()


async def test_a_result_that_is_not_shown_is_asked_for_again_and_never_ordered_again(house, claimed_task):
    claim = claimed_task()
    await house.order(claim)
    for status in NOT_NOW:
        house.fal.result = (status, {"detail": "an accident"})
        await house.look()
        assert house.status(claim) == "ai_processing", status
    house.fal.result = None
    await house.look()
    assert (house.status(claim), house.orders) == ("completed", 1)
    assert house.store.entries(claim.task_id) == [(1, "debit", -1)]


@BOTH
async def test_a_result_that_stays_gone_is_given_up_when_the_jobs_time_is_over(house, claimed_task):
    claim = claimed_task()
    await house.order(claim)
    house.fal.result = (404, {"detail": "gone"})
    house.well.passes(3600)
    for _ in range(2):
        await house.look()
        assert house.rescue() == [], "it may be shown in a moment"
    await house.look()
    assert house.rescue() == ["failed"]
    assert "remote_lost" in str(house.store.task(claim.task_id)["error"]) and house.orders == 1


@BOTH
async def test_a_result_that_can_not_be_read_three_times_running_fails_with_its_words(house, claimed_task):
    claim = claimed_task()
    await house.order(claim)
    for result in (*[(200, {"seed": 7})] * 2, (500, {}), (200, {"seed": 7})):
        assert house.status(claim) == "ai_processing"
        house.fal.result = result
        await house.look()
    error = str(house.store.task(claim.task_id)["error"])
    assert (house.status(claim), house.orders) == ("failed", 1)
    assert "provider_error" in error and "holds no picture" in error
    assert house.store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]


@BOTH
async def test_a_result_that_could_not_be_read_twice_is_taken_when_it_comes(house, claimed_task):
    claim = claimed_task()
    await house.order(claim)
    for result in (*[(200, {})] * 2, None):
        house.fal.result = result
        await house.look()
    assert (house.status(claim), house.orders) == ("completed", 1)


async def test_an_unknown_job_is_asked_about_until_its_time_is_over_where_it_may_not_bill_twice(
    house, claimed_task
):
    claim = claimed_task()
    await house.order(claim)
    known = dict(house.fal._polls)
    house.fal._polls.clear()
    for _ in range(5):
        await house.look()
        assert (house.status(claim), house.orders) == ("ai_processing", 1)
    house.well.passes(3600)
    assert house.rescue() == [], "no verdict unasked"
    await house.look(after_seconds=1)
    assert house.rescue() == ["failed"]
    assert "remote_lost" in str(house.store.task(claim.task_id)["error"]) and house.orders == 1
    assert house.store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]
    house.fal._polls.update(known)


async def test_a_poll_without_an_answer_is_no_answer_though_the_job_was_unknown_before(house, claimed_task):
    claim = claimed_task()
    await house.order(claim)
    known = dict(house.fal._polls)
    house.fal._polls.clear()
    for _ in range(4):
        await house.look()  # "unknown", often enough to be believed
    house.fal._polls.update(known)
    house.fal.trouble = 503
    house.well.passes(3600)
    await house.look(after_seconds=1)
    assert house.rescue() == [], "the service has said nothing since the limit"
    house.fal.trouble = 0
    await house.look()
    assert (house.status(claim), house.orders) == ("completed", 1)


async def test_a_poll_that_is_cancelled_before_its_first_line_is_over(house, claimed_task, monkeypatch):
    """A task of the event loop that is cancelled before it has begun never runs a line, its `finally` included."""
    await house.order(claimed_task())
    house.well.passes(75.0)
    (claim,) = house.store.claim_polls()
    running = Running(claim.task_id, claim.lease, takes_slot=False)
    worker = house._worker()
    worker.running.add(running)

    async def no_contexts(*_: Any) -> dict[str, str]:
        asyncio.get_running_loop().call_soon(
            running.cancel, Why.DRAIN
        )  # runs before whatever is begun after it
        return {}

    monkeypatch.setattr(poll_batch, "contexts_of", no_contexts)
    try:
        await poll_batch.poll_tasks(worker, [(running, claim)])
        assert running.cancelled is Why.DRAIN and worker.running == set()
        assert house.store.claim_polls(), "it is due again at once"
    finally:
        await house._close(worker)


@pytest.mark.parametrize("sets_right", ["the dispatcher", "the sweep"])
async def test_an_unknown_job_ends_at_its_limit_though_the_clock_was_set_back_meanwhile(
    house, claimed_task, clock, sets_right
):
    """An answer dated two hours ahead of now is not doubted for two hours."""
    claim = claimed_task()
    await house.order(claim)
    house.fal._polls.clear()
    await house.look()
    clock.advance(-7200.0)
    house.well.tick(None)
    if sets_right == "the sweep":
        sweep(house.store.database, house.settings, open_file_store(house.settings))
    else:
        house.store.write(clock_steps.set_right)
    house.well.passes(3700)
    for _ in range(2):
        assert house.rescue() == [], "no verdict unasked"
        await house.look()
    assert house.rescue() == ["failed"]
    assert "remote_lost" in str(house.store.task(claim.task_id)["error"]) and house.orders == 1


async def test_an_unknown_job_that_is_known_again_is_not_lost(house, claimed_task):
    claim = claimed_task()
    await house.order(claim)
    known = dict(house.fal._polls)
    house.fal._polls.clear()
    for _ in range(4):
        await house.look()
    house.fal._polls.update(known)
    await house.look()
    assert (house.status(claim), house.orders) == ("completed", 1)


@pytest.mark.parametrize("house", [True], ids=["easy"], indirect=True)
async def test_an_unknown_job_is_ordered_again_where_that_is_allowed_once_it_was_said_three_times(
    house, claimed_task
):
    claim = claimed_task()
    await house.order(claim)
    known = dict(house.fal._polls)
    house.fal._polls.clear()
    for _ in range(2):
        await house.look(after_seconds=7)
    house.fal._polls.update(known)
    house.fal.states = ["IN_PROGRESS"]
    await house.look(after_seconds=20)  # it is known after all: the count begins anew
    house.fal._polls.clear()
    for _ in range(2):
        await house.look(after_seconds=20)
        assert house.status(claim) == "ai_processing"
    await house.look(after_seconds=20)
    assert house.status(claim) == "pending"
    assert [row["state"] for row in house.store.all("SELECT state FROM remote_job")] == ["lost"]


# --- requests without an answer, or with one that leaves the outcome open ---


@pytest.mark.parametrize("refusal", [500, 502, 504, 520, 524])
async def test_an_order_that_a_service_in_trouble_may_have_taken_is_sent_once(house, claimed_task, refusal):
    claim = claimed_task()
    house.fal.refusal = refusal
    await house.order(claim)
    assert (house.status(claim), house.orders) == ("failed", 1)
    assert '"unknown_outcome"' in str(house.store.task(claim.task_id)["error"])
    assert house.store.value("SELECT state FROM remote_job") == "unknown", "it is looked up on the bill"
    assert house.store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]


@pytest.mark.parametrize("refusal", [408, 501, 505])
async def test_an_order_that_was_not_begun_is_sent_again(house, claimed_task, refusal):
    claim = claimed_task()
    house.fal.refusal = refusal
    await house.order(claim)
    assert (house.status(claim), house.orders) == ("pending", 1)
    assert house.store.value("SELECT state FROM remote_job") == "failed"


@pytest.mark.parametrize("house", [True], ids=["easy"], indirect=True)
async def test_an_order_that_may_be_billed_twice_is_sent_again_after_an_accident_of_its_service(
    house, claimed_task
):
    claim = claimed_task()
    house.fal.refusal = 500
    await house.order(claim)
    assert (house.status(claim), house.orders) == ("pending", 1)
    assert house.store.value("SELECT state FROM remote_job") == "failed", "it keeps no careful fallback away"
    verdict = after_error(
        rescue.Budget(failures=2, deaths=0, max_attempts=3), Ambiguous("500"), may_bill_twice=True, chance=0.5
    )
    assert isinstance(verdict, rescue.GiveUp) and verdict.code == "provider_error", "no word of a bill"


@pytest.mark.parametrize("easy", [False, True], ids=["careful", "easy"])
async def test_a_request_that_its_service_does_not_know_may_have_been_carried_out(
    store: Store, claimed_task: Callable[..., Claim], monkeypatch: pytest.MonkeyPatch, easy: bool
) -> None:
    """ComfyUI forgets everything when it is started anew."""

    class Forgetful:
        async def look_up(self, job: Any) -> None:
            return None

    monkeypatch.setattr("actors.attempts.reconcile.provider_of", lambda *_: Forgetful())
    monkeypatch.setattr(
        "actors.attempts.reconcile.job_of_request", lambda *_, **__: SimpleNamespace(ai_timeout_seconds=5.0)
    )
    provider = Provider(kind="http", may_bill_twice=easy)
    first = claimed_task()
    store.write(lambda tx: remote_jobs.begin(tx, first, "ai", provider, 0))
    store.write(lambda tx: claims.release(tx, first.task_id, first.lease))
    (second,) = store.dispatch()
    await look_up_unheard(worker_of(store), second)
    assert store.value("SELECT state FROM remote_job") == "unknown"
    if easy:
        store.write(lambda tx: remote_jobs.begin(tx, second, "ai", provider, 0))
    else:
        with pytest.raises(MayBeBilledAlready):
            store.write(lambda tx: remote_jobs.begin(tx, second, "ai", provider, 0))
