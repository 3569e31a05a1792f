"""A service that is away or still starting delays orders but fails none: whole attempts with real services on
loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import peewee
import pytest

from actors.attempts import attempt as attempts
from actors.attempts import run_providers
from actors.attempts.outcomes import OrderAgain, after_error, keep_away_at_most_seconds, sign_of
from actors.entry.claim_handlers import WORK
from actors.providers.base import (
    CutOff,
    Done,
    Job,
    Lost,
    NotReady,
    Progress,
    ProviderDown,
    UnknownOutcome,
    Unreachable,
)
from actors.worker.worker import Running as Attempt
from actors.worker.worker import Worker
from config.settings import Settings
from supervisor.core import rescue
from supervisor.core.claim import Claim
from supervisor.database.interface.database import Transaction
from supervisor.health.diagnosis import diagnose
from supervisor.objects.open_store import open_file_store
from supervisor.remote.breaker import MOST_AWAY_SECONDS, Sign, open_seconds
from supervisor.store.limits import providers
from supervisor.store.operators import operator_actions, task_details
from supervisor.store.operators.audit import Operator
from supervisor.store.remote import remote_jobs
from supervisor.store.tasks import claims, history
from tests.conftest import Store, claim_now
from tests.support.fakes.fake_ai_service import FakeAiService, Reply, picture_reply
from tests.support.pictures import picture
from tests.support.providers.adapters import PORTRAIT
from tests.support.providers.local_provider import LocalProvider

SPAN: Any = SimpleNamespace(trace_id="", fail=lambda *_: None, set_attributes=lambda **_: None)


@pytest.fixture
def service() -> Iterator[FakeAiService]:
    with FakeAiService(lambda asked: picture_reply(picture("red"))) as opened:
        yield opened


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which no server listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def at(url: str, **more: Any) -> dict[str, Any]:
    """A service that answers at once with its picture."""
    body = {"prompt": "${params.prompt}"}
    return {"kind": "http", "url": url, "result": ["$.image"], "submit": {"body": body}, **more}


Order = Callable[..., Any]


@pytest.fixture
def order(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """Run one attempt of a claim along a chain of providers: `await order(claim, first={…}, second={…})`."""

    async def photos(*_: Any) -> tuple[Path, ...]:
        return (PORTRAIT, PORTRAIT)

    job_of = run_providers.job_of
    monkeypatch.setattr(run_providers, "fetch_inputs", photos)

    def with_keys(*args: Any, **more: Any) -> Job:
        return dataclasses.replace(job_of(*args, **more), input_keys=(None, None))

    monkeypatch.setattr(run_providers, "job_of", with_keys)
    (tmp_path / "scratch").mkdir()

    async def run(claim: Claim, *, task: dict[str, Any] | None = None, **chain: dict[str, Any]) -> None:
        first, *others = chain
        settings = Settings(
            data_dir=store.settings.data_dir,
            database_url=store.settings.database_url,
            providers=chain,  # type: ignore[arg-type]
            tasks={"photography": {"provider": first, "fallback": others, **(task or {})}},  # type: ignore[dict-item]
        )
        worker = Worker(settings, None, store.database, open_file_store(settings), WORK)  # type: ignore[arg-type]
        worker.id, worker.scratch = "worker-1", tmp_path / "scratch"
        try:
            await attempts._run(worker, Attempt(claim.task_id, claim.lease), claim, SPAN)
        finally:
            for provider in worker.providers.values():
                await provider.close()
            await worker.images.close()

    return run


def again(store: Store, claim: Claim) -> Claim:
    """The task that was put back, claimed once more."""

    def claim_it(tx: Transaction) -> Claim:
        operator_actions.release(tx, store.settings, Operator("o-oncall", "operator"), claim.task_id)
        return claim_now(tx, claim.task_id, "worker-1")

    return store.write(claim_it)


def state(store: Store, claim: Claim) -> tuple[str, int]:
    row = store.task(claim.task_id)
    return str(row["status"]), int(row["failures"])


# --- no server is there ---


async def test_a_refused_connection_costs_no_attempt_and_opens_the_breaker_for_a_moment(
    store, order, claimed_task, nobody
):
    claim = claimed_task()
    await order(claim, ai=at(nobody))
    assert state(store, claim) == ("pending", 0)
    assert store.database.read(lambda tx: providers.breakers(tx).get()) == {"ai": "open"}
    wait = store.value("SELECT run_after FROM task_queue WHERE id = ?", claim.task_id)
    assert wait is not None and store.value("SELECT state FROM remote_job") == "failed"
    last = store.database.read(lambda tx: history.timeline(tx, claim.task_id))[-1]["error"]
    assert "can't be reached" in last["message"] and nobody not in last["message"]
    assert last["detail"] == f"No server answered at {nobody}."


async def test_the_fallback_makes_it_in_the_same_attempt(store, order, claimed_task, nobody, service):
    claim = claimed_task()
    await order(claim, ai=at(nobody), second=at(service.url))
    assert state(store, claim) == ("completed", 0)
    assert store.task(claim.task_id)["attempt"] == 1 and len(service.asked) == 1


async def test_a_server_that_is_starting_costs_no_attempt_and_the_fallback_makes_it(
    store, order, claimed_task, service
):
    with FakeAiService(lambda asked: Reply(503, {"detail": "loading the model"})) as starting:
        claim = claimed_task()
        await order(claim, ai=at(starting.url))
        assert state(store, claim) == ("pending", 0)
        other = claimed_task()
        await order(other, ai=at(starting.url), second=at(service.url))
        assert state(store, other) == ("completed", 0)
        assert store.database.read(lambda tx: providers.breakers(tx).get()) == {}, (
            "one order's 503 stops no other"
        )


async def test_a_connection_that_breaks_off_after_the_request_left_is_no_reason_to_ask_the_fallback(
    store, order, claimed_task, service
):
    with FakeAiService(lambda asked: Reply(cut="before")) as broken:
        claim = claimed_task()
        await order(claim, ai=at(broken.url, may_bill_twice=False), second=at(service.url))
        assert state(store, claim) == ("failed", 1) and service.asked == []
        assert '"unknown_outcome"' in str(store.task(claim.task_id)["error"])


async def test_a_server_of_ones_own_that_goes_away_with_an_order_gets_it_again_and_no_attempt_is_counted(
    store, order, claimed_task, service
):
    """Its tasks are killed with it each time it is started anew; one under which it keeps dying is given up."""
    claim = claimed_task()
    with FakeAiService(lambda asked: Reply(cut="before")) as dying:
        for times in range(1, 6):
            await order(claim, ai=at(dying.url))
            assert state(store, claim) == ("pending", 0), times
            told = store.task(claim.task_id)
            assert told["run_after"] is not None, "it is not sent again at once"
            claim = again(store, claim)
        other = claimed_task()
        await order(other, ai=at(dying.url))
        await order(claim, ai=at(dying.url))
        assert state(store, claim) == ("failed", 1) and len(dying.asked) == 7
    assert store.entries(claim.task_id) == [(1, "debit", -1), (1, "refund", 1)]


async def test_a_job_that_its_server_forgot_is_ordered_again_and_no_attempt_is_counted(
    store, handed_off_task, polled_task
):
    """Only its poller may put a waiting job back: the guard requires it."""
    task_id, lease = polled_task()
    store.write(
        lambda tx: claims.retry(
            tx, task_id, lease, 5.0, code="remote_lost", message="Gone.", is_counted=False
        )
    )
    assert (store.task(task_id)["status"], store.task(task_id)["failures"]) == ("pending", 0)
    waiting = handed_off_task("o-2")
    with pytest.raises(peewee.IntegrityError, match="no such step"):
        store.write(
            lambda tx: tx.execute(
                "UPDATE task_queue SET status = 'pending', progress = 0 WHERE id = ?", waiting
            )
        )


@pytest.mark.parametrize("error", [CutOff("The AI service broke off."), Lost("It is unknown.")])
def test_an_order_lost_by_a_service_that_bills_is_not_sent_again(error):
    budget = rescue.Budget(failures=0, deaths=0, max_attempts=3)
    assert isinstance(after_error(budget, error, may_bill_twice=False, chance=0.5), rescue.GiveUp)
    assert isinstance(after_error(budget, error, may_bill_twice=True, chance=0.5), OrderAgain)
    timed_out = UnknownOutcome("late", code="ai_timeout")
    assert isinstance(after_error(budget, timed_out, may_bill_twice=True, chance=0.5), rescue.RunAgain)


def test_a_service_that_is_away_is_tried_every_few_seconds_for_any_time():
    for error in (Unreachable("away"), NotReady("starting")):
        assert open_seconds(50, error.wait_seconds, keep_away_at_most_seconds(error)) == MOST_AWAY_SECONDS
    assert sign_of(Unreachable("away")) is Sign.DOWN and sign_of(NotReady("starting")) is Sign.TROUBLE
    refused = ProviderDown("the key is wrong")
    assert open_seconds(50, refused.wait_seconds, keep_away_at_most_seconds(refused)) == 600


async def test_a_task_that_waits_for_a_service_says_until_when(store, order, claimed_task, nobody):
    claim = claimed_task()
    await order(claim, ai=at(nobody))
    settings = Settings(
        data_dir=store.settings.data_dir,
        providers={"ai": at(nobody)},  # type: ignore[dict-item]
        tasks={"photography": {"provider": "ai"}},  # type: ignore[dict-item]
    )
    found = store.database.read(lambda tx: task_details.examine(tx, settings, claim.task_id))
    assert found is not None
    found["house"] |= {"is_dispatcher_fresh": True}
    told = diagnose(found)
    assert told["code"] == "pending.provider" and "(connection refused)" in told["text"]
    assert f"It waits until {store.task(claim.task_id)['expires_at']}" in told["text"]


# --- a request whose answer was lost, and its server away ---


def comfy_at(url: str, folder: Path) -> dict[str, Any]:
    workflow = folder / "workflow.json"
    workflow.write_text('{"9": {"class_type": "SaveImage", "inputs": {"seed": "${seed}"}}}')
    return {"kind": "comfyui", "url": url, "options": {"workflow": str(workflow)}}


@pytest.mark.parametrize(
    ("easy", "ends"), [(True, ("completed", 1)), (False, ("pending", 1))], ids=["easy", "careful"]
)
async def test_a_request_that_can_not_be_looked_up_since_its_server_is_away_costs_no_further_attempt(
    store, order, claimed_task, service, nobody, tmp_path, easy, ends
):
    """It goes to the fallback where it may be billed twice, and waits for an answer where it may not."""
    gone = comfy_at(nobody, tmp_path) | {"may_bill_twice": easy}
    claim = claimed_task()
    provider = Settings(providers={"ai": gone}).providers["ai"]  # type: ignore[dict-item]
    store.write(lambda tx: remote_jobs.begin(tx, claim, "ai", provider, 0))
    store.write(lambda tx: remote_jobs.mark_unknown(tx, *claim.of_step))
    store.write(lambda tx: claims.retry(tx, claim.task_id, claim.lease, 0.0))
    again = store.write(lambda tx: claim_now(tx, claim.task_id, "worker-1"))
    await order(again, ai=gone, second=at(service.url))
    assert state(store, claim) == ends


# --- the AI time-out binds a class of the user's own ---


class Sleeper(LocalProvider):
    """options.paid: whether it is."""

    may_bill_twice = False

    def __init__(self, name: str, settings: Any) -> None:
        self.paid = bool(settings.options["paid"])

    async def submit(self, job: Job, progress: Progress) -> Done:
        async def write() -> None:
            """It is here: how long its disk takes is not its service's fault."""

        await job.when_there_is_room(write)
        await asyncio.sleep(600)
        raise AssertionError


@pytest.mark.parametrize(("paid", "ends"), [(True, ("failed", 1)), (False, ("pending", 1))])
async def test_a_class_of_the_users_own_is_cut_off_at_the_ai_timeout(store, order, claimed_task, paid, ends):
    claim = claimed_task()
    own = {"kind": "python", "options": {"class": "tests.providers.test_services_away:Sleeper", "paid": paid}}
    async with asyncio.timeout(20):
        await order(claim, ai=own, task={"ai_timeout_seconds": 0.2})
    assert state(store, claim) == ends
    assert "ai_timeout" in str(store.task(claim.task_id)["error"]) or ends[0] == "pending"


def test_servers_of_ones_own_may_bill_twice_by_default():
    def of(**provider: Any) -> bool:
        return Settings(providers={"ai": provider}).providers["ai"].may_bill_twice  # type: ignore[dict-item]

    assert of(kind="replicate", options={"dialect": "cog"}) and of(kind="comfyui")
    assert not of(kind="replicate") and not of(
        kind="replicate", options={"dialect": "cog"}, may_bill_twice=False
    )
